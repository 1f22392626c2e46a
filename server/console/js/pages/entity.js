// One entity's life: for each attribute the values it had, as bars over time.

import { h, number, when } from "../dom.js";
import { get } from "../api.js";
import { names } from "../names.js";
import { cell } from "../results.js";

export default async function page(root, app, arg) {
  const got = await get(app.path(`/entity/${encodeURIComponent(arg)}/history`));
  const values = got.values;
  const name = values.find((v) => v.attr === ":db/ident") ?? values.find((v) => v.unique);
  const called = await names(app, values.filter((v) => v.type === "ref").map((v) => v.value));
  const lanes = new Map();
  for (const v of values) lanes.set(v.attr, [...(lanes.get(v.attr) ?? []), v]);
  const link = (e) => app.entity(e);
  const cursors = [];
  const now = h("dl", { class: "facts" });

  const track = (list) => {
    // Values that overlap (cardinality many) go below one another.
    const rows = [];
    for (const v of list) {
      let r = rows.findIndex((end) => end <= v["from-t"]);
      if (r < 0) r = rows.push(0) - 1;
      rows[r] = v["to-t"] ?? Infinity;
      v.row = r;
    }
    const el = h("div", { class: "track" }, list.map((v) => {
      const x0 = app.timeline.xOf(v["from-t"]);
      const x1 = v["to-t"] === null ? 1 : app.timeline.xOf(v["to-t"]);
      const name = v.type === "ref" ? called.get(v.value) : undefined;
      const text = name ?? (typeof v.value === "object" ? JSON.stringify(v.value) : String(v.value));
      return h("button", {
        type: "button", class: v["to-t"] === null ? "iv" : "iv closed",
        title: `${text}\nfrom t${v["from-t"]} ${when(v.from)}${v["to-t"] === null ? "" : `\nuntil t${v["to-t"]} ${when(v.to)}`}`,
        style: { left: `${x0 * 100}%`, width: `max(5px, ${Math.max(0, x1 - x0) * 100}%)`, top: `${v.row * 28}px` },
        onclick: () => { location.hash = app.href("tx", v["from-t"], app.timeParams()).slice(1); },
      }, text);
    }));
    el.style.height = `${rows.length * 28}px`;
    const cursor = h("div", { class: "cursor" });
    cursors.push(cursor);
    el.append(cursor);
    return el;
  };

  const paint = () => {
    const at = app.timeline.at();
    for (const c of cursors) { c.style.left = `${app.timeline.xOf(at) * 100}%`; c.hidden = app.timeline.t === null; }
    const held = values.filter((v) => v["from-t"] <= at && (v["to-t"] === null || v["to-t"] > at));
    now.replaceChildren(...(held.length ? held.flatMap((v) => [h("dt", { class: "v-kw" }, v.attr), h("dd", {}, cell(v.value, v.type, link, called))]) : [h("dt", {}, "nothing"), h("dd", {}, "No facts at this time.")]));
  };

  root.replaceChildren(h("div", { class: "stack" },
    h("div", { class: "row" }, h("h1", {}, name ? String(name.value) : `Entity ${arg}`), h("span", { class: "chip mono" }, String(got.e)), h("span", { class: "muted small" }, `${number(values.length)} facts over its life`), h("span", { class: "grow" }),
      h("a", { href: app.href("query", undefined, { q: `[:find ?a ?v ?t\n :where [${got.e} ?attr ?v ?t]\n        [?attr :db/ident ?a]]`, ...app.timeParams() }) }, "query it")),
    h("div", { class: "columns" },
      h("div", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "At the chosen time")), now),
      h("div", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Over time"), h("span", { class: "muted small" }, "filled: still true · grey: was true")),
        values.length ? h("div", { class: "lanes" }, [...lanes].map(([attr, list]) => h("div", { class: "lane" }, h("div", { class: "name" }, attr), track(list)))) : h("div", { class: "empty" }, "Nothing was ever said of this entity.")))));
  paint();
  app.ontime = paint;
}
