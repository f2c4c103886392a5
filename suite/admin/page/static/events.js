// Events as they come, the newest first, and which of them are shown.

import { Refused, get } from "./api.js";
import { make } from "./dom.js";
import { clock, duration, number } from "./wording.js";

/** Events that are kept. */
const MOST = 200;

const LEVELS = ["debug", "info", "warn", "error"];

const list = document.getElementById("log");
const none = document.querySelector("#events .none");

/** The line of an event, as panels.py draws it. */
function line(each) {
  let where = each.endpoint ?? "";
  if (where && each.connection != null) where += `#${each.connection}`;
  const facts = [];
  if (each.reason) facts.push(each.reason);
  if (each.received != null) facts.push(`${number(each.received)} bytes`);
  if (each.duration != null) facts.push(duration(each.duration));
  const message = make("span", { class: "message" });
  if (each.peer) message.append(make("span", { class: "peer" }, each.peer), " ");
  message.append(each.message);
  if (facts.length) message.append(make("span", { class: "quiet" }, ` (${facts.join(", ")})`));
  return make(
    "li",
    { "data-id": each.id, "data-level": each.level },
    make("time", { datetime: each.time }, clock(each.time)),
    make("span", { class: "level" }, each.level),
    make("span", { class: "where" }, where),
    message,
  );
}

export class Events {
  constructor() {
    this.source = null;
    this.retry = 0;
    this.level = make(
      "select",
      { id: "level", onchange: () => this.restart() },
      ...LEVELS.map((each) => make("option", { value: each, selected: each === "info" }, each)),
    );
    this.endpoint = make("input", {
      id: "of-endpoint",
      type: "search",
      placeholder: "any",
      spellcheck: "false",
      autocomplete: "off",
      value: document.body.dataset.only ?? "",
      onchange: () => this.restart(),
    });
    const reasons = [...document.querySelectorAll("#by-reason [data-reason]")].map(({ dataset }) => dataset.reason);
    this.reason = make(
      "select",
      { id: "reason", onchange: () => this.restart() },
      make("option", { value: "" }, "any"),
      ...reasons.map((each) => make("option", { value: each }, each)),
    );
    this.state = make("span", { class: "quiet", role: "status" });
    document
      .getElementById("filters")
      .append(
        make("label", { for: "level" }, "from level"),
        this.level,
        make("label", { for: "of-endpoint" }, "of"),
        this.endpoint,
        make("label", { for: "reason" }, "with reason"),
        this.reason,
        this.state,
      );
    document.addEventListener("visibilitychange", () => this.look());
    this.restart();
  }

  query() {
    const query = new URLSearchParams({ level: this.level.value });
    if (this.endpoint.value.trim()) query.set("endpoint", this.endpoint.value.trim());
    if (this.reason.value) query.set("reason", this.reason.value);
    return query;
  }

  /** Show those that are wanted now: what is known of them, and what comes. */
  restart() {
    this.close();
    list.replaceChildren();
    this.look();
  }

  look() {
    if (document.hidden) this.close();
    else if (!this.source) this.open();
  }

  close() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  /** Listen, and then ask for what has been missed: in this order, nothing is lost between the two. */
  open() {
    const source = new EventSource(`/api/v1/events?${this.query()}`);
    this.source = source;
    source.addEventListener("open", () => this.catchUp(source));
    source.addEventListener("message", ({ data }) => this.add(JSON.parse(data)));
    source.addEventListener("missed", ({ data }) => this.missed(data));
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.state.textContent = "no events at the moment";
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      this.source = null;
      this.retry = setTimeout(() => this.look(), 2000);
      this.explain();
    });
  }

  async catchUp(source) {
    this.state.textContent = "";
    try {
      const { events } = await get(`/api/v1/events/recent?${this.query()}`);
      if (source === this.source) events.forEach((each) => this.add(each));
    } catch (error) {
      this.state.textContent = error.message;
    }
    none.hidden = list.childElementCount > 0;
  }

  /** An EventSource does not say why it is refused; the list of recent events does. */
  async explain() {
    try {
      await get(`/api/v1/events/recent?${this.query()}`);
    } catch (error) {
      if (error instanceof Refused) this.state.textContent = error.message;
    }
  }

  /** Add an event where it belongs, unless it is there. */
  add(each) {
    const id = Number(each.id);
    let before = list.firstElementChild;
    while (before && Number(before.dataset.id) > id) before = before.nextElementSibling;
    if (before && Number(before.dataset.id) === id) return;
    list.insertBefore(line(each), before);
    while (list.childElementCount > MOST) list.lastElementChild.remove();
    none.hidden = true;
  }

  missed(data) {
    const { missed } = JSON.parse(data);
    this.state.textContent = `${missed === null ? "some" : number(missed)} events are missing here`;
  }
}
