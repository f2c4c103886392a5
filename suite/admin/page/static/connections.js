// The open connections of one endpoint: kept up to date in place, a page at a time, each to be closed.

import { change, endpointPath, get } from "./api.js";
import { make, say, sync } from "./dom.js";
import { attempt, done } from "./notice.js";
import { UNKNOWN, duration, size } from "./wording.js";

/** Connections on one page. */
const LIMIT = 50;

export class Connections {
  /** @param section what panels.py has made of them. */
  constructor(section, name) {
    this.name = name;
    this.after = "";
    this.region = section.querySelector(".scrolled");
    this.body = section.querySelector("tbody");
    this.none = section.querySelector(".none");
    section.querySelector(".next")?.remove();
    const heads = [...section.querySelectorAll("thead th")];
    this.columns = heads.slice(1).map(({ dataset }) => COLUMNS[dataset.column]);
    section.querySelector("thead tr").append(make("th", { scope: "col" }, "end it"));
    this.body.replaceChildren();
    this.first = make("button", { type: "button", onclick: () => this.turn("") }, "First page");
    this.next = make("button", { type: "button", onclick: () => this.turn(this.following) }, "Next page");
    section.append(make("p", { class: "pages" }, this.first, this.next));
    this.first.hidden = this.next.hidden = true;
  }

  turn(after) {
    this.after = after;
    return this.refresh();
  }

  /** Ask which there are, and show them. */
  async refresh() {
    const query = new URLSearchParams({ endpoint: this.name, limit: LIMIT, ...(this.after ? { after: this.after } : {}) });
    const { connections, next } = await get(`/api/v1/connections?${query}`);
    if (!connections.length && this.after) return this.turn("");
    this.following = next;
    this.first.hidden = !this.after;
    this.next.hidden = next === null;
    this.region.hidden = !connections.length;
    this.none.hidden = connections.length > 0;
    sync(this.body, connections, ({ id }) => id, (each) => this.row(each), (row, each) => this.update(row, each));
    return undefined;
  }

  row(each) {
    const cells = this.columns.map(() => make("td"));
    const end = (label, abort) =>
      make(
        "button",
        { type: "button", "aria-label": `${label} ${each.id}`, onclick: () => this.end(each, abort) },
        label,
      );
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, each.id),
      ...cells,
      make("td", { class: "choices" }, end("Close", false), end("Reset", true)),
    );
  }

  update(row, each) {
    this.columns.forEach((words, at) => say(row.children[at + 1], words(each)));
  }

  async end(each, abort) {
    const path = endpointPath(each.endpoint, "connections", String(each.number)) + (abort ? "?abort=true" : "");
    const what = abort ? "reset" : "closed";
    const answer = await attempt(`${each.id} was not ${what}`, () => change("DELETE", path));
    if (answer === undefined) return;
    done(`${each.id} of ${each.peer || UNKNOWN} was ${what}`);
    const row = [...this.body.children].find(({ dataset }) => dataset.key === each.id);
    const held = row?.contains(document.activeElement);
    const beside = row?.nextElementSibling ?? row?.previousElementSibling;
    row?.remove();
    if (held) (beside?.querySelector("button") ?? this.region.closest("article").querySelector(".more, h3 a")).focus();
    await attempt("connections", () => this.refresh());
  }
}

/** What is shown of a connection in each column, by its name in tables.py. */
const COLUMNS = {
  peer: (each) => each.peer ?? "",
  state: (each) => each.state,
  received: (each) => size(each.received),
  unsent: (each) => size(each.owed),
  age: (each) => duration(each.age),
  quiet: (each) => duration(each.quiet),
  TLS: (each) => (each.tls ? tlsWords(each.tls) : ""),
  faults: (each) => each.faults ?? "",
};

function tlsWords(tls) {
  const client = tls.client_certificate ? `client ${tls.client_certificate}` : null;
  return [tls.version, tls.cipher, tls.resumed ? "resumed" : null, tls.server_name, tls.alpn, client]
    .filter(Boolean)
    .join(", ");
}
