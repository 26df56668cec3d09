// The page of a camera group: hands the poses that come to `map.js`, and says in words who sends.

import { Camera } from "/clients/relayd.js";
import { Field } from "./map.js";
import { follow } from "./status.js";
import { text } from "./texts.js";
import { token } from "./token.js";

const SILENT_AFTER = 3000; // ms without a pose: this sender has gone
const NEAR = 2; // where poses do not name their sender: how far one may jump from pose to pose
const byId = (id) => document.getElementById(id);
const frame = byId("camera");

const camera = new Camera(location.origin, frame.dataset.group, { token, query: { senders: 1 } });
const field = new Field(byId("map"));
const senders = new Map(); // name -> {name, label, colour, x, y, z, seen, count, row}
let names = 0;
let labels = 0; // people read a number more easily than the name of a connection

const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y, a.z - b.z);

// The name of the sender: as the pose says, else that of the nearest circle.
function nameOf(pose, at) {
  if (pose.sender !== undefined) return String(pose.sender);
  let nearest = null;
  for (const each of senders.values()) {
    if (distance(each, at) < Math.min(NEAR, nearest ? distance(nearest, at) : NEAR)) nearest = each;
  }
  return nearest ? nearest.name : String(++names);
}

// A hue for a name that is the same on every screen.
function colour(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return `hsl(${(hash * 137.508) % 360} 70% 50%)`;
}

camera.addEventListener("pose", ({ detail }) => {
  const at = { x: detail.x ?? 0, y: detail.y ?? 0, z: detail.z ?? 0 };
  const name = nameOf(detail, at);
  let sender = senders.get(name);
  if (!sender) {
    sender = { name, label: String(++labels), colour: colour(name), count: 0, row: null };
    senders.set(name, sender);
  }
  Object.assign(sender, at, { seen: performance.now() });
  sender.count += 1;
  field.moved(sender, sender.seen);
});

// The same in words, twice a second: screen readers and tests read it.

const cells = (count) => Array.from({ length: count }, () => document.createElement("td"));
const number = new Intl.NumberFormat(document.documentElement.lang, {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
});
let before = performance.now();

function list() {
  const now = performance.now();
  const seconds = (now - before) / 1000;
  before = now;
  for (const sender of senders.values()) {
    if (now - sender.seen > SILENT_AFTER) {
      senders.delete(sender.name);
      field.left(sender);
      sender.row?.remove();
      continue;
    }
    if (!sender.row) addRow(sender);
    sender.rate = (sender.rate ?? sender.count / seconds) * 0.6 + (sender.count / seconds) * 0.4;
    sender.count = 0;
    const [, x, y, z, rate] = sender.row.cells;
    x.textContent = number.format(sender.x);
    y.textContent = number.format(sender.y);
    z.textContent = number.format(sender.z);
    rate.textContent = text("camera.js.rate", { n: Math.round(sender.rate) });
  }
  const summary = senders.size ? text("camera.js.summary", { n: senders.size }) : "";
  if (byId("summary").textContent !== summary) byId("summary").textContent = summary;
  byId("nobody").hidden = senders.size > 0 || camera.state.name !== "connected";
}

function addRow(sender) {
  sender.row = document.createElement("tr");
  sender.row.append(...cells(5));
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.color = sender.colour;
  sender.row.cells[0].append(swatch, sender.label);
  sender.row.title = sender.name;
  byId("senders").append(sender.row);
}

setInterval(list, 500);

byId("plane").addEventListener("change", () => field.show(byId("plane").value));
byId("in").addEventListener("click", () => field.zoom(1.5));
byId("out").addEventListener("click", () => field.zoom(1 / 1.5));
byId("fit").addEventListener("click", () => field.fit());
follow(camera, frame);
