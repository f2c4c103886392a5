// Numbers that know where they come from (binding.py): a document of the API brings them up to date.

import { Chart } from "./chart.js";
import { make, say, sync } from "./dom.js";
import { FORMS, UNKNOWN } from "./wording.js";

/** What stands in a document at `paths`; see `value_at` in binding.py. */
export function valueAt(document, paths) {
  let sum = null;
  for (const path of paths.split(" ")) {
    let value = document;
    for (const name of path.split("/")) {
      if (value === null || typeof value !== "object") return null;
      if (Object.hasOwn(value, name)) value = value[name];
      else value = value === document ? null : 0;
    }
    if (value !== null && typeof value === "object") {
      value = Object.values(value).reduce((total, each) => total + each, 0);
    }
    if (value === null || typeof value === "string") return value;
    sum = (sum ?? 0) + value;
  }
  return sum;
}

const groups = new Map(
  [...document.querySelectorAll("#by-reason tbody")].map((body) => [
    body.dataset.group,
    [...body.querySelectorAll("[data-reason]")].map((row) => row.dataset.reason),
  ]),
);

/** What each list of counts shows of a document: word, count, and a class. */
const COUNTED = {
  *ends(found) {
    for (const [group, reasons] of groups) {
      for (const reason of reasons) {
        const paths =
          group === "refused"
            ? `connections/refused/${reason} datagrams/unanswered/${reason}`
            : `connections/ended/${reason}`;
        const count = valueAt(found, paths);
        if (count) yield [reason, count, group];
      }
    }
  },
  *struck(found) {
    for (const [kind, count] of Object.entries(found.struck)) yield [kind, count, ""];
  },
  *handshakes(found) {
    for (const each of found.handshakes?.by ?? []) {
      yield [`${each.version} ${each.cipher}${each.resumed ? ", resumed" : ""}`, each.count, ""];
    }
    for (const [word, count] of Object.entries(found.handshakes?.failed ?? {})) {
      yield [`failed: ${word}`, count, "failed"];
    }
  },
};

/** The elements under one or more roots that show one document. */
export class Bound {
  constructor(...roots) {
    this.roots = roots;
    this.before = null;
    this.scan();
  }

  /** Look again for what there is to be brought up to date. */
  scan() {
    const all = (selector) => this.roots.flatMap((root) => [...root.querySelectorAll(selector)]);
    this.numbers = all("[data-path]");
    this.rates = all("[data-rate]");
    this.alarms = all("[data-watch]");
    this.reasons = all("tr[data-reason]");
    this.counted = all("[data-counted]");
    this.charts = all("[data-chart]").map((place) => this.charts?.find((each) => each.place === place) ?? new Chart(place));
    for (const place of all(".rates")) place.hidden = false;
  }

  /** Show a document.
   *
   * @param time when it was made, in seconds of the server's.
   * @param seconds since the document before; null: nothing can be said of the time between.
   */
  show(found, time, seconds) {
    const { before } = this;
    this.before = found;
    const rate = (paths) => {
      if (before === null || !seconds) return null;
      const difference = valueAt(found, paths) - valueAt(before, paths);
      return difference < 0 ? null : difference / seconds;
    };
    for (const place of this.numbers) {
      say(place, FORMS[place.dataset.as](valueAt(found, place.dataset.path)));
    }
    for (const place of this.rates) {
      const value = rate(place.dataset.rate);
      say(place, value === null ? UNKNOWN : `${FORMS[place.dataset.as](value)}/s`);
    }
    for (const place of this.alarms) place.dataset.zero = String(!valueAt(found, place.dataset.watch));
    for (const row of this.reasons) row.hidden = !valueAt(found, row.querySelector("[data-path]").dataset.path);
    for (const place of this.counted) showCounts(place, [...COUNTED[place.dataset.counted](found)]);
    for (const chart of this.charts) {
      const { of, below, chart: kind } = chart.place.dataset;
      if (kind === "line") chart.add(time, valueAt(found, of));
      else chart.add(time, rate(of), below ? rate(below) : null);
    }
  }

  /** Nothing is known any more: what has been shown is no longer so. */
  lose(time) {
    this.before = null;
    for (const place of this.rates) say(place, UNKNOWN);
    for (const chart of this.charts) chart.add(time, null, null);
  }
}

function showCounts(place, counts) {
  place.hidden = !counts.length;
  place.nextElementSibling.hidden = counts.length > 0;
  sync(
    place,
    counts,
    ([word]) => word,
    ([word, , kind]) => make("div", { class: kind || null }, make("dt", {}, word), make("dd")),
    (row, [, count]) => say(row.lastElementChild, FORMS.number(count)),
  );
}

/** Whether each group of reasons has any: "none" stands there if not. */
export function showNone() {
  for (const body of document.querySelectorAll("#by-reason tbody")) {
    body.querySelector(".none").hidden = body.querySelector("[data-reason]:not([hidden])") !== null;
  }
}
