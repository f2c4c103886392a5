// What has come of a change: one line at the top, which screen readers announce.

import { Refused } from "./api.js";
import { make } from "./dom.js";

const place = document.getElementById("notice");
let timer = 0;

function show(kind, text, lines = [], buttons = []) {
  clearTimeout(timer);
  const close = make("button", { type: "button", onclick: clear }, "Dismiss");
  const list = lines.length ? make("pre", {}, lines.join("\n")) : null;
  place.replaceChildren(make("div", { class: kind }, make("p", {}, text), list, ...buttons, close));
}

function clear() {
  place.replaceChildren();
}

/** Say that something has been done. */
export function done(text) {
  show("done", text);
  timer = setTimeout(clear, 6000);
}

/** Say why something has not been done. */
export function failed(what, error) {
  if (!(error instanceof Error)) throw error;
  const buttons = [];
  if (error instanceof Refused && error.status === 401) {
    const ask = () => document.querySelector(".actions [data-do=token]").click();
    buttons.push(make("button", { type: "button", class: "main", onclick: ask }, "Give the token…"));
  }
  show("failed", `${what}: ${error.message}`, error.lines, buttons);
}

/** Do something; its result, or undefined if it failed, which has been said. */
export async function attempt(what, work) {
  try {
    return await work();
  } catch (error) {
    failed(what, error);
    return undefined;
  }
}
