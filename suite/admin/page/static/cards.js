// The endpoints: their numbers each second, and what else there is to one when somebody looks into it.
//
// The server draws them. Where one has come, gone or been declared anew, its card is taken from the server's
// page, so that there is one way to draw a card.

import { endpointPath, get, getPage } from "./api.js";
import { Connections } from "./connections.js";
import { EndpointControls } from "./controls.js";
import { make, say, sync } from "./dom.js";
import { attempt } from "./notice.js";
import { Bound } from "./overview.js";

const place = document.getElementById("cards");
const gallery = document.getElementById("gallery-list");

/** What a card shows that does not change each second. */
function signature(entry) {
  const { transport, listen, addresses, answer, limits, certificate, proxied } = entry;
  return JSON.stringify([transport, listen, addresses, answer, limits, certificate, proxied, entry.try]);
}

/** The endpoints by key: the name; and its number where several have one, as those that are leaving may. */
function keyed(endpoints) {
  const seen = new Map();
  return endpoints.map((entry) => {
    const count = (seen.get(entry.name) ?? 0) + 1;
    seen.set(entry.name, count);
    return [count === 1 ? entry.name : `${entry.name}~${count}`, entry];
  });
}

class Card {
  constructor(element) {
    this.element = element;
    this.name = element.dataset.name;
    this.bound = new Bound(element);
    this.signature = null;
    const link = element.querySelector("a.more");
    if (link) {
      this.more = make("button", { type: "button", class: "more", "aria-expanded": "false", onclick: () => this.toggle() });
      this.more.append(...link.childNodes);
      link.replaceWith(this.more);
    }
    addCopying(element);
    const details = element.querySelector(".details");
    if (details) this.equip(details);
  }

  async toggle() {
    if (this.details) {
      this.details.remove();
      this.details = this.controls = this.connections = null;
      this.more.setAttribute("aria-expanded", "false");
      this.bound.scan();
      return;
    }
    const path = `/?endpoint=${encodeURIComponent(this.name)}`;
    const page = await attempt(`${this.name}`, () => getPage(path));
    const details = page?.querySelector(".details");
    if (!details || this.details) return;
    this.element.append(document.adoptNode(details));
    this.more.setAttribute("aria-expanded", "true");
    this.equip(details);
    this.bound.scan();
    await attempt(this.name, () => this.refresh());
  }

  equip(details) {
    this.details = details;
    this.controls = new EndpointControls(details.querySelector(".controls"), this.name, () => this.refresh());
    const section = details.querySelector(".connections");
    this.connections = section && new Connections(section, this.name);
    if (this.entry) this.controls.show(this.entry);
  }

  /** Ask for what only an open card shows, and for what has just been changed. */
  async refresh() {
    this.state(await get(endpointPath(this.name)));
    await this.connections?.refresh();
  }

  state(entry) {
    this.entry = entry;
    this.element.dataset.state = entry.state;
    const badge = this.element.querySelector("[data-text=state]");
    say(badge, entry.state);
    badge.hidden = entry.state === "serving";
    const faults = this.element.querySelector(".chips.faults");
    faults.hidden = !entry.faults.faults.length;
    sync(
      faults,
      entry.faults.faults,
      ({ id }) => id,
      ({ fault }) => make("li", { class: "chip fault" }, make("span", { class: "for-readers" }, "fault "), fault),
    );
    this.controls?.show(entry);
  }
}

export class Cards {
  constructor() {
    this.cards = new Map();
    this.rows = new Map();
    this.redrawing = false;
    this.turn = 0;
    this.adopt();
  }

  adopt() {
    const cards = new Map();
    for (const element of place.children) {
      const known = this.cards.get(element.dataset.key);
      cards.set(element.dataset.key, known?.element === element ? known : new Card(element));
    }
    this.cards = cards;
    this.rows = new Map(
      [...gallery.querySelectorAll("tr[data-name]")].map((row) => [row.dataset.name, { bound: new Bound(row) }]),
    );
  }

  show({ endpoints, now, seconds }) {
    const found = keyed(endpoints);
    const alike = found.every(([key, entry]) => {
      const card = this.cards.get(key);
      return card ? card.signature === null || card.signature === signature(entry) : this.rows.has(key);
    });
    if (!alike || found.length !== this.cards.size + this.rows.size) this.redraw(new Map(found));
    for (const [key, entry] of found) {
      const card = this.cards.get(key);
      if (card) {
        card.signature ??= signature(entry);
        if (card.signature === signature(entry)) card.state(entry);
      }
      (card ?? this.rows.get(key))?.bound.show(entry, now, seconds);
    }
    this.look();
  }

  /** See which connections there are, of one open card in a turn, every other second. */
  look() {
    this.turn += 1;
    const open = [...this.cards.values()].filter((card) => card.connections);
    if (!open.length || this.turn % 2) return;
    const card = open[(this.turn / 2) % open.length];
    card.connections.refresh().catch((error) => {
      if (!(error instanceof Error)) throw error; // without an answer, the next question for all says so
    });
  }

  lose(now) {
    for (const { bound } of [...this.cards.values(), ...this.rows.values()]) bound.lose(now);
  }

  /** Take from the server's page what is not as it was. */
  async redraw(found) {
    if (this.redrawing) return;
    this.redrawing = true;
    try {
      const page = await getPage(location.pathname + location.search);
      const open = new Set();
      const elements = [...page.querySelectorAll("#cards > .card")].map((element) => {
        const card = this.cards.get(element.dataset.key);
        const entry = found.get(element.dataset.key);
        if (card && entry && card.signature === signature(entry)) return card.element;
        if (card?.details) open.add(element.dataset.key);
        return document.adoptNode(element);
      });
      place.replaceChildren(...elements);
      replace("#certificates", page);
      replace("#endpoints .pages", page);
      const unfolded = gallery.querySelector("details")?.open;
      gallery.replaceChildren(...document.adoptNode(page.getElementById("gallery-list")).childNodes);
      if (unfolded) gallery.querySelector("details")?.setAttribute("open", "");
      this.adopt();
      for (const key of open) this.cards.get(key)?.toggle();
    } catch (error) {
      if (!(error instanceof Error)) throw error; // it is tried again with the next answer
    } finally {
      this.redrawing = false;
    }
  }
}

function replace(selector, page) {
  const fresh = page.querySelector(selector);
  const old = document.querySelector(selector);
  if (old && fresh) old.replaceWith(document.adoptNode(fresh));
  else if (fresh) document.getElementById("endpoints").append(document.adoptNode(fresh));
  else old?.remove();
}

function addCopying(element) {
  const command = element.querySelector(".command");
  if (!command) return;
  const button = make("button", { type: "button", class: "copy", onclick: copy }, "Copy");
  button.append(make("span", { class: "for-readers" }, ` the command to try ${element.dataset.name}`));
  command.after(button);

  async function copy() {
    let outcome = "Copied";
    try {
      await navigator.clipboard.writeText(command.textContent);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      getSelection().selectAllChildren(command); // for the keyboard's own way
      outcome = "Selected";
    }
    const words = button.firstChild;
    words.textContent = outcome;
    setTimeout(() => (words.textContent = "Copy"), 2000);
  }
}
