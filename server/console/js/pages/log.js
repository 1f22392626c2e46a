// The log: who changed what and when, newest first; and one transaction with all it did.

import { h, number, when, ago } from "../dom.js";
import { get } from "../api.js";
import { names } from "../names.js";
import { cell } from "../results.js";

const PAGE = 40;

export async function log(root, app) {
  const list = h("div", { class: "list" });
  const more = h("div", { class: "foot" });
  let next = null;
  const upto = () => app.timeline.at();
  async function load(to) {
    const from = Math.max(0, to - PAGE + 1);
    const got = await get(app.path(`/log?from=${from}&to=${to + 1}&datoms=3`));
    for (const tx of got.transactions.reverse()) list.append(row(tx, app));
    next = from > 0 ? from - 1 : null;
    more.replaceChildren(next === null ? "The beginning." : h("button", { type: "button", onclick: () => load(next) }, "Older"));
  }
  const again = async () => { list.replaceChildren(); await load(upto()); };
  root.replaceChildren(h("div", { class: "stack" }, h("h1", {}, "Transactions"), h("div", { class: "card" }, list, more)));
  app.ontime = (_choice, final) => { if (final) again(); };
  await again();
}

function row(tx, app) {
  const shown = tx.datoms.filter((d) => d[1] !== ":db/txInstant" && !d[1].startsWith(":tx/")).slice(0, 3);
  return h("a", { class: "item", href: app.href("tx", tx.t, app.timeParams()) },
    h("span", { class: "k" }, `t${number(tx.t)}`),
    h("span", { class: "d" }, shown.length ? shown.map((d, i) => [i ? " · " : "", h("span", { class: "v-kw" }, d[1]), " ", h("span", { class: d[4] ? "" : "muted" }, brief(d[2]))]) : tx.events?.length ? tx.events.slice(0, 3).map((e, i) => [i ? " · " : "", h("b", {}, e.type), " ", e.stream]) : h("span", { class: "muted" }, "nothing but itself"),
      tx["datom-count"] > 3 ? h("small", {}, `  and ${number(tx["datom-count"] - shown.length)} more`) : ""),
    h("span", { class: "muted small", title: when(tx["tx-instant"], true) }, tx.principal ? `${tx.principal} · ` : "", when(tx["tx-instant"])));
}

const brief = (v) => { const s = typeof v === "object" ? JSON.stringify(v) : String(v); return s.length > 48 ? `${s.slice(0, 46)}…` : s; };

export async function transaction(root, app, arg) {
  const t = Number(arg);
  const [got, schema] = await Promise.all([get(app.path(`/log?from=${t}&to=${t + 1}`)), app.schema()]);
  const tx = got.transactions[0];
  if (!tx) { root.replaceChildren(h("div", { class: "empty" }, `There is no transaction t${arg} yet.`)); return; }
  const types = new Map(schema.attributes.map((a) => [a.ident, a.type]));
  const own = tx.datoms.filter((d) => d[0] === tx.tx);
  const facts = tx.datoms.filter((d) => d[0] !== tx.tx);
  const called = await names(app, facts.flatMap((d) => types.get(d[1]) === "ref" ? [d[0], d[2]] : [d[0]]));
  const groups = new Map();
  for (const d of facts) groups.set(d[0], [...(groups.get(d[0]) ?? []), d]);
  const line = (d) => h("tr", { class: d[4] ? "add" : "del" }, h("td", { class: "sign" }, d[4] ? "+" : "−"), h("td", {}, h("span", { class: "v-kw" }, d[1])), h("td", {}, cell(d[2], types.get(d[1]) ?? "mixed", (e) => app.entity(e), called)));
  root.replaceChildren(h("div", { class: "stack" },
    h("div", { class: "row" }, h("h1", {}, `Transaction t${number(tx.t)}`), h("span", { class: "grow" }),
      h("a", { href: app.href("tx", t - 1, app.timeParams()), "aria-label": "Previous transaction" }, t > 0 ? "← earlier" : ""), h("a", { href: app.href("tx", t + 1, app.timeParams()) }, t < got["basis-t"] ? "later →" : "")),
    h("div", { class: "columns" },
      h("div", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Who, when, why")), h("dl", { class: "facts" },
        h("dt", {}, "when"), h("dd", {}, when(tx["tx-instant"], true), h("br"), h("span", { class: "muted small" }, ago(tx["tx-instant"]))),
        own.filter((d) => d[1] !== ":db/txInstant").map((d) => [h("dt", {}, d[1].replace(/^:tx\//, "")), h("dd", {}, cell(d[2], types.get(d[1]) ?? "mixed", (e) => app.entity(e)))]),
        h("dt", {}, "facts"), h("dd", {}, h("span", { class: "chip add" }, `+${facts.filter((d) => d[4]).length}`), " ", h("span", { class: "chip del" }, `−${facts.filter((d) => !d[4]).length}`)),
        h("dt", {}, "events"), h("dd", {}, (tx.events ?? []).length ? tx.events.map((e) => h("div", {}, h("a", { href: app.href("stream", e.stream) }, e.stream), ` #${e.version} `, h("b", {}, e.type))) : "none"),
        h("dt", {}, "then"), h("dd", {}, h("a", { href: app.href("query", undefined, { t: tx.t }) }, "query as of here"), " · ", h("a", { href: app.href("query", undefined, { t1: Math.max(0, tx.t - 1), t2: tx.t }) }, "diff with before")))),
      h("div", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Facts")), facts.length ? h("div", { class: "scroll" }, [...groups].map(([e, ds]) => h("table", {}, h("thead", {}, h("tr", {}, h("th", { colspan: "3" }, h("a", { class: "v-ref", href: app.entity(e), title: String(e) }, called.get(e) ?? String(e))))), h("tbody", {}, ds.map(line))))) : h("div", { class: "empty" }, "No facts but its own.")))));
}
