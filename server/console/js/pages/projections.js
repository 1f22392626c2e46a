// Projections: where each one is, how far behind, what it has set aside, and what to do about it.

import { h, number, problem, toast } from "../dom.js";
import { get, post } from "../api.js";

export default async function page(root, app) {
  const box = h("div", { class: "stack" });
  const trouble = h("div", { role: "alert" });
  root.replaceChildren(h("div", { class: "stack" }, h("h1", {}, "Projections"), trouble, box));
  const at = (name, rest) => app.path(`/projections/${encodeURIComponent(name)}/${rest}`);
  /** What was opened stays open when the page draws itself again. */
  const open = new Set();
  let drawn = "";

  const act = (name, rest, said, body) => async () => {
    trouble.replaceChildren();
    try { await post(at(name, rest), body); toast(`${name}: ${said}`); await draw(true); }
    catch (e) { trouble.replaceChildren(problem(e)); }
  };
  const button = (text, onclick, title) => h("button", { type: "button", onclick, title }, text);

  function setAside(p, doc) {
    const parked = doc.parked.map((e) => {
      const why = h("input", { "aria-label": `why event ${e.position} is left out`, placeholder: "why leave it out?", size: "18" });
      return h("tr", {},
        h("td", { class: "num" }, number(e.position)),
        h("td", {}, h("a", { href: app.href("stream", e.stream) }, e.stream)),
        h("td", {}, e.type),
        h("td", { class: "wrap" }, e.why),
        h("td", {}, h("form", { class: "row", onsubmit: (ev) => { ev.preventDefault(); act(p.name, "skip", `event ${e.position} is left out from the next version on`, { position: e.position, why: why.value })(); } },
          why, h("button", { type: "submit" }, "Skip"))));
    });
    const skipped = doc.skipped.map((e) => h("li", {}, `event ${number(e.position)}: ${e.why} `, h("span", { class: "muted" }, `(${e.by}, t${e.t})`)));
    return h("div", { class: "stack" },
      parked.length ? h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...["position", "stream", "type", "why", ""].map((t) => h("th", { scope: "col" }, t)))), h("tbody", {}, ...parked))) : h("p", { class: "muted" }, "Nothing is parked."),
      parked.length > 0 && h("p", {}, button("Replay", act(p.name, "parked/replay", "parked events taken again"), "Take the parked events again, after a fix or a skip")),
      skipped.length > 0 && h("div", {}, h("h3", {}, "Left out"), h("ul", {}, ...skipped)));
  }

  function card(p, head) {
    const bar = h("i");
    bar.style.width = `${(head ? Math.min(1, p.position / head) : 1) * 100}%`;
    const details = h("details", { open: open.has(p.name) }, h("summary", {}, p.parked ? `${number(p.parked)} parked` : "Parked and left out"));
    const fill = async () => {
      try { details.replaceChildren(details.firstChild, setAside(p, await get(at(p.name, "parked")))); }
      catch (e) { details.replaceChildren(details.firstChild, problem(e)); }
    };
    details.addEventListener("toggle", () => { if (details.open) { open.add(p.name); fill(); } else open.delete(p.name); });
    return h("div", { class: "card" },
      h("div", { class: "head" }, h("span", { class: `dot ${p.state}` }), h("h2", {}, p.name), h("span", { class: "chip" }, `version ${p.version}`), h("span", { class: "chip" }, p.mode), h("span", { class: `chip ${p.state === "live" ? "now" : "past"}` }, p.state), h("span", { class: "grow" }),
        p.state === "paused" || p.state === "halted" ? button("Resume", act(p.name, "resume", "goes on")) : button("Pause", act(p.name, "pause", "paused")),
        p.mode === "async" && p.lag > 0 && button("Catch up", act(p.name, "catch-up", "caught up")),
        button("Rebuild", act(p.name, "rebuild", "a new version is being built beside this one"), "Build the next version from all events; this one answers until it is done")),
      h("div", { class: "pad stack" },
        h("div", { class: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": String(head), "aria-valuenow": String(p.position), "aria-label": `${p.name} position` }, bar),
        h("p", { class: "small muted" }, `position ${number(p.position)} of ${number(head)}`, p.lag ? ` · ${number(p.lag)} behind` : " · caught up", p.attributes.length ? ` · ${p.attributes.join(" ")}` : ""),
        (p.why || p.trouble) && h("div", { class: "problem" }, h("b", {}, p.why ? "Stopped" : "Trying again"), ` ${p.why ?? p.trouble}`),
        details));
  }

  async function draw(always) {
    const got = await get(app.path("/projections"));
    // Somebody may be typing: only what changed is drawn anew.
    const text = JSON.stringify(got.projections) + got.head;
    if (!always && text === drawn) return;
    drawn = text;
    if (!got.projections.length) { box.replaceChildren(h("div", { class: "card empty" }, "No projections. A projection turns events into facts: add one with ", h("code", {}, "annals projection DB add FILE"), ".")); return; }
    box.replaceChildren(...got.projections.map((p) => card(p, got.head)));
  }
  await draw(true);
  const timer = setInterval(() => draw().catch(() => {}), 2000);
  app.leave = () => clearInterval(timer);
}
