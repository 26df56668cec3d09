// The connection to one chat room: opens it, opens it again, and says what arrives.
//
// Events: "state" (this.state changed), "message", "repeated" (a copy of one that came before), "gap",
// "problem" (detail: the frame), "settled".
// A browser cannot read the HTTP status of a refused handshake, so ?refuse=close asks for a close
// frame instead: 4000 + the status, the error code as its reason; before it comes an error frame. It
// can set no header either, so a token is offered as a subprotocol.

import { has, text } from "./texts.js";

const FIRST_WAIT = 1000; // ms, the longest one before the first try; doubles from try to try
const LONGEST_WAIT = 30_000;
const RETRY_AFTER = 5000; // what relayd says with 429 and 503, which a browser does not show
const CONNECT_LIMIT = 15_000;
const ACCEPTED_AFTER = 250; // a refusal follows the opening at once
const SETTLED_AFTER = 1000; // this long nothing: the history is through
const STABLE_AFTER = 5000; // only then the next wait is the first one again

export class Connection extends EventTarget {
  // What the page shows: name is "connecting", "connected", "lost" or "refused"; code is the error
  // code of a refusal.
  state = { name: "connecting", sentence: "", retryAt: 0, code: "" };

  #room;
  #subprotocols;
  #socket = null;
  #lastId = null;
  #tries = 0;
  #wasConnected = false;
  #timers = {};
  #early = null; // an error frame that came first: of a refusal, if the close follows

  // subprotocols() returns what each new WebSocket offers.
  constructor(room, subprotocols = () => []) {
    super();
    this.#room = room;
    this.#subprotocols = subprotocols;
  }

  // Connects now, whatever is under way.
  connect() {
    this.#leave();
    this.#become("connecting");
    const socket = new WebSocket(this.#url(), this.#subprotocols());
    this.#socket = socket;
    const current = (action) => (event) => {
      if (this.#socket === socket) action(event); // an abandoned one has nothing more to say
    };
    socket.addEventListener("open", current(() => this.#opened()));
    socket.addEventListener("message", current((event) => this.#received(event.data)));
    socket.addEventListener("close", current((event) => this.#closed(event)));
    this.#after("limit", CONNECT_LIMIT, () => this.drop());
  }

  // Gives up a connection that seems dead, without waiting for the other side to agree.
  drop() {
    this.#leave();
    this.#wait("");
  }

  // Connects now if it was going to later anyway.
  hurry() {
    if (this.state.name === "lost") this.connect();
  }

  // Sends a text with a tag. Only while connected.
  say(text, tag) {
    this.#socket.send(JSON.stringify({ message: text, tag }));
  }

  #url() {
    const url = new URL(`/ws/chat/${encodeURIComponent(this.#room)}`, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("refuse", "close");
    if (this.#lastId !== null) url.searchParams.set("since", this.#lastId);
    return url;
  }

  #opened() {
    clearTimeout(this.#timers.limit);
    this.#after("accepted", ACCEPTED_AFTER, () => this.#accepted());
  }

  #accepted() {
    if (this.state.name !== "connecting") return;
    this.#wasConnected = true;
    this.#become("connected");
    if (this.#early) this.#tell("problem", this.#early);
    this.#early = null;
    this.#after("stable", STABLE_AFTER, () => (this.#tries = 0));
    this.#unsettled();
  }

  #unsettled() {
    this.#after("settled", SETTLED_AFTER, () => {
      delete this.#timers.settled;
      this.dispatchEvent(new Event("settled"));
    });
  }

  #received(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (this.state.name === "connecting" && frame.error && !frame.gap) {
      this.#early = frame;
      return;
    }
    this.#accepted();
    if ("settled" in this.#timers) this.#unsettled();
    if (frame.gap) this.#tell("gap", frame);
    else if (frame.error) this.#tell("problem", frame);
    else if (typeof frame.message === "string") {
      const known = this.#lastId !== null && frame.id <= this.#lastId;
      if (!known && Number.isInteger(frame.id)) this.#lastId = frame.id;
      this.#tell(known ? "repeated" : "message", frame);
    }
  }

  #closed({ code, reason }) {
    const early = this.#early;
    this.#leave();
    const status = code - 4000;
    if (status >= 400 && status < 600) {
      const told = early?.message ?? text("js.refused", { reason: reason || status });
      const known = `js.refusal.${reason}`;
      const sentence = has(known) ? text(known) : told;
      if (status === 429 || status === 503) this.#wait(sentence, RETRY_AFTER);
      else if (status >= 500) this.#wait(sentence);
      else this.#become("refused", sentence, 0, reason);
    } else if (code === 1000 || code === 1002 || code === 4001) {
      this.#become("refused", text("js.ended"));
    } else {
      if (code === 1009 || code === 1007) {
        this.#tell("problem", { error: "too_large", message: text("js.too_large") });
      }
      this.#wait("");
    }
  }

  // Waits a random time before the next try: after a restart, all clients begin to wait at once.
  #wait(sentence, least = 0) {
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#tries);
    const wait = least + Math.random() * longest;
    this.#tries += 1;
    const lost = text(this.#wasConnected ? "js.lost" : "js.silent");
    this.#become("lost", sentence || lost, Date.now() + wait);
    this.#after("retry", wait, () => this.connect());
  }

  #leave() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#timers = {};
    this.#early = null;
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

  #become(name, sentence = "", retryAt = 0, code = "") {
    this.state = { name, sentence, retryAt, code };
    this.dispatchEvent(new Event("state"));
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
