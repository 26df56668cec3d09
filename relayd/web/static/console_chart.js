// A line chart in SVG that follows a series: one or two lines, a scale, a sentence for screen readers.

import { text as words } from "./texts.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const HEIGHT = 120;
const LEFT = 46;
const BOTTOM = 18;
const TOP = 8;

function draw(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The smallest of 1, 2, 5, 10, 20, ... that is not below a value. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 5, 10].find((each) => each * power >= value * 0.999999);
  return factor * power;
}

export class Chart {
  /**
   * @param {SVGElement} svg - where it is drawn; its `aria-label` is kept up to date.
   * @param {object} options
   * @param {string} options.title - what it shows.
   * @param {string[]} options.names - of the lines.
   * @param {(value: number) => string} options.format - a value for people.
   * @param {number} options.span - the most seconds from left to right.
   */
  constructor(svg, { title, names, format, span }) {
    Object.assign(this, { svg, title, names, format, span });
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
  }

  /** Draws points: `[time, [value, ...]]`, of which a value may be null; the times ascend. */
  show(points) {
    const end = points.at(-1)?.[0] ?? 0;
    const minutes = Math.ceil(
      Math.min(this.span, Math.max(60, end - (points[0]?.[0] ?? end))) / 60,
    );
    const shown = points.filter(([time]) => time >= end - minutes * 60);
    const most = Math.max(0, ...shown.flatMap(([, values]) => values.map((value) => value ?? 0)));
    const top = ceiling(most);
    const x = (time) => LEFT + (WIDTH - LEFT - 4) * (1 - (end - time) / (minutes * 60));
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const level = y(top * share);
      parts.push(draw("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: level, y2: level }));
      const label = { class: "scale", x: LEFT - 5, y: level + 4, "text-anchor": "end" };
      parts.push(draw("text", label, this.format(top * share)));
    }
    parts.push(
      draw(
        "text",
        { class: "scale", x: LEFT, y: HEIGHT - 4 },
        `−${words("console.js.minutes", { m: minutes })}`,
      ),
    );
    parts.push(
      draw("text", { class: "scale", x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, "0"),
    );
    this.names.forEach((name, index) => {
      let path = "";
      let before = null;
      for (const [time, values] of shown) {
        const value = values[index];
        // where nothing was measured, the line has a gap
        if (value === null || value === undefined) before = null;
        else {
          path += `${before === null ? "M" : "L"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
          if (before === null) path += "h.1"; // a lone point is seen, too
          before = value;
        }
      }
      parts.push(draw("path", { class: `line line-${index}`, d: path || "M0 0" }));
    });
    this.svg.replaceChildren(...parts);
    const latest = points.at(-1)?.[1] ?? [];
    const said = this.names.map((name, index) => {
      const value = latest[index];
      return `${name} ${value === null || value === undefined ? "–" : this.format(value)}`;
    });
    this.svg.setAttribute("aria-label", `${this.title}: ${said.join(", ")}`);
    return said;
  }
}
