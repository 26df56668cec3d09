// relayd from a browser or Node: one ES module without dependencies. The pages of relayd use it.
//
//   import { Camera, Chat, Phone, Headset, Push } from "https://relay.example/clients/relayd.js";
//   const camera = new Camera("https://relay.example", "demo");
//   camera.addEventListener("pose", ({ detail }) => draw(detail.x, detail.z));
//   camera.connect();
//
// Every client connects again by itself, after a random wait that doubles from try to try ("full
// jitter"), as docs/protocol.md asks for under Reconnecting. A browser cannot read the HTTP status of
// a refused handshake, so `?refuse=close` asks for an error frame and a close frame instead: 4000 +
// the status. It can set no header either, so a token is offered as a subprotocol; and it sees no
// pings, so `?heartbeat=1` asks for frames that show that the network lives.

const FIRST_WAIT = 1000; // ms, the longest one before the first try; doubles from try to try
const LONGEST_WAIT = 30_000;
const RETRY_AFTER = 5000; // where a refusal of 429 or 503 does not say how long
const SLOWER = 3; // after 4003 and 4004, the wait is that of so many tries later
const HEADSET_WAIT = 2000; // between two looks for the headset
const CONNECT_LIMIT = 15_000;
const ACCEPTED_AFTER = 250; // a refusal follows the opening at once
const LATE = 15_000; // a heartbeat may be so late before the connection counts as dead
const SILENT = 45_000; // and so late the first one, which says when the next ones come
const SETTLED_AFTER = 1000; // this long nothing: the history is through
const STABLE_AFTER = 5000; // only then the next wait is the first one again
const COPY_WITHIN = 10_000; // without its copy by then, a message's connection counts as dead
const TRY_AGAIN_AFTER = 3000; // after an error that passes

const FINAL = new Set([1000, 1002, 1007, 1009, 4001]);
const PASSING = new Set([
  ...["outcome_unknown", "store_unavailable", "database_unavailable", "internal_error"],
]);
// These are about the connection, most of them before its end, and not about a message.
const OF_CONNECTION = new Set([
  ...["rate_limited", "too_slow", "no_pong", "kicked", "banned", "token_expired", "token_revoked"],
  ...["replaced"],
]);

// A refusal, a close or an error frame. `code` is the stable code of docs/protocol.md ("forbidden",
// "replaced", …; empty for a close without one), `status` the HTTP status of a refusal or 0,
// `closeCode` that of the close frame or 0, `retryAfter` seconds or 0, `tag` that of the request.
export class RelaydError extends Error {
  constructor(message, { code = "", status = 0, closeCode = 0, retryAfter = 0, tag = "" } = {}) {
    super(message || code || `closed with ${closeCode}`);
    this.name = "RelaydError";
    Object.assign(this, { code, status, closeCode, retryAfter, tag });
  }

  // The error for an error frame.
  static of(frame, more = {}) {
    const { error: code, message, retry_after: retryAfter, tag } = frame;
    return new RelaydError(message, { code, retryAfter, tag, ...more });
  }
}

// crypto.randomUUID is there on pages over https only.
const randomTag = () =>
  Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");

// One path of relayd. Events:
//
//   "state"    this.state has changed
//   "frame"    detail: a JSON object that came
//   "problem"  detail: a RelaydError about what this client sent, or about its connection
//
// `state.name` is "idle", "connecting", "connected", "lost" (tries again at `retryAt`, ms since 1970),
// "waiting" (as lost, since the other side is not there yet), "refused" (needs a change, or a person
// who calls connect()) or "closed" (by close()); `state.error` is the RelaydError, or null.
export class Connection extends EventTarget {
  state = { name: "idle", error: null, retryAt: 0 };

  #base;
  #path;
  #query;
  #token;
  #pace;
  #offered = null; // the token of the last try
  #fresh = null; // a new one for the next try
  #socket = null;
  #attempt = 0;
  #tries = 0;
  #timers = {};
  #early = null; // an error frame that came first: of a refusal, if the close follows
  #last = null; // the last frame: the error, before a close with 4000 or more
  #heartbeat = 0; // ms within which the next frame comes; 0 if the server has not said so

  // base: the address of relayd, http: or ws:, with the folder if a proxy has it in one; path:
  // "/ws/camera/demo"; options: `query`, parameters of the path; `token`, a JWT, or a function that
  // returns one or a promise of one: it is called with true when the last one has expired. A function
  // may return null. `pace`: tests set it below 1, and every wait is shorter by it.
  constructor(base, path, { query = {}, token = null, pace = 1 } = {}) {
    super();
    this.#base = base;
    this.#path = path;
    this.#query = query;
    this.#token = token;
    this.#pace = pace;
  }

  // Connects now, whatever is under way.
  async connect() {
    this.#leave();
    const attempt = ++this.#attempt;
    this.#become("connecting");
    let token = this.#fresh ?? this.#token;
    this.#fresh = null;
    if (typeof token === "function") {
      try {
        token = await token(false);
      } catch (error) {
        if (attempt === this.#attempt) this.#wait(new RelaydError(String(error), { code: "no_token" }));
        return;
      }
    }
    if (attempt !== this.#attempt) return; // somebody was quicker
    this.#offered = token;
    const socket = new WebSocket(this.#url(), token ? ["relayd", token] : []);
    this.#socket = socket;
    const current = (action) => (event) => {
      if (this.#socket === socket) action(event); // an abandoned one has nothing more to say
    };
    socket.addEventListener("open", current(() => this.#opened()));
    socket.addEventListener("message", current((event) => this.#received(event.data)));
    socket.addEventListener("close", current((event) => this.#closed(event)));
    socket.addEventListener("error", () => {}); // a close follows; without a listener Node ends
    this.#after("limit", this.paced(CONNECT_LIMIT), () => this.drop());
  }

  // Ends the connection for good, or until connect().
  close() {
    this.#leave();
    this.#become("closed");
  }

  // Gives up a connection that seems dead, without waiting for the other side to agree. One that has
  // ended for good stays so.
  drop() {
    if (this.state.name === "refused" || this.state.name === "closed") return;
    this.#leave();
    this.#wait(null);
  }

  // Connects now if it was going to later anyway: the network is back, or somebody looks.
  hurry() {
    if (this.state.name === "lost" || this.state.name === "waiting") this.connect();
  }

  // Sends an object. Returns whether there was a connection for it.
  send(object) {
    if (this.state.name !== "connected") return false;
    this.#socket.send(JSON.stringify(object));
    return true;
  }

  // Bytes that were sent and have not left this machine.
  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  // Below: for the classes of the kinds of paths.

  query() {
    return {};
  }

  // A frame that came on an accepted connection, errors too.
  received(frame) {
    if (frame.error) this.tell("problem", RelaydError.of(frame));
    else this.tell("frame", frame);
  }

  // How long to wait after a refusal that is not final for this kind, in ms; null for any other.
  patience(_error) {
    return null;
  }

  // Whether an error frame that comes first may be that of a refusal.
  mayRefuse(frame) {
    return Boolean(frame.error) && !frame.gap;
  }

  // A wait in ms, at the pace of this client.
  paced(wait) {
    return wait * this.#pace;
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #url() {
    const url = new URL(this.#base);
    url.pathname = url.pathname.replace(/\/$/, "") + this.#path;
    url.protocol = url.protocol.replace(/^http/, "ws");
    const query = { ...this.#query, ...this.query(), refuse: "close", heartbeat: 1 };
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return url;
  }

  #opened() {
    clearTimeout(this.#timers.limit);
    this.#after("accepted", ACCEPTED_AFTER, () => this.#accepted());
    this.#after("silence", this.paced(SILENT), () => this.drop());
  }

  #accepted() {
    if (this.state.name !== "connecting") return;
    this.#after("stable", this.paced(STABLE_AFTER), () => (this.#tries = 0));
    const early = this.#early;
    this.#early = null;
    this.#become("connected");
    if (early && this.state.name === "connected") this.received(early);
  }

  #received(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    const beats = frame.status === "heartbeat" && typeof frame.seconds === "number";
    if (beats) this.#heartbeat = frame.seconds * 1000;
    if (this.#heartbeat) {
      this.#after("silence", this.#heartbeat + this.paced(LATE), () => this.drop());
    } else {
      clearTimeout(this.#timers.silence); // it would have come first: this server has none
    }
    if (beats) return this.#accepted();
    this.#last = frame;
    if (this.state.name === "connecting" && this.mayRefuse(frame)) {
      this.#early = frame;
      return;
    }
    this.#accepted();
    this.received(frame);
  }

  #closed({ code, reason }) {
    const last = (code >= 4000 && this.#last) || {};
    const status = code >= 4400 && code < 4600 ? code - 4000 : 0;
    const error = new RelaydError(last.message ?? "", {
      code: last.error ?? (status ? reason : ""),
      retryAfter: last.retry_after ?? 0,
      closeCode: code,
      status,
    });
    this.#leave();
    const patience = this.patience(error);
    if (patience !== null) {
      this.#later("waiting", error, this.paced(patience / 2 + (Math.random() * patience) / 2));
    } else if (status === 429 || status === 503) {
      this.#wait(error, error.retryAfter * 1000 || RETRY_AFTER);
    } else if (code === 4005 || status === 401) {
      this.#renew(error);
    } else if (status >= 500 || status === 408) {
      this.#wait(error);
    } else if (status || FINAL.has(code)) {
      this.#become("refused", error);
    } else {
      if (code === 4003 || code === 4004) this.#tries = Math.max(this.#tries, SLOWER);
      this.#wait(error);
    }
  }

  // Asks for a new token; without one, a new try would end in the same way.
  async #renew(error) {
    const attempt = this.#attempt;
    let token = null;
    if (typeof this.#token === "function") {
      this.#become("lost", error);
      token = await Promise.resolve(this.#token(true)).catch(() => null);
    }
    if (attempt !== this.#attempt) return;
    if (!token || token === this.#offered) return this.#become("refused", error);
    this.#fresh = token;
    this.#wait(error);
  }

  // Waits a random time before the next try: after a restart, all clients begin to wait at once.
  #wait(error, least = 0) {
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#tries);
    this.#tries += 1;
    this.#later("lost", error, this.paced(least + Math.random() * longest));
  }

  #later(name, error, wait) {
    // first, since whoever gets the state may close the client
    this.#after("retry", wait, () => this.connect());
    this.#become(name, error, Date.now() + wait);
  }

  #leave() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#timers = {};
    this.#early = this.#last = null;
    this.#heartbeat = 0;
    this.#attempt += 1;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #after(name, wait, action) {
    clearTimeout(this.#timers[name]);
    const socket = this.#socket;
    this.#timers[name] = setTimeout(() => {
      if (this.#socket === socket) action();
    }, wait);
  }

  #become(name, error = null, retryAt = 0) {
    this.state = { name, error, retryAt };
    this.dispatchEvent(new Event("state"));
  }
}

const segment = (kind, name) => (name ? `/ws/${kind}/${encodeURIComponent(name)}` : `/ws/${kind}`);

// A camera group: "pose" has each pose of the group, this client's own too.
// `new Camera(base, group, { query: { senders: 1 } })` asks for the member `sender` in each.
export class Camera extends Connection {
  constructor(base, group = "", options = {}) {
    super(base, segment("camera", group), options);
  }

  // Sends a pose, unless older ones still wait here: a pose is out of date soon.
  move(x, y, z) {
    return this.buffered < 4096 && this.send({ x, y, z });
  }

  received(frame) {
    if (frame.error) super.received(frame);
    else this.tell("pose", frame);
  }
}

// A topic of server push: "frame" has each object that is published.
export class Push extends Connection {
  constructor(base, topic, options = {}) {
    super(base, segment("push", topic), options);
  }

  mayRefuse(frame) {
    return super.mayRefuse(frame) && typeof frame.message === "string";
  }

  received(frame) {
    this.tell("frame", frame); // whatever members it has: a program published it
  }
}

// The headset's side of a pair. "assignment" has `{quiz_id: [...], action_id}`.
// `secret`, 16 to 256 characters, binds the pair (docs/protocol.md, "A secret").
export class Headset extends Connection {
  constructor(base, uuid, { secret = null, ...options } = {}) {
    const query = secret === null ? options.query : { ...options.query, secret };
    super(base, segment("difficulty/unity", uuid), { ...options, query });
  }

  received(frame) {
    if (frame.error) super.received(frame);
    else this.tell("assignment", frame);
  }
}

// The phone's side of a pair. While no headset is connected, the state is "waiting", and it looks
// again every two seconds. "headset" has whether the headset is there; ask() sends a difficulty.
export class Phone extends Connection {
  #requests = new Map(); // tag -> request, in the order in which they were made

  constructor(base, uuid, { secret = null, ...options } = {}) {
    const query = secret === null ? options.query : { ...options.query, secret };
    super(base, segment("difficulty/android", uuid), { ...options, query });
    this.addEventListener("state", () => this.#resend());
  }

  // Asks for quizzes of a difficulty. Resolves when the headset has them; rejects with a RelaydError.
  // It is asked again, with the same tag, after a lost connection: the headset gets it once.
  ask(difficulty) {
    return new Promise((resolve, reject) => {
      const tag = randomTag();
      this.#requests.set(tag, { frame: { difficulty, tag }, resolve, reject });
      this.send({ difficulty, tag });
    });
  }

  mayRefuse(frame) {
    return Boolean(frame.error) && (!frame.status || frame.status === "notice");
  }

  patience(error) {
    return error.code === "no_unity" ? HEADSET_WAIT : null;
  }

  received(frame) {
    if (frame.status === "unity_connected") this.tell("headset", true);
    else if (frame.status === "unity_disconnected") this.tell("headset", false);
    else if (frame.status === "received" || frame.status === "error") this.#answered(frame);
    else super.received(frame);
  }

  #answered(frame) {
    const request = this.#requests.get(frame.tag);
    if (!request) return;
    if (frame.error === "outcome_unknown") {
      const again = () => this.#requests.has(frame.tag) && this.send(request.frame);
      setTimeout(again, this.paced(TRY_AGAIN_AFTER));
      return;
    }
    this.#requests.delete(frame.tag);
    if (frame.status === "received") request.resolve();
    else request.reject(RelaydError.of(frame));
  }

  #resend() {
    if (this.state.name === "connected") {
      this.tell("headset", true);
      for (const { frame } of this.#requests.values()) this.send(frame);
    } else if (this.state.name === "refused") {
      for (const { reject } of this.#requests.values()) reject(this.state.error);
      this.#requests.clear();
    }
  }
}

// A chat room. "message" has each message once, in order, over reconnects too; "repeated" a copy of one
// that came before; "gap" says that older messages are missing; "settled" that the history is through;
// "outgoing" that this.outgoing has changed. `new Chat(base, room, { query: { presence: 1 } })` asks for
// the members of the room: "presence" has each frame about them, and `members` what follows from all:
// `{count, anonymous, users}`, with the names as a sorted array, or null while they are not listed.
//
// What is said stays in `outgoing` until its own copy acknowledges it: `{text, tag, state, error}`, the
// state "waiting" (not sent yet), "sent" or "failed". Only one is on its way at a time, so that an
// error frame is about that one. It is sent again after a lost connection, with the same tag: the
// server keeps no message twice that has the same tag.
export class Chat extends Connection {
  outgoing = [];
  members = null;

  #lastId = null;
  #settling = null;
  #deadline = null;

  constructor(base, room = "", options = {}) {
    super(base, segment("chat", room), options);
    this.addEventListener("state", () => this.#changedState());
  }

  // Says a text. Returns its entry in `outgoing`.
  say(text) {
    const message = { text, tag: randomTag(), state: "waiting", error: null };
    this.outgoing.push(message);
    this.#changed();
    this.#next();
    return message;
  }

  // Sends a failed message again.
  retry(message) {
    Object.assign(message, { state: "waiting", error: null, tag: randomTag() });
    this.#changed();
    this.#next();
  }

  // Takes a message out of `outgoing`, wherever it is.
  discard(message) {
    this.outgoing = this.outgoing.filter((each) => each !== message);
    this.#changed();
    this.#next();
  }

  // The message on its way was against the protocol, or too big: it fails, the chat goes on.
  patience({ closeCode }) {
    const message = this.#current;
    if ((closeCode !== 1007 && closeCode !== 1009) || !message) return null;
    this.#refused(new RelaydError("The server did not take this.", { code: "too_large" }));
    return FIRST_WAIT;
  }

  query() {
    return this.#lastId === null ? {} : { since: this.#lastId };
  }

  received(frame) {
    if (frame.presence) return this.#present(frame); // comes at any time, also within the history
    if (this.#settling !== null) this.#unsettled();
    if (frame.gap) this.tell("gap", frame);
    else if (frame.error) this.#refused(RelaydError.of(frame));
    else if (typeof frame.message !== "string" || !Number.isInteger(frame.id)) super.received(frame);
    else {
      const known = this.#lastId !== null && frame.id <= this.#lastId;
      if (!known) this.#lastId = frame.id;
      this.tell(known ? "repeated" : "message", frame);
      this.#acknowledged(frame.tag);
    }
  }

  #present(frame) {
    const { count, anonymous, users = null, joined, left } = frame;
    const names = new Set(users ?? this.members?.users ?? []);
    for (const name of left ?? []) names.delete(name);
    for (const name of joined ?? []) names.add(name);
    const listed = frame.presence === "here" ? users !== null : joined && this.members?.users;
    this.members = { count, anonymous, users: listed ? [...names].sort() : null };
    this.tell("presence", frame);
  }

  get #current() {
    return this.outgoing.find((each) => each.state === "sent");
  }

  #acknowledged(tag) {
    const message = tag && this.outgoing.find((each) => each.tag === tag);
    if (!message) return;
    if (message.state === "sent") clearTimeout(this.#deadline);
    this.discard(message);
  }

  #refused(error) {
    const message = this.#current;
    if (message && !OF_CONNECTION.has(error.code)) {
      clearTimeout(this.#deadline);
      if (PASSING.has(error.code)) {
        this.#deadline = setTimeout(() => this.#transmit(message), this.paced(TRY_AGAIN_AFTER));
      } else {
        Object.assign(message, { state: "failed", error });
        this.#changed();
      }
    }
    this.tell("problem", error);
    this.#next();
  }

  #changedState() {
    clearTimeout(this.#settling);
    clearTimeout(this.#deadline);
    this.#settling = null;
    if (this.state.name === "connected") this.#unsettled();
    else if (this.#current) this.#current.state = "waiting";
    this.#next();
  }

  #unsettled() {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      this.#settling = null;
      this.dispatchEvent(new Event("settled"));
    }, this.paced(SETTLED_AFTER));
  }

  #next() {
    const message = this.outgoing.find((each) => each.state === "waiting");
    if (!message || this.#current || this.state.name !== "connected") return;
    message.state = "sent";
    this.#transmit(message);
    this.#changed();
  }

  #transmit(message) {
    if (!this.send({ message: message.text, tag: message.tag })) return;
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.drop(), this.paced(COPY_WITHIN));
  }

  #changed() {
    this.dispatchEvent(new Event("outgoing"));
  }
}
