// Projections: where each one is, how far behind, and what to do about it.

import { h, number, problem, toast } from "../dom.js";
import { get, post } from "../api.js";

export default async function page(root, app) {
  const box = h("div", { class: "stack" });
  root.replaceChildren(h("div", { class: "stack" }, h("h1", {}, "Projections"), box));
  const act = (name, verb) => async () => {
    try { await post(app.path(`/projections/${encodeURIComponent(name)}/${verb}`)); toast(`${name}: ${verb} asked for`); await draw(); }
    catch (e) { box.prepend(problem(e)); }
  };
  async function draw() {
    const got = await get(app.path("/projections"));
    if (!got.projections.length) { box.replaceChildren(h("div", { class: "card empty" }, "No projections. A projection turns events into facts: add one with ", h("code", {}, "annals projection DB add FILE"), ".")); return; }
    box.replaceChildren(...got.projections.map((p) => {
      const part = got.head ? Math.min(1, p.position / got.head) : 1;
      const bar = h("i");
      bar.style.width = `${part * 100}%`;
      return h("div", { class: "card" },
        h("div", { class: "head" }, h("span", { class: `dot ${p.state}` }), h("h2", {}, p.name), h("span", { class: "chip" }, `version ${p.version}`), h("span", { class: "chip" }, p.mode), h("span", { class: `chip ${p.state === "live" ? "now" : "past"}` }, p.state), h("span", { class: "grow" }),
          p.mode === "async" && (p.state === "paused" ? h("button", { type: "button", onclick: act(p.name, "resume") }, "Resume") : h("button", { type: "button", onclick: act(p.name, "pause") }, "Pause")),
          p.mode === "async" && p.lag > 0 && h("button", { type: "button", onclick: act(p.name, "catch-up") }, "Catch up")),
        h("div", { class: "pad stack" }, h("div", { class: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": String(got.head), "aria-valuenow": String(p.position), "aria-label": `${p.name} position` }, bar),
          h("p", { class: "small muted" }, `position ${number(p.position)} of ${number(got.head)}`, p.lag ? ` · ${number(p.lag)} behind` : " · caught up"),
          p.why && h("div", { class: "problem" }, h("b", {}, "Stopped"), ` ${p.why}`)));
    }));
  }
  await draw();
  const timer = setInterval(() => draw().catch(() => {}), 2000);
  app.leave = () => clearInterval(timer);
}
