// Types of relayd.js.

export type StateName = "idle" | "connecting" | "connected" | "lost" | "waiting" | "refused" | "closed";

export interface State {
  name: StateName;
  error: RelaydError | null;
  /** When it tries again, in milliseconds since 1970; 0 if it does not. */
  retryAt: number;
}

export interface Options {
  /** Further parameters of the path. */
  query?: Record<string, string | number>;
  /** A JWT, or a function that returns one; its argument says that the last one has expired. */
  token?: string | null | ((renew: boolean) => string | null | Promise<string | null>);
  /** For tests: below 1, every wait is shorter by it. */
  pace?: number;
}

export interface PairOptions extends Options {
  /** 16 to 256 characters, the same on both sides. */
  secret?: string | null;
}

export interface Pose {
  x: number | null;
  y: number | null;
  z: number | null;
  /** An id of the sending connection, with the query `senders: 1`. */
  sender?: string;
}

export interface Assignment {
  quiz_id: number[];
  action_id: number;
}

export interface ChatMessage {
  message: string;
  id: number;
  /** RFC 3339, UTC. */
  time: string;
  user?: string;
  tag?: string;
}

export interface Outgoing {
  text: string;
  tag: string;
  state: "waiting" | "sent" | "failed";
  error: RelaydError | null;
}

export class RelaydError extends Error {
  code: string;
  status: number;
  closeCode: number;
  retryAfter: number;
  tag: string;
}

interface Events {
  state: Event;
  frame: CustomEvent<Record<string, unknown>>;
  problem: CustomEvent<RelaydError>;
}

declare class Typed<E> extends EventTarget {
  addEventListener<K extends keyof E & string>(
    type: K,
    listener: (event: E[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

export class Connection<E extends Events = Events> extends Typed<E> {
  readonly state: State;
  readonly buffered: number;
  constructor(base: string | URL, path: string, options?: Options);
  connect(): Promise<void>;
  close(): void;
  drop(): void;
  hurry(): void;
  send(object: unknown): boolean;
}

export class Camera extends Connection<Events & { pose: CustomEvent<Pose> }> {
  constructor(base: string | URL, group?: string, options?: Options);
  move(x: number | null, y: number | null, z: number | null): boolean;
}

export class Push extends Connection {
  constructor(base: string | URL, topic: string, options?: Options);
}

export class Headset extends Connection<Events & { assignment: CustomEvent<Assignment> }> {
  constructor(base: string | URL, uuid: string, options?: PairOptions);
}

export class Phone extends Connection<Events & { headset: CustomEvent<boolean> }> {
  constructor(base: string | URL, uuid: string, options?: PairOptions);
  ask(difficulty: number): Promise<void>;
}

export interface ChatEvents extends Events {
  message: CustomEvent<ChatMessage>;
  repeated: CustomEvent<ChatMessage>;
  gap: CustomEvent<{ gap: true; error: "gap"; message: string }>;
  settled: Event;
  outgoing: Event;
}

export class Chat extends Connection<ChatEvents> {
  readonly outgoing: Outgoing[];
  constructor(base: string | URL, room?: string, options?: Options);
  say(text: string): Outgoing;
  retry(message: Outgoing): void;
  discard(message: Outgoing): void;
}
