// The schema: every attribute, what it means, how much there is of it.

import { h, number } from "../dom.js";
import { get } from "../api.js";

export default async function page(root, app) {
  const list = h("tbody");
  const filter = h("input", { type: "search", placeholder: "filter attributes", "aria-label": "Filter attributes" });
  const all = h("input", { type: "checkbox" });
  let schema;
  const draw = () => {
    const wanted = filter.value.trim().toLowerCase();
    list.replaceChildren(...schema.attributes.filter((a) => a.ident.toLowerCase().includes(wanted) && (all.checked || !/^:db[./]/.test(a.ident))).map((a) => h("tr", {},
      h("td", {}, h("a", { class: "v-kw", href: app.href("query", undefined, { q: `[:find ?e ?v\n :where [?e ${a.ident} ?v]]`, ...app.timeParams() }) }, a.ident)),
      h("td", {}, a.type), h("td", {}, a.cardinality),
      h("td", {}, [a.unique && `unique ${a.unique}`, a.index && "indexed", a.component && "component", a["no-history"] && "no history"].filter(Boolean).join(", ")),
      h("td", { class: "num" }, a.rows === undefined ? "" : number(a.rows)), h("td", { class: "muted" }, a.doc ?? ""))));
  };
  filter.addEventListener("input", draw);
  all.addEventListener("change", draw);
  root.replaceChildren(h("div", { class: "stack" }, h("h1", {}, "Schema"), h("div", { class: "card" },
    h("div", { class: "head" }, filter, h("label", { class: "row small" }, all, "built in ones too"), h("span", { class: "grow" }), h("span", { class: "muted small", id: "as-of-note" })),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["attribute", "type", "cardinality", "marks"].map((t) => h("th", {}, t)), h("th", { class: "num" }, "facts"), h("th", {}, "meaning"))), list)))));
  const load = async () => {
    const t = app.timeline.t;
    schema = await get(app.path(`/schema?counts${t === null || app.timeline.mode === "diff" ? "" : `&as-of=${t}`}`));
    draw();
  };
  await load();
  app.ontime = (_c, final) => { if (final) load(); };
}
