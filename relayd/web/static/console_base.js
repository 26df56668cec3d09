// Shared by the pages of the console: requests with their errors, elements, numbers and times.

import { text } from "./texts.js";

const API = "/console/api/";

/** An answer of relayd that is no success; the message is for people. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The JSON of a request below /console/api/; the login, where the session has ended. */
export async function api(path, options) {
  const response = await request(path, options);
  return response.json();
}

/** The response to a request; throws Refused. */
export async function request(path, { method = "GET", body, file, signal } = {}) {
  const sent = file ?? (body === undefined ? undefined : JSON.stringify(body));
  let response;
  try {
    response = await fetch(API + path, { method, body: sent, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, text("console.js.no_answer"));
  }
  if (response.status === 401) {
    location.assign("/console/login");
    throw new Refused(401, text("console.js.session_ended"));
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Refused(
      response.status,
      said.message ?? text("console.js.status", { status: response.status }),
    );
  }
  return response;
}

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** A new element; texts are never markup. `{ class, text, on: { click }, ... attributes }` */
export function make(tag, { text: words, on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, act] of Object.entries(on)) element.addEventListener(name, act);
  if (words !== undefined && words !== null) element.textContent = words;
  element.append(...children);
  return element;
}

/** A table row; each cell is [label, text or element], which narrow screens show as lines. */
export function row(cells, attributes = {}) {
  const found = make("tr", attributes);
  for (const [label, value, kind] of cells) {
    const cell = make("td", { "data-label": label, class: kind });
    cell.append(value instanceof Node ? value : String(value ?? ""));
    found.append(cell);
  }
  return found;
}

/** Shows a sentence in an element with role="alert" or "status", or hides it. */
export function tell(element, sentence) {
  element.textContent = sentence;
  element.hidden = !sentence;
}

const numbers = new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "medium" });
const moments = new Intl.DateTimeFormat(document.documentElement.lang, {
  dateStyle: "short",
  timeStyle: "medium",
});

/** A number for people. */
export const count = (value) => numbers.format(value);

/** The time of day of a Unix time. */
export const time = (seconds) => clock.format(seconds * 1000);

/** Date and time of a Unix time. */
export const moment = (seconds) => moments.format(seconds * 1000);

/** A short time such as a latency. */
export function latency(seconds) {
  if (seconds >= 1) return `${count(seconds)} s`;
  return `${seconds >= 0.01 ? Math.round(seconds * 1000) : count(seconds * 1000)} ms`;
}

/** How long ago, or for how long. */
export function duration(seconds) {
  if (seconds < 60) return text("console.js.seconds", { s: Math.max(0, Math.round(seconds)) });
  if (seconds < 3600) return text("console.js.minutes", { m: Math.floor(seconds / 60) });
  if (seconds < 86400)
    return text("console.js.hours", {
      h: Math.floor(seconds / 3600),
      m: Math.floor((seconds % 3600) / 60),
    });
  return text("console.js.days", {
    d: Math.floor(seconds / 86400),
    h: Math.floor((seconds % 86400) / 3600),
  });
}

/** Bytes for people. */
export function bytes(value) {
  if (value < 1024) return `${value} B`;
  if (value < 1024 * 1024) return `${count(value / 1024)} KiB`;
  return `${count(value / 1024 / 1024)} MiB`;
}

/** Calls `act` when nothing has been typed for a moment. */
export function whenTyped(input, act) {
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(act, 250);
  });
}
