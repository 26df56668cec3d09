// The page of a topic: whatever JSON is published, `percent` is a bar and `message` a line of the log;
// an object with neither is a line as it is.

import { Push } from "/clients/relayd.js";
import { fillOrigins } from "./origin.js";
import { follow } from "./status.js";
import { text } from "./texts.js";
import { token } from "./token.js";

const MOST_SHOWN = 500;
const LONGEST = 10_000; // characters of a line
const byId = (id) => document.getElementById(id);
const frame = byId("push");
const { topic } = frame.dataset;
const language = document.documentElement.lang;
const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
const number = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });
const title = document.title;

const push = new Push(location.origin, topic, { token });
let lines = []; // {what, at} that came since the last picture, oldest first
let latest = null; // {percent, at}

// A number from 0 to 100, also from a text such as "40" or "40 %"; null for anything else.
function percentOf(value) {
  const found = typeof value === "string" ? Number(value.replace(/\s*%\s*$/, "") || NaN) : value;
  return Number.isFinite(found) ? Math.min(100, Math.max(0, found)) : null;
}

function lineOf(object, percent) {
  const { message } = object;
  if (typeof message === "string" && message) return message;
  if (["number", "boolean", "object"].includes(typeof message) && message !== null) {
    return JSON.stringify(message);
  }
  return percent === null ? JSON.stringify(object) : "";
}

push.addEventListener("frame", ({ detail }) => {
  const at = new Date();
  const percent = percentOf(detail.percent);
  const what = lineOf(detail, percent);
  if (!latest && lines.length === 0) requestAnimationFrame(draw);
  if (percent !== null) latest = { percent, at };
  if (what) lines.push({ what: what.slice(0, LONGEST), at });
  lines = lines.slice(-MOST_SHOWN);
});

// Draws what came since the last frame of the screen: a job may publish faster than a screen shows.
function draw() {
  if (latest) showPercent(latest);
  if (lines.length > 0) byId("empty").hidden = true;
  byId("log").prepend(...lines.map(line).reverse());
  while (byId("log").childElementCount > MOST_SHOWN) byId("log").lastElementChild.remove();
  latest = null;
  lines = [];
}

function showPercent({ percent, at }) {
  const shown = number.format(percent / 100);
  byId("progress").hidden = false;
  byId("empty").hidden = true;
  byId("percent").textContent = shown;
  byId("since").textContent = text("push.js.at", { time: clock.format(at) });
  byId("bar").ariaValueNow = String(percent);
  byId("bar").ariaValueText = shown;
  byId("done").style.width = `${percent}%`;
  byId("progress").classList.toggle("whole", percent === 100);
  document.title = `${shown} · ${title}`;
}

function line({ what, at }) {
  const item = document.createElement("li");
  const said = Object.assign(document.createElement("span"), { className: "said", dir: "auto" });
  const stamp = document.createElement("time");
  said.textContent = what;
  stamp.textContent = clock.format(at);
  stamp.dateTime = at.toISOString();
  item.append(said, stamp);
  return item;
}

fillOrigins();
follow(push, frame);
