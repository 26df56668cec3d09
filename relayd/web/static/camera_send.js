// The page that is a camera: mouse, touch, arrow keys or the sensors of the device move a point, whose
// place is sent ten times a second, whether it has moved or not, so that viewers see that it is there.

import { Camera } from "/clients/relayd.js";
import { follow } from "./status.js";
import { text } from "./texts.js";
import { token } from "./token.js";

const EVERY = 100; // ms
const REACH = 5; // units from the middle of the pad to its edge
const STEP = 0.25;
const byId = (id) => document.getElementById(id);
const [pad, me, height, sensors] = ["pad", "me", "height", "sensors"].map(byId);

const camera = new Camera(location.origin, byId("camera").dataset.group, { token });
const place = { x: 0, y: 0, z: 0 };
const number = new Intl.NumberFormat(document.documentElement.lang, {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
});
const within = (value) => Math.round(Math.min(REACH, Math.max(-REACH, value)) * 100) / 100;

function move(x, y, z) {
  Object.assign(place, { x: within(x), y: within(y), z: within(z) });
  me.style.left = `${50 + (place.x / REACH) * 50}%`;
  me.style.top = `${50 - (place.z / REACH) * 50}%`;
  me.style.scale = String(2 ** (place.y / 5));
  height.value = place.y;
  const [shownX, shownY, shownZ] = [place.x, place.y, place.z].map((each) => number.format(each));
  byId("pose").textContent = `x ${shownX}, y ${shownY}, z ${shownZ}`;
}

// Mouse and touch

function follows(event) {
  if (!pad.hasPointerCapture(event.pointerId)) return;
  const box = pad.getBoundingClientRect();
  const across = (event.clientX - box.left) / box.width;
  const down = (event.clientY - box.top) / box.height;
  move((across - 0.5) * 2 * REACH, place.y, (0.5 - down) * 2 * REACH);
}

pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  follows(event);
});
pad.addEventListener("pointermove", follows);
height.addEventListener("input", () => move(place.x, Number(height.value), place.z));

// Keys

const KEYS = {
  ...{ ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1] },
  ...{ PageUp: [0, 1, 0], PageDown: [0, -1, 0] },
};

pad.addEventListener("keydown", (event) => {
  const way = KEYS[event.key];
  if (!way) return;
  event.preventDefault();
  move(place.x + way[0] * STEP, place.y + way[1] * STEP, place.z + way[2] * STEP);
});

// The sensors of the device: tilted to the right is x, tilted away is z. Browsers have them on https
// only, and iOS asks the person first.

function tilted({ beta, gamma }) {
  if (beta === null || gamma === null) return;
  move((gamma / 45) * REACH, place.y, ((45 - beta) / 45) * REACH);
}

async function switchSensors() {
  const on = sensors.getAttribute("aria-pressed") !== "true";
  if (on && DeviceOrientationEvent.requestPermission) {
    if ((await DeviceOrientationEvent.requestPermission()) !== "granted") return;
  }
  sensors.setAttribute("aria-pressed", String(on));
  if (on) addEventListener("deviceorientation", tilted);
  else removeEventListener("deviceorientation", tilted);
}

const hasSensors = isSecureContext && "DeviceOrientationEvent" in window;
sensors.hidden = !hasSensors || !matchMedia("(pointer: coarse)").matches;
sensors.addEventListener("click", switchSensors);

// Sending, and the time until the own pose comes back

const sent = []; // {x, y, z, at}, the newest 50
let count = 0;
let trip = null;

setInterval(() => {
  if (!camera.move(place.x, place.y, place.z)) return;
  sent.push({ ...place, at: performance.now() });
  if (sent.length > 50) sent.shift();
  count += 1;
}, EVERY);

camera.addEventListener("pose", ({ detail: { x, y, z } }) => {
  const index = sent.findIndex((each) => each.x === x && each.y === y && each.z === z);
  if (index < 0) return; // somebody else's
  trip = performance.now() - sent[index].at;
  sent.splice(0, index + 1);
});

setInterval(() => {
  const values = { n: count, ms: trip === null ? "–" : Math.round(trip) };
  byId("figures").textContent = count ? text("camera.js.figures", values) : "";
  count = 0;
}, 1000);

move(0, 0, 0);
follow(camera, byId("camera"));
