// The page comes to life: it asks, shows what it is told, and says when it is told nothing.

import { Cards } from "./cards.js";
import { controlSuite } from "./controls.js";
import { say } from "./dom.js";
import { Events } from "./events.js";
import { Live } from "./live.js";
import { Bound, showNone } from "./overview.js";
import { clock, instant } from "./wording.js";

const link = document.getElementById("link");
const state = document.getElementById("state");
const reasons = document.getElementById("reasons");
const problem = document.getElementById("reload-problem");

const whole = new Bound(document.getElementById("glance"), document.querySelector(".side"));
const cards = new Cards();
const live = new Live(document.body.dataset);
let seen = null;

function showState(status) {
  const word = status.state === "serving" && !status.ready ? "not ready" : status.state;
  say(state, word);
  state.dataset.state = word;
  document.title = `${word} – echo suite`;
  const lines = [...status.reasons, ...status.not_served.map((each) => each.problem)];
  reasons.hidden = !lines.length;
  const list = reasons.querySelector("ul");
  if (list.textContent !== lines.join("")) {
    list.replaceChildren(
      ...lines.map((each) => {
        const item = document.createElement("li");
        item.textContent = each;
        return item;
      }),
    );
  }
  problem.hidden = !status.reloads.problem;
  say(problem, status.reloads.problem ?? "");
  say(document.getElementById("last-reload"), status.reloads.last ? `; the last one ${instant(status.reloads.last)}` : "");
}

live.addEventListener("found", ({ detail }) => {
  seen = new Date();
  document.body.dataset.link = "live";
  say(link, "live");
  showState(detail.status);
  whole.show(detail.status, detail.now, detail.seconds);
  showNone();
  cards.show(detail);
});

live.addEventListener("lost", ({ detail }) => {
  document.body.dataset.link = "lost";
  const then = seen ? `; the numbers are those of ${clock(seen)} UTC` : "";
  say(link, detail.reason || `connection lost, retrying${then}`);
  document.title = "connection lost – echo suite";
  whole.lose(detail.now);
  cards.lose(detail.now);
});

live.addEventListener("rested", ({ detail }) => {
  document.body.dataset.link = "resting";
  say(link, "resting");
  whole.lose(detail.now);
  cards.lose(detail.now);
});

controlSuite(() => {});
new Events();
live.look();
