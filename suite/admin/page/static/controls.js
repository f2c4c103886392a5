// What can be changed: an endpoint's faults, whether it accepts, and the suite as a whole.

import { change, endpointPath, token } from "./api.js";
import { make, say, sync } from "./dom.js";
import { attempt, done } from "./notice.js";

/** The controls of one endpoint. */
export class EndpointControls {
  /**
   * @param place gets them.
   * @param changed is called when something has been changed.
   */
  constructor(place, name, changed) {
    this.name = name;
    this.changed = changed;
    place.append(document.importNode(document.getElementById("controls-of-endpoint").content, true));
    const button = (what) => place.querySelector(`[data-do=${what}]`);
    this.pause = button("pause");
    this.resume = button("resume");
    this.clear = button("clear");
    this.faults = place.querySelector(".in-force");
    const form = place.querySelector("form");
    this.input = form.querySelector("input");
    this.input.id = `faults-of-${name}`;
    form.querySelector("label").htmlFor = this.input.id;
    this.pause.addEventListener("click", () => this.toggle("pause", "no longer accepts"));
    this.resume.addEventListener("click", () => this.toggle("resume", "accepts again"));
    this.clear.addEventListener("click", () => this.remove(null));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.add();
    });
  }

  /** Bring them up to date. */
  show(entry) {
    const { faults } = entry.faults;
    const held = document.activeElement;
    this.pause.hidden = entry.state !== "serving";
    this.resume.hidden = entry.state !== "paused";
    if (held === this.pause && this.pause.hidden) this.resume.focus();
    if (held === this.resume && this.resume.hidden) this.pause.focus();
    this.clear.hidden = !faults.length;
    this.faults.hidden = !faults.length;
    sync(
      this.faults,
      faults,
      ({ id }) => id,
      (each) =>
        make(
          "li",
          {},
          make("code", {}, each.fault),
          make("button", { type: "button", "aria-label": `Remove ${each.fault}`, onclick: () => this.remove(each) }, "Remove"),
        ),
      (row, each) => say(row.firstElementChild, each.fault),
    );
  }

  async toggle(what, outcome) {
    const path = endpointPath(this.name, what);
    const answer = await attempt(`${this.name} was not changed`, () => change("POST", path));
    if (answer === undefined) return;
    done(`${this.name} ${outcome}`);
    this.show(answer);
    this.changed();
  }

  async add() {
    const words = this.input.value.trim();
    if (!words) return;
    const path = endpointPath(this.name, "faults");
    const answer = await attempt(`no fault was added to ${this.name}`, () =>
      change("POST", path, { faults: [words] }),
    );
    if (answer === undefined) return;
    this.input.value = "";
    done(`${this.name}: ${words} is in force for what comes from now on`);
    this.changed();
  }

  async remove(fault) {
    const path = fault === null ? endpointPath(this.name, "faults") : endpointPath(this.name, "faults", String(fault.id));
    const answer = await attempt(`the faults of ${this.name} were not changed`, () => change("DELETE", path));
    if (answer === undefined) return;
    done(fault === null ? `${this.name} has no faults any more` : `${this.name}: ${fault.fault} is no longer in force`);
    this.input.focus();
    this.changed();
  }
}

/** The controls of the suite as a whole. */
export function controlSuite(changed) {
  const actions = document.querySelector(".actions");
  actions.hidden = false;
  const button = (what) => actions.querySelector(`[data-do=${what}]`);
  const drain = dialog("drain-dialog", button("drain"));
  const asking = dialog("token-dialog", button("token"));

  button("reload").addEventListener("click", async () => {
    const answer = await attempt("the configuration was not reloaded", () => change("POST", "/api/v1/reload"));
    if (answer !== undefined) done(`reloaded: ${answer.reloaded}`);
    changed();
  });

  drain.querySelector("[data-confirm]").addEventListener("click", async () => {
    drain.close();
    const answer = await attempt("the suite was not drained", () => change("POST", "/api/v1/drain"));
    if (answer !== undefined) done("the suite is draining, and will end");
    changed();
  });

  const input = document.getElementById("token");
  asking.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    input.value = "";
    asking.close();
    done("the token is kept for this tab");
  });
  asking.querySelector("[data-forget]").addEventListener("click", () => {
    token.forget();
    input.value = "";
    asking.close();
    done("the token is forgotten");
  });

  const all = document.getElementById("all-controls");
  const clear = make("button", { type: "button", onclick: clearAll }, "Clear all faults");
  all.append(clear);

  async function clearAll() {
    const answer = await attempt("the faults were not cleared", () => change("DELETE", "/api/v1/faults"));
    if (answer !== undefined) done("no endpoint has faults any more");
    changed();
  }
}

function dialog(id, opener) {
  const found = document.getElementById(id);
  opener.addEventListener("click", () => found.showModal());
  found.querySelector("[data-close]").addEventListener("click", () => found.close());
  return found;
}
