// Numbers, sizes and durations for people, in the words of wording.py. What is not known is "–", never 0.

export const UNKNOWN = "–";

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 3 });

/** 12,345; a fraction, as rates have, with one decimal below 10. */
export function number(value) {
  if (value == null) return UNKNOWN;
  if (Number.isInteger(value)) return grouped.format(value);
  return value < 9.95 ? value.toFixed(1) : grouped.format(Math.round(value));
}

/** 512 B, 1.2 MiB. */
export function size(count) {
  if (count == null) return UNKNOWN;
  if (count < 1023.5) return `${Math.round(count)} B`;
  let unit = "";
  for (unit of UNITS) {
    count /= 1024;
    if (count < 1023.95) break;
  }
  return count >= 99.95 ? `${Math.round(count)} ${unit}` : `${count.toFixed(1)} ${unit}`;
}

const LONG = [
  ["d", 86_400, "h", 3600],
  ["h", 3600, "min", 60],
  ["min", 60, "s", 1],
];

/** 250 ms, 4.2 s, 3 min 20 s, 2 d 4 h. */
export function duration(seconds) {
  if (seconds == null) return UNKNOWN;
  if (seconds < 0.00095 && seconds !== 0) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1).replace(/\.0$/, "")} s`;
  const whole = Math.round(seconds);
  const [unit, length, below, perBelow] = LONG.find(([, least]) => whole >= least);
  const rest = Math.floor((whole % length) / perBelow);
  return `${Math.floor(whole / length)} ${unit}` + (rest ? ` ${rest} ${below}` : "");
}

/** The time of day of an instant (RFC 3339), in UTC. */
export function clock(time) {
  return new Date(time).toISOString().slice(11, 19);
}

/** 2026-11-27 01:00:00 UTC. */
export function instant(time) {
  return time == null ? UNKNOWN : `${new Date(time).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** A word, as it is. */
export function word(text) {
  return text ?? UNKNOWN;
}

export const FORMS = { number, size, duration, instant, word };
