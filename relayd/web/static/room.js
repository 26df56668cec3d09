// The page of a chat room: shows what `connection.js` hears and hands over what is written.
// Everything that others wrote goes in as text nodes, never as markup.

import { Connection } from "./connection.js";
import { Outgoing } from "./outgoing.js";
import { text as inLanguage } from "./texts.js";
import { keep, subprotocols, takeFromAddress } from "./token.js";

const MOST_SHOWN = 1000;
const TAGGED = 40; // bytes that a tag adds to a frame, at most
const byId = (id) => document.getElementById(id);
const { room, limit, tokens } = byId("chat").dataset;
const [messages, pending, scroll, input] = ["messages", "pending", "scroll", "text"].map(byId);
const language = document.documentElement.lang;
const clock = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const calendar = new Intl.DateTimeFormat(language, { dateStyle: "full" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

const connection = new Connection(room, subprotocols);
const outgoing = new Outgoing(connection, showPending);

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

// Messages

let lastDay = "";

function showMessage({ message, user, time }) {
  const item = element("li", "message", "");
  const date = new Date(time);
  if (!Number.isNaN(date.getTime())) {
    const day = calendar.format(date);
    if (day !== lastDay) append(element("li", "day", day));
    lastDay = day;
    const stamp = element("time", "", clock.format(date));
    stamp.dateTime = time;
    stamp.title = exact.format(date);
    item.append(stamp);
  }
  if (user) item.append(element("b", "user", user), " ");
  const text = element("span", "text", message);
  text.dir = "auto";
  item.append(text);
  append(item);
}

let following = true; // the end is in view, and is to stay there
let end = 0; // scrollTop when it was last in view

const endInView = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;

function append(item) {
  notice();
  byId("empty").hidden = true;
  messages.append(item);
  while (messages.childElementCount > MOST_SHOWN) messages.firstElementChild.remove();
  if (following) toEnd();
  else byId("newer").hidden = false;
}

// Somebody may have moved away without the event of it having come.
function notice() {
  if (scroll.scrollTop < end && !endInView()) following = false;
}

function showPending() {
  notice();
  const items = outgoing.texts.map((text) => {
    const item = element("li", "message", "");
    const body = element("span", "text", text);
    body.dir = "auto";
    item.append(element("span", "note", inLanguage("chat.js.sending")), body);
    return item;
  });
  pending.replaceChildren(...items);
  if (items.length > 0) byId("empty").hidden = true;
  if (following) toEnd();
}

function toEnd() {
  following = true;
  scroll.scrollTop = scroll.scrollHeight;
  end = scroll.scrollTop;
  byId("newer").hidden = true;
}

scroll.addEventListener("scroll", () => {
  following = endInView();
  if (!following) return;
  end = scroll.scrollTop;
  byId("newer").hidden = true;
});
byId("newer").addEventListener("click", toEnd);
new ResizeObserver(() => following && toEnd()).observe(scroll); // a phone's keyboard came up

connection.addEventListener("message", ({ detail }) => {
  showMessage(detail);
  outgoing.seen(detail.tag);
});
connection.addEventListener("repeated", ({ detail }) => outgoing.seen(detail.tag));
connection.addEventListener("gap", () => {
  append(element("li", "gap", inLanguage("chat.js.gap")));
});
connection.addEventListener("settled", () => {
  scroll.ariaBusy = "false";
  byId("empty").hidden = messages.childElementCount + outgoing.texts.length > 0;
});

// The status line

const TITLES = { connecting: inLanguage("js.connecting"), connected: inLanguage("js.connected") };

function showState() {
  const { name, sentence, retryAt, code } = connection.state;
  byId("chat").dataset.state = name;
  byId("status").textContent = sentence || TITLES[name];
  if (name !== "connecting") askForToken(NEEDS_TOKEN.has(code) && tokens === "yes");
  byId("retry").hidden = !byId("enter").hidden || (name !== "lost" && name !== "refused");
  byId("retry").textContent = inLanguage(name === "refused" ? "js.again" : "js.now");
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  byId("countdown").textContent = name === "lost" ? inLanguage("js.countdown", { seconds }) : "";
}

connection.addEventListener("state", showState);
setInterval(() => connection.state.name === "lost" && showState(), 1000);
byId("retry").addEventListener("click", () => connection.connect());
addEventListener("online", () => connection.hurry());
addEventListener("offline", () => connection.drop());
document.addEventListener("visibilitychange", () => document.hidden || connection.hurry());

// A token

const NEEDS_TOKEN = new Set(["unauthorized", "forbidden"]);

function askForToken(asks) {
  if (asks === !byId("enter").hidden) return;
  byId("enter").hidden = !asks;
  byId("form").hidden = asks;
  (asks ? byId("token") : input).focus();
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!keep(byId("token").value.trim())) {
    showProblem(inLanguage("chat.js.bad_token"));
    return;
  }
  byId("token").value = "";
  showProblem("");
  connection.connect();
});
// somebody has followed a link within this page
addEventListener("hashchange", () => takeFromAddress() && connection.connect());

// Writing

function showProblem(sentence) {
  byId("problem").textContent = sentence;
  byId("problem").hidden = !sentence;
}

connection.addEventListener("problem", ({ detail }) => {
  showProblem(detail.message);
  const text = outgoing.refused(detail.error);
  if (text !== null && input.value === "") input.value = text;
});

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value;
  if (text.trim() === "") return;
  const size = new TextEncoder().encode(JSON.stringify({ message: text })).length + TAGGED;
  if (size > Number(limit)) {
    showProblem(inLanguage("chat.js.too_long", { size, limit }));
    return;
  }
  showProblem("");
  input.value = "";
  toEnd();
  outgoing.add(text);
});

addEventListener("beforeunload", (event) => {
  if (outgoing.texts.length > 0) event.preventDefault();
});

scroll.ariaBusy = "true";
takeFromAddress();
connection.connect();
