// Asking what the suite does, about once a second while the page can be seen; two requests each time.

import { Refused, endpointPath, get } from "./api.js";

/** Milliseconds between two questions; a server that takes long is asked more seldom. */
const INTERVAL = 1000;

/** An answer may take this part of the time. */
const SHARE = 0.1;

/** Milliseconds before a server that does not answer is asked again. */
const RETRY = 1000;

/** Seconds after which what happened meanwhile is no rate of now. */
const GAP = 8;

/** Tells `found` with what there is, `lost` when there is no answer, and `rested` when nobody looks.
 *
 * Of `found`: `status` and `endpoints` are the API's; `now` is the time, `seconds` the time since the answer
 * before (null: there was none, or it was another process), by the clocks of the browser and of the suite.
 */
export class Live extends EventTarget {
  constructor({ after, only, limit }) {
    super();
    const query = new URLSearchParams({ limit, ...(after ? { after } : {}) });
    this.only = only;
    this.path = only ? endpointPath(only) : `/api/v1/endpoints?${query}`;
    this.before = null;
    this.timer = 0;
    this.asking = false;
    document.addEventListener("visibilitychange", () => this.look());
  }

  /** Begin, or go on, or rest, as there is somebody who looks. */
  look() {
    clearTimeout(this.timer);
    if (document.hidden) this.tell("rested", {});
    else if (!this.asking) this.ask();
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail: { now: performance.now() / 1000, ...detail } }));
  }

  async ask() {
    this.asking = true;
    const began = performance.now();
    let wait = RETRY;
    try {
      const status = await get("/api/v1/status");
      const page = await get(this.path);
      const took = performance.now() - began;
      wait = Math.max(INTERVAL - took, took / SHARE, 0);
      this.found(status, this.only ? [page] : page.endpoints);
    } catch (error) {
      this.before = null;
      this.tell("lost", { reason: error instanceof Refused ? error.message : "" });
      if (!(error instanceof Error)) throw error;
    } finally {
      this.asking = false;
      if (!document.hidden) this.timer = setTimeout(() => this.ask(), wait);
    }
  }

  found(status, endpoints) {
    const { before } = this;
    const same = before !== null && before.pid === status.pid && before.started === status.started;
    const seconds = same ? status.uptime - before.uptime : null;
    this.before = status;
    const usable = seconds !== null && seconds > 0 && seconds < GAP;
    this.tell("found", { status, endpoints, seconds: usable ? seconds : null });
  }
}
