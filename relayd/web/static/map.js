// A map on a canvas: circles with trails over a grid, with axes and a scale; dragged, pinched and zoomed.
//
// It draws only while something moves. `canvas.dataset.drawMs` is the mean time of a frame's drawing
// and `dataset.frames` their number in the last second.

const TRAIL = 4000; // ms
const EASE = 80; // ms in which a circle comes near its newest place: poses come ten times a second
const FADE = 4; // pieces of a trail, each fainter than the one before
const MARGIN = 1.3;
const BELOW = 50; // pixels that the buttons cover

// One of 1, 2 and 5 times a power of ten, so that a step of the grid has about `wish` units.
function niceStep(wish) {
  const power = 10 ** Math.floor(Math.log10(wish));
  return power * [1, 2, 5, 10].find((each) => each * power >= wish);
}

export class Field {
  #canvas;
  #context;
  #plane = "xz";
  #circles = new Map(); // sender -> {sender, across, up, third, trail}
  #centre = { across: 0, up: 0 };
  #scale = 40; // pixels for a unit
  #fits = true; // follows the circles, until somebody drags or zooms
  #running = false;
  #last = 0;
  #spent = 0;
  #frames = 0;
  #second = 0;
  #colours = {};
  #pointers = new Map();

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#resize());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  // A sender {x, y, z, name, colour} is at a new place.
  moved(sender, now) {
    let circle = this.#circles.get(sender);
    const place = this.#project(sender);
    if (!circle) this.#circles.set(sender, (circle = { sender, ...place, trail: [] }));
    circle.trail.push({ x: sender.x, y: sender.y, z: sender.z, at: now });
    this.#wake();
  }

  left(sender) {
    this.#circles.delete(sender);
    this.#wake();
  }

  // Shows another plane: "xz" is from above.
  show(plane) {
    this.#plane = plane;
    for (const circle of this.#circles.values()) Object.assign(circle, this.#project(circle.sender));
    this.fit();
  }

  zoom(factor, at = null) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const x = at ? at.x - width / 2 : 0;
    const y = at ? at.y - height / 2 : 0;
    const scale = Math.min(1e5, Math.max(1e-3, this.#scale * factor));
    // what is under the pointer stays there
    this.#centre.across += x / this.#scale - x / scale;
    this.#centre.up -= y / this.#scale - y / scale;
    this.#scale = scale;
    this.#free();
  }

  // Follows the circles again, so that all are in view.
  fit() {
    this.#fits = true;
    this.#wake();
  }

  #free() {
    this.#fits = false;
    this.#wake();
  }

  #project({ x, y, z }) {
    const [across, up] = this.#plane;
    const at = { x, y, z };
    const third = "xyz".replace(across, "").replace(up, "");
    return { across: at[across], up: at[up], third: at[third] };
  }

  // Moving and zooming

  #wheel(event) {
    event.preventDefault();
    this.zoom(1.0015 ** -event.deltaY, { x: event.offsetX, y: event.offsetY });
  }

  #down(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  }

  #moved(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.offsetX, y: event.offsetY };
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (other) {
      const apart = (a) => Math.max(1, Math.hypot(a.x - other.x, a.y - other.y));
      this.zoom(apart(now) / apart(before), other);
    } else this.#pan(now.x - before.x, now.y - before.y);
  }

  #pan(x, y) {
    this.#centre.across -= x / this.#scale;
    this.#centre.up += y / this.#scale;
    this.#free();
  }

  #key(event) {
    const step = 60;
    const ways = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in ways) this.#pan(...ways[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  // Drawing

  #resize() {
    const ratio = devicePixelRatio || 1;
    this.#canvas.width = Math.round(this.#canvas.clientWidth * ratio);
    this.#canvas.height = Math.round(this.#canvas.clientHeight * ratio);
    const style = getComputedStyle(document.documentElement);
    for (const name of ["line", "quiet", "text"]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.#wake();
  }

  #wake() {
    if (this.#running) return;
    this.#running = true;
    this.#last = performance.now();
    requestAnimationFrame((now) => this.#frame(now));
  }

  #frame(now) {
    const began = performance.now();
    const moving = this.#step(now);
    this.#draw(now);
    this.#spent += performance.now() - began;
    this.#frames += 1;
    if (now - this.#second > 1000) {
      this.#canvas.dataset.drawMs = (this.#spent / this.#frames).toFixed(2);
      this.#canvas.dataset.frames = this.#frames;
      this.#second = now;
      this.#spent = this.#frames = 0;
    }
    this.#running = moving;
    if (moving) requestAnimationFrame((next) => this.#frame(next));
  }

  // Moves circles towards their newest places. Returns whether there is more to move.
  #step(now) {
    const part = 1 - Math.exp(-Math.max(0, now - this.#last) / EASE);
    this.#last = now;
    let moving = this.#circles.size > 0;
    for (const circle of this.#circles.values()) {
      const target = this.#project(circle.sender);
      for (const name of ["across", "up", "third"]) circle[name] += (target[name] - circle[name]) * part;
      let old = 0;
      while (old < circle.trail.length && now - circle.trail[old].at > TRAIL) old += 1;
      if (old) circle.trail.splice(0, old);
    }
    if (this.#fits && this.#circles.size) moving = this.#approach(part) || moving;
    return moving;
  }

  // Moves the view to where all circles are in it; a map that jumps is hard to read.
  #approach(part) {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { sender } of this.#circles.values()) {
      const { across, up } = this.#project(sender);
      [left, right] = [Math.min(left, across), Math.max(right, across)];
      [low, high] = [Math.min(low, up), Math.max(high, up)];
    }
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const across = Math.max(10, (right - left) * MARGIN);
    const up = Math.max(10, (high - low) * MARGIN);
    const scale = Math.min(width / across, Math.max(100, height - BELOW) / up);
    const inside = (low, high, centre, span) =>
      low > centre - span / 2 && high < centre + span / 2 ? centre : (low + high) / 2;
    const slow = part / 3;
    const wish = {
      across: inside(left, right, this.#centre.across, width / this.#scale),
      up: inside(low, high, this.#centre.up, height / this.#scale),
    };
    this.#centre.across += (wish.across - this.#centre.across) * slow;
    this.#centre.up += (wish.up - this.#centre.up) * slow;
    if (scale < this.#scale || scale > this.#scale * 1.6) this.#scale += (scale - this.#scale) * slow;
    return true;
  }

  #draw(now) {
    const context = this.#context;
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#grid(width, height);
    const x = (across) => width / 2 + (across - this.#centre.across) * this.#scale;
    const y = (up) => height / 2 - (up - this.#centre.up) * this.#scale;
    const [acrossName, upName] = this.#plane;
    context.lineJoin = "round";
    context.lineCap = "butt"; // the pieces of a trail would overlap at their ends
    context.lineWidth = 3;
    for (const circle of this.#circles.values()) {
      context.strokeStyle = circle.sender.colour;
      const { trail } = circle;
      const length = trail.length - 1; // the newest is the circle, which is on its way there
      for (let piece = 0; piece < FADE; piece += 1) {
        const from = Math.floor((length * piece) / FADE);
        const to = Math.floor((length * (piece + 1)) / FADE);
        context.globalAlpha = (0.6 * (piece + 1)) / FADE;
        context.beginPath();
        for (let at = from; at <= to && at < length; at += 1) {
          context.lineTo(x(trail[at][acrossName]), y(trail[at][upName]));
        }
        if (piece === FADE - 1) context.lineTo(x(circle.across), y(circle.up));
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    const names = this.#circles.size <= 30;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    for (const circle of this.#circles.values()) {
      // the third coordinate is the size: higher is nearer to one who looks from above
      const radius = 10 * Math.min(2, Math.max(0.5, 2 ** (circle.third / 4)));
      context.fillStyle = circle.sender.colour;
      context.beginPath();
      context.arc(x(circle.across), y(circle.up), radius, 0, 2 * Math.PI);
      context.fill();
      if (!names) continue;
      context.fillStyle = this.#colours.text;
      context.fillText(circle.sender.label, x(circle.across), y(circle.up) - radius - 5);
    }
  }

  #grid(width, height) {
    const context = this.#context;
    const step = niceStep(70 / this.#scale);
    const places = Math.max(0, -Math.floor(Math.log10(step)));
    const label = (value) => (Object.is(value, -0) ? 0 : value).toFixed(places).replace("-", "−");
    const [acrossName, upName] = this.#plane;
    const left = this.#centre.across - width / 2 / this.#scale;
    const low = this.#centre.up - height / 2 / this.#scale;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = this.#colours.quiet;
    context.lineCap = "butt";
    const line = (value, fromX, fromY, toX, toY) => {
      const axis = Math.abs(value) < step / 2;
      context.strokeStyle = axis ? this.#colours.quiet : this.#colours.line;
      context.lineWidth = axis ? 1.5 : 1;
      context.beginPath();
      context.moveTo(fromX, fromY);
      context.lineTo(toX, toY);
      context.stroke();
    };
    context.textAlign = "left";
    for (let n = Math.ceil(left / step); n * step < left + width / this.#scale; n += 1) {
      const at = Math.round((n * step - left) * this.#scale) + 0.5;
      line(n * step, at, 0, at, height);
      if (at < width - 40) context.fillText(label(n * step), at + 4, 13);
    }
    for (let n = Math.ceil(low / step); n * step < low + height / this.#scale; n += 1) {
      const at = Math.round(height - (n * step - low) * this.#scale) + 0.5;
      line(n * step, 0, at, width, at);
      if (at > 30 && at < height - 24) context.fillText(label(n * step), 4, at - 4);
    }
    this.#scaleBar(step, label(step), height);
    context.fillStyle = this.#colours.text;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "right";
    context.fillText(`${acrossName} →`, width - 8, 14);
    context.textAlign = "left";
    context.fillText(`↑ ${upName}`, 34, 30);
  }

  #scaleBar(step, label, height) {
    const context = this.#context;
    const length = step * this.#scale;
    context.strokeStyle = this.#colours.text;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(12, height - 18);
    context.lineTo(12, height - 12);
    context.lineTo(12 + length, height - 12);
    context.lineTo(12 + length, height - 18);
    context.stroke();
    context.fillStyle = this.#colours.text;
    context.textAlign = "center";
    context.fillText(label, 12 + length / 2, height - 18);
  }
}
