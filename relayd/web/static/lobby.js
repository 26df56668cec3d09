// The rooms that are alive, on the page /chat/: asks for them every few seconds, while somebody looks.

import { explain, showProblem, takeTokens } from "./status.js";
import { text } from "./texts.js";
import { token } from "./token.js";

const EVERY = 5000; // ms
const RARELY = 60_000; // ms between two requests at most, while they fail
const MOST = 100; // rooms
const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];
const byId = (id) => document.getElementById(id);
const [frame, list] = ["live", "rooms"].map(byId);
const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto" });

// How long ago a moment was. The clocks of server and browser may differ a little.
function ago(moment) {
  const seconds = Math.max(0, (Date.now() - Date.parse(moment)) / 1000);
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? ["second", Infinity];
  return relative.format(-Math.floor(seconds / size), unit);
}

// The list. Lines stay where they are while somebody points at one, or has the focus there; what is
// the same as before is not touched, so that a screen reader has nothing to say.

const lines = new Map();

function line(room) {
  const made = byId("line").content.firstElementChild.cloneNode(true);
  const link = made.querySelector("a");
  link.textContent = room;
  link.href = `${encodeURIComponent(room)}/`;
  return made;
}

function write(place, words) {
  if (place.textContent !== words) place.textContent = words;
  place.hidden = words === "";
}

function fill({ room, count, newest }) {
  if (!lines.has(room)) lines.set(room, line(room));
  const [here, said] = lines.get(room).querySelectorAll("span");
  write(here, text("chat.js.here", { n: count }));
  write(said, newest === null ? text("lobby.js.unsaid") : text("lobby.js.said", { when: ago(newest) }));
}

function order(rooms) {
  const names = new Set(rooms.map(({ room }) => room));
  for (const [room, gone] of lines) {
    if (names.has(room)) continue;
    gone.remove();
    lines.delete(room);
  }
  const stay = list.matches(":hover, :focus-within");
  rooms.forEach(({ room }, place) => {
    const here = lines.get(room);
    if (stay ? !here.isConnected : list.children[place] !== here) {
      list.insertBefore(here, stay ? null : list.children[place]);
    }
  });
}

function show({ rooms, total, partial }) {
  rooms.forEach(fill);
  order(rooms);
  byId("nobody").hidden = total > 0;
  const rest = total > rooms.length ? text("lobby.js.rest", { n: total - rooms.length }) : "";
  write(byId("rest"), [rest, partial ? text("lobby.js.partial") : ""].filter(Boolean).join(" "));
}

// The requests

let wait = EVERY;
let timer = null;
let isAsking = false;

function tell(sentence) {
  if (sentence !== byId("problem").textContent) showProblem(sentence);
}

async function ask() {
  const shown = token();
  const headers = shown === null ? {} : { Authorization: `Bearer ${shown}` };
  try {
    const signal = AbortSignal.timeout?.(2 * EVERY);
    const answer = await fetch(`/api/rooms?limit=${MOST}`, { headers, signal });
    const body = await answer.json();
    return { status: answer.status, body, retryAfter: Number(answer.headers.get("Retry-After")) };
  } catch {
    return { status: 0, body: {}, retryAfter: 0 };
  }
}

// A visitor without a token is asked for one where the chat needs it, and elsewhere sees no list.
function wantToken() {
  const isNeeded = frame.dataset.tokens === "needed";
  frame.hidden = !isNeeded;
  byId("enter").hidden = !isNeeded;
  write(byId("rest"), explain({ code: "unauthorized" }));
}

// Whether to ask again without being asked to.
function take({ status, body, retryAfter }) {
  const isRefused = status === 401 || status === 403;
  frame.hidden = status === 404;
  byId("enter").hidden = !isRefused || frame.dataset.tokens === "site";
  if (isRefused) {
    show({ rooms: [], total: 1, partial: false });
    byId("rest").hidden = true;
    tell(frame.dataset.tokens === "site" ? body.message : explain({ ...body, code: body.error }));
    return false;
  }
  if (status === 200) show(body);
  tell(status === 200 || frame.hidden ? "" : text("lobby.js.unlisted"));
  wait = status === 200 ? EVERY : Math.min(RARELY, Math.max(2 * wait, 1000 * retryAfter));
  return !frame.hidden;
}

async function refresh() {
  if (document.hidden || isAsking) return;
  if (["yes", "needed"].includes(frame.dataset.tokens) && token() === null) {
    wantToken();
    return;
  }
  clearTimeout(timer);
  isAsking = true;
  const goesOn = take(await ask());
  isAsking = false;
  if (goesOn) timer = setTimeout(refresh, wait);
}

takeTokens(refresh);
document.addEventListener("visibilitychange", refresh);
addEventListener("online", refresh);
refresh();
