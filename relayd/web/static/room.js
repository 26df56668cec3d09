// The page of a chat room: fills `room_log.js`, shows who is here and what is on its way, and reads
// older messages when somebody scrolls up to them.

import { Chat } from "/clients/relayd.js";
import { read, write } from "./fragment.js";
import { element, Log, written } from "./room_log.js";
import { explain, follow, showProblem } from "./status.js";
import { text as inLanguage } from "./texts.js";
import { token, userOfToken } from "./token.js";

const PAGE = 100; // older messages that are read at a time
const MOST = 1000; // messages of a history that the server sends at most
const TAGGED = 40; // bytes that a tag adds to a frame, at most
const CALM = 1000; // ms for which the members stay as they are before they are shown
const NAMED = 3; // names in a line about people who come or leave
const byId = (id) => document.getElementById(id);
const { room, limit, history } = byId("chat").dataset;
const [pending, scroll, input] = ["pending", "scroll", "text"].map(byId);
const language = document.documentElement.lang;
const names = new Intl.ListFormat(language);

const chat = new Chat(location.origin, room, { token, query: { presence: 1 } });

// Whose a message is. Without a token, the tags of this tab's own messages say it, also after a reload.

const OWN = `relayd own ${room}`;
const ownTags = new Set(JSON.parse(read(OWN) ?? "[]"));

function rememberOwn() {
  const before = ownTags.size;
  for (const { tag } of chat.outgoing) ownTags.add(tag);
  if (ownTags.size > before) write(OWN, JSON.stringify([...ownTags].slice(-500)));
}

const isOwn = ({ user, tag }) => ownTags.has(tag) || (user !== undefined && user === userOfToken());
const log = new Log(isOwn);

// Messages

function append(message) {
  byId("empty").hidden = true;
  log.append(message);
}

chat.addEventListener("message", ({ detail }) => append(detail));
chat.addEventListener("gap", () => {
  byId("empty").hidden = true;
  log.note("gap", inLanguage("chat.js.gap"));
});

let hasSettled = false;

chat.addEventListener("settled", () => {
  scroll.ariaBusy = "false";
  byId("empty").hidden = log.count + chat.outgoing.length > 0;
  if (!hasSettled) showOlder(log.count >= Number(history));
  hasSettled = true;
  log.settled();
});

// Older messages, over a connection of their own, which ends where the known ones begin

let isReading = false;

function showOlder(there) {
  byId("older").hidden = !there;
  byId("beginning").hidden = there || log.count === 0;
}

function readBefore(first) {
  const count = Math.min(MOST, log.count + PAGE);
  const reader = new Chat(location.origin, room, { token, query: { history: count } });
  return new Promise((resolve) => {
    const found = [];
    const end = (messages) => {
      reader.close();
      resolve(messages);
    };
    reader.addEventListener("message", ({ detail }) => {
      if (detail.id < first) found.push(detail);
      else end(found);
    });
    reader.addEventListener("settled", () => end(found));
    reader.addEventListener("state", () => {
      if (["lost", "refused"].includes(reader.state.name)) end(null);
    });
    reader.connect();
  });
}

async function readOlder() {
  if (isReading || byId("older").hidden || chat.state.name !== "connected") return;
  isReading = true;
  byId("older").textContent = inLanguage("chat.js.reading");
  const first = log.firstId;
  const before = log.count;
  const capped = before + PAGE > MOST;
  const found = first === null ? [] : await readBefore(first);
  const meanwhile = log.count - before;
  if (found?.length) log.prepend(found);
  byId("older").textContent = inLanguage("chat.js.older");
  if (found !== null) {
    showOlder(found.length + meanwhile >= PAGE && !capped);
    if (capped) byId("beginning").textContent = inLanguage("chat.js.capped");
  }
  isReading = false;
}

byId("older").addEventListener("click", readOlder);
scroll.addEventListener("scroll", () => scroll.scrollTop < 80 && hasSettled && readOlder());

// Who is here

let calm = null;

function showMembers() {
  const { count, anonymous, users } = chat.members;
  byId("here").hidden = false;
  byId("here-count").textContent = inLanguage("chat.js.here", { n: count });
  const lines = (users ?? []).map((user) => {
    const line = element("li", "", user);
    line.dir = "auto";
    if (user === userOfToken()) line.append(` (${inLanguage("chat.js.you")})`);
    return line;
  });
  if (users === null) lines.push(element("li", "hint", inLanguage("chat.js.many")));
  else if (anonymous) lines.push(element("li", "hint", inLanguage("chat.js.unnamed", { n: anonymous })));
  byId("here-names").replaceChildren(...lines);
}

function noteMembers(key, users) {
  if (users === undefined || users.length === 0) return;
  const shown = users.slice(0, NAMED);
  if (users.length > NAMED) shown.push(inLanguage("chat.js.more", { n: users.length - NAMED }));
  log.note("event", inLanguage(key, { names: names.format(shown) }));
}

chat.addEventListener("presence", ({ detail: { joined, left } }) => {
  noteMembers("chat.js.joined", joined);
  noteMembers("chat.js.left", left);
  clearTimeout(calm); // a page that reads older messages, or is loaded anew, comes and goes
  if (byId("here").hidden) showMembers();
  else calm = setTimeout(showMembers, CALM);
});
chat.addEventListener("state", () => {
  if (chat.state.name === "connected") return;
  clearTimeout(calm);
  byId("here").hidden = true;
});

// What is on its way: each message keeps its element, and with it the focus on its buttons

const items = new Map(); // message -> {item, note, buttons}

function pendingItem(message) {
  const item = element("li", "message own");
  const note = element("span", "note");
  const buttons = element("span", "");
  for (const [key, action] of [["chat.js.retry", "retry"], ["chat.js.discard", "discard"]]) {
    const button = element("button", "quiet", inLanguage(key));
    button.type = "button";
    button.addEventListener("click", () => {
      chat[action](message);
      input.focus();
    });
    buttons.append(button);
  }
  item.append(written(message.text), note, buttons);
  return { item, note, buttons };
}

function stateOf({ state, error }) {
  if (state === "failed") return inLanguage("chat.js.failed", { why: explain(error) });
  return inLanguage(state === "sent" ? "chat.js.sending" : "chat.js.waiting");
}

function showPending() {
  rememberOwn();
  log.keepView();
  for (const [message, { item }] of items) {
    if (chat.outgoing.includes(message)) continue;
    item.remove();
    items.delete(message);
  }
  for (const message of chat.outgoing) {
    if (!items.has(message)) items.set(message, pendingItem(message));
    const { item, note, buttons } = items.get(message);
    if (!item.isConnected) pending.append(item);
    item.classList.toggle("failed", message.state === "failed");
    if (note.textContent !== stateOf(message)) note.textContent = stateOf(message);
    note.setAttribute("role", message.state === "failed" ? "alert" : "none");
    buttons.hidden = message.state !== "failed";
  }
  if (items.size > 0) byId("empty").hidden = true;
  log.grown();
}

chat.addEventListener("outgoing", showPending);
chat.addEventListener("state", showPending);

// Writing

chat.addEventListener("problem", ({ detail }) => {
  // one about a message stands at that message
  if (!chat.outgoing.some(({ error }) => error === detail)) showProblem(explain(detail));
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
  log.toEnd();
  chat.say(text);
});

// Enter sends, and with Shift makes a line; while a Japanese keyboard composes, it ends a word.
input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  byId("form").requestSubmit();
});

addEventListener("beforeunload", (event) => {
  if (chat.outgoing.length > 0) event.preventDefault();
});

scroll.ariaBusy = "true";
follow(chat, byId("chat"), (asks) => {
  byId("form").hidden = asks;
  if (!asks) input.focus();
});
