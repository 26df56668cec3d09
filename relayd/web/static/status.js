// The line that says how the connection of a page is, its button to try again, and the form for a
// token: html/status.html and html/token.html. Shared by all pages with a connection.

import { has, text } from "./texts.js";
import { keep, takeFromAddress } from "./token.js";

const NEEDS_TOKEN = new Set(["unauthorized", "forbidden", "token_expired", "token_revoked"]);
const byId = (id) => document.getElementById(id);

// Shows a sentence as a problem, or none if it is empty.
export function showProblem(sentence) {
  byId("problem").textContent = sentence;
  byId("problem").hidden = !sentence;
}

// The sentence for an error: in the visitor's language, or the server's own.
export function explain(error) {
  const known = `js.refusal.${error.code}`;
  return has(known) ? text(known) : error.message;
}

// Takes a token from the address, now or when somebody follows a link within the page, or from the form
// for it; calls use() for those that come later.
export function takeTokens(use) {
  byId("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!keep(byId("token").value.trim())) {
      showProblem(text("js.bad_token"));
      return;
    }
    byId("token").value = "";
    showProblem("");
    use();
  });
  addEventListener("hashchange", () => takeFromAddress() && use());
  takeFromAddress();
}

// Follows a connection of clients/relayd.js, and connects it. `frame` is the element that gets the
// state in data-state, and says in data-tokens whether tokens are of use; asking(open) is called when
// the form for a token opens or closes.
export function follow(connection, frame, asking = () => {}) {
  let wasConnected = false;

  function sentence({ name, error }) {
    if (name === "connecting") return text("js.connecting");
    if (name === "connected") return text("js.connected");
    if (error?.code || error?.status) return explain(error);
    if (name === "refused") return text("js.ended");
    return text(wasConnected ? "js.lost" : "js.silent");
  }

  function show() {
    const { name, error, retryAt } = connection.state;
    wasConnected ||= name === "connected";
    frame.dataset.state = name;
    if (byId("status").textContent !== sentence(connection.state)) {
      byId("status").textContent = sentence(connection.state);
    }
    const tokens = frame.dataset.tokens === "yes" && NEEDS_TOKEN.has(error?.code);
    if (name !== "connecting") ask(name === "refused" && tokens);
    const waits = name === "lost" || name === "waiting";
    byId("retry").hidden = !byId("enter").hidden || !(waits || name === "refused");
    byId("retry").textContent = text(name === "refused" ? "js.again" : "js.now");
    const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    byId("countdown").textContent = waits ? text("js.countdown", { seconds }) : "";
  }

  function ask(open) {
    if (open !== byId("enter").hidden) return;
    byId("enter").hidden = !open;
    asking(open);
    if (open) byId("token").focus();
  }

  connection.addEventListener("state", show);
  setInterval(() => connection.state.retryAt && show(), 1000);
  byId("retry").addEventListener("click", () => connection.connect());
  addEventListener("online", () => connection.hurry());
  addEventListener("offline", () => connection.drop());
  document.addEventListener("visibilitychange", () => document.hidden || connection.hurry());
  // a browser may keep a page that was left, with its connection, to show it again at once
  addEventListener("pagehide", () => connection.close());
  addEventListener("pageshow", ({ persisted }) => persisted && connection.connect());
  takeTokens(() => connection.connect());
  connection.connect();
}
