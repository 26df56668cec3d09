// What was written and has not come back yet. A message is acknowledged by its own copy, so it
// stays here until then; only one is on its way at a time, so that an error frame is about that one.
//
// After a lost connection, or an answer of the server that it does not know the outcome, nobody knows
// whether the first message arrived. So it has a tag, and is sent again: the server keeps no message
// twice that has the same tag.

const COPY_WITHIN = 10_000; // ms; then the connection counts as dead
const RETRY_AFTER = 3000;
const PASSING = new Set([
  ...["outcome_unknown", "store_unavailable", "database_unavailable", "internal_error"],
]);
// These are about the connection, most of them before its end, and not about a message.
const OF_CONNECTION = new Set([
  ...["rate_limited", "too_slow", "no_pong", "kicked", "banned", "token_expired", "token_revoked"],
]);

// crypto.randomUUID is there on pages over https only.
function randomTag() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
}

export class Outgoing {
  #texts = [];
  #tag = ""; // of the first text
  #connection;
  #changed;
  #sent = false; // the first text has been sent, on this connection or an earlier one
  #waiting = false; // ... on this one
  #timer = null;

  // changed() is called when `texts` did.
  constructor(connection, changed) {
    this.#connection = connection;
    this.#changed = changed;
    connection.addEventListener("state", () => this.#reconnected());
    connection.addEventListener("settled", () => this.#settled());
  }

  get texts() {
    return this.#texts;
  }

  add(text) {
    this.#texts.push(text);
    this.#changed();
    this.#send();
  }

  // A message came in: if it is the copy of ours, the next one may go.
  seen(tag) {
    if (this.#tag !== "" && tag === this.#tag) {
      this.#next();
      this.#send();
    }
  }

  // The server refused the one on its way. Returns its text if there is no use in trying again.
  refused(code) {
    if (!this.#sent || OF_CONNECTION.has(code)) return null;
    clearTimeout(this.#timer);
    this.#waiting = false;
    if (PASSING.has(code)) {
      this.#timer = setTimeout(() => this.#settled(), RETRY_AFTER);
      return null;
    }
    const text = this.#texts[0];
    this.#next();
    this.#send();
    return text;
  }

  #next() {
    clearTimeout(this.#timer);
    this.#sent = this.#waiting = false;
    this.#tag = "";
    this.#texts.shift();
    this.#changed();
  }

  #reconnected() {
    clearTimeout(this.#timer);
    this.#waiting = false;
    this.#send();
  }

  #settled() {
    if (this.#waiting) return;
    this.#sent = false;
    this.#send();
  }

  #send() {
    const free = this.#texts.length > 0 && !this.#sent;
    if (!free || this.#connection.state.name !== "connected") return;
    this.#sent = this.#waiting = true;
    this.#timer = setTimeout(() => this.#connection.drop(), COPY_WITHIN);
    this.#tag ||= randomTag();
    this.#connection.say(this.#texts[0], this.#tag);
  }
}
