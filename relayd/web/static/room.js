// The page of a chat room: shows what comes to its client (clients/relayd.js), hands over what is written.
// Everything that others wrote goes in as text nodes, never as markup.

import { Chat } from "/clients/relayd.js";
import { explain, follow, showProblem } from "./status.js";
import { text as inLanguage } from "./texts.js";
import { token } from "./token.js";

const MOST_SHOWN = 1000;
const TAGGED = 40; // bytes that a tag adds to a frame, at most
const byId = (id) => document.getElementById(id);
const { room, limit } = byId("chat").dataset;
const [messages, pending, scroll, input] = ["messages", "pending", "scroll", "text"].map(byId);
const language = document.documentElement.lang;
const clock = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const calendar = new Intl.DateTimeFormat(language, { dateStyle: "full" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

const connection = new Chat(location.origin, room, { token });

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
  const items = connection.outgoing.map(({ text }) => {
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

connection.addEventListener("message", ({ detail }) => showMessage(detail));
connection.addEventListener("outgoing", showPending);
connection.addEventListener("gap", () => {
  append(element("li", "gap", inLanguage("chat.js.gap")));
});
connection.addEventListener("settled", () => {
  scroll.ariaBusy = "false";
  byId("empty").hidden = messages.childElementCount + connection.outgoing.length > 0;
});

// Writing

// A message that the server does not take goes back into the field, to be written anew.
connection.addEventListener("problem", ({ detail }) => {
  showProblem(explain(detail));
  for (const message of connection.outgoing.filter(({ state }) => state === "failed")) {
    connection.discard(message);
    if (input.value === "") input.value = message.text;
  }
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
  connection.say(text);
});

addEventListener("beforeunload", (event) => {
  if (connection.outgoing.length > 0) event.preventDefault();
});

scroll.ariaBusy = "true";
follow(connection, byId("chat"), (asks) => {
  byId("form").hidden = asks;
  if (!asks) input.focus();
});
