// Charts of the last two minutes, a second at a time. A mirror chart has what came in above its line and what
// went out below it, so that a faithful echo is its own reflection. Where nothing is known there is a gap.

import { make, makeSvg } from "./dom.js";
import { FORMS, UNKNOWN } from "./wording.js";

/** Seconds that are shown. */
const SPAN = 120;

const WIDTH = 240;
const HEIGHT = 40;

const visible = new WeakSet();
const charts = new WeakMap();

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      visible.add(target);
      charts.get(target)?.draw();
    } else {
      visible.delete(target);
    }
  }
});

export class Chart {
  /** @param place a `data-chart` element. */
  constructor(place) {
    this.place = place;
    this.kind = place.dataset.chart;
    this.label = place.dataset.label;
    this.form = this.kind === "mirror" ? FORMS.size : FORMS.number;
    this.points = [];
    this.svg = makeSvg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `${this.label}: not known yet`,
    });
    this.above = makeSvg("path", { class: "above" });
    this.below = makeSvg("path", { class: "below" });
    this.edge = makeSvg("path", { class: "edge" });
    this.base = makeSvg("line", { class: "base", x1: 0, x2: WIDTH });
    this.most = make("span", { class: "most", "aria-hidden": "true" });
    this.svg.append(this.base, this.above, this.below, this.edge);
    place.replaceChildren(this.svg, this.most);
    charts.set(place, this);
    observer.observe(place);
  }

  /** Add what was measured at `time`, in seconds; null: it is not known. */
  add(time, above, below = null) {
    this.points.push({ time, above, below });
    while (this.points[0].time < time - SPAN - 2) this.points.shift();
    if (visible.has(this.place)) this.draw();
  }

  draw() {
    const last = this.points.at(-1);
    if (!last) return;
    const known = this.points.filter((point) => point.above !== null);
    const most = Math.max(0, ...known.map((point) => Math.max(point.above, point.below ?? 0)));
    const mirror = this.kind === "mirror";
    const line = mirror ? HEIGHT / 2 : HEIGHT - 1;
    const room = mirror ? HEIGHT / 2 - 1 : HEIGHT - 3;
    const scale = most ? room / most : 0;
    const x = (point) => (WIDTH * (point.time - last.time + SPAN)) / SPAN;
    this.base.setAttribute("y1", line);
    this.base.setAttribute("y2", line);
    const runs = runsOf(this.points);
    const up = (point) => line - point.above * scale;
    const down = (point) => line + (point.below ?? 0) * scale;
    this.above.setAttribute("d", runs.map((run) => area(run, x, up, line)).join(""));
    this.below.setAttribute("d", mirror ? runs.map((run) => area(run, x, down, line)).join("") : "");
    this.edge.setAttribute("d", runs.map((run) => outline(run, x, up)).join(""));
    const unit = this.kind === "line" ? "" : "/s";
    this.most.textContent = most ? `max ${this.form(most)}${unit}` : "";
    this.svg.setAttribute("aria-label", this.words(last, most, unit));
  }

  words(last, most, unit) {
    const shown = (value) => (value === null ? UNKNOWN : `${this.form(value)}${unit}`);
    const now = this.kind === "mirror" ? `${shown(last.above)} in, ${shown(last.below)} out` : shown(last.above);
    return `${this.label}, the last two minutes: now ${now}, at most ${shown(most)}`;
  }
}

/** Runs of points without a gap. */
function runsOf(points) {
  const runs = [];
  let run = null;
  for (const point of points) {
    if (point.above === null) run = null;
    else if (run) run.push(point);
    else runs.push((run = [point]));
  }
  return runs;
}

const at = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** Each value holds from the point before to its own: a step. */
function steps(run, x, y) {
  const parts = [`${at(x(run[0]), y(run[0]))}`];
  for (let index = 1; index < run.length; index += 1) {
    parts.push(`${at(x(run[index - 1]), y(run[index]))}`, `${at(x(run[index]), y(run[index]))}`);
  }
  return parts;
}

function outline(run, x, y) {
  return `M${steps(run, x, y).join("L")}`;
}

function area(run, x, y, line) {
  return `M${at(x(run[0]), line)}L${steps(run, x, y).join("L")}L${at(x(run.at(-1)), line)}Z`;
}
