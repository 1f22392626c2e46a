// Ask. The same query runs again when the time changes; two times give a diff.

import { h, tabs, problem, number, toast } from "../dom.js";
import { post, latest, events } from "../api.js";
import { editor } from "../editor.js";
import * as show from "../results.js";

const CLAUSES = [":find", ":where", ":in", ":with", ":keys", ":strs", ":order-by", ":limit", ":offset", ":timeout"];
const CALLS = "not not-join or or-join and pull count count-distinct sum avg min max median variance stddev distinct sample rand = != not= < <= > >= missing? contains? starts-with? ends-with? includes? re-find + - * / quot rem mod inc dec abs str subs name namespace keyword upper-case lower-case ground identity get-else get-some tuple untuple vector".split(" ");
const kept = new Map();

export default async function page(root, app, _arg, params) {
  const schema = await app.schema();
  const memory = kept.get(app.db) ?? { view: "table" };
  kept.set(app.db, memory);
  memory.q = params.q ?? memory.q ?? sample(schema);
  memory.args = params.args ?? memory.args ?? "";
  memory.view = params.view ?? memory.view;

  const words = [
    ...schema.attributes.map((a) => ({ text: a.ident, note: `${a.type}${a.cardinality === "many" ? " many" : ""}` })),
    ...schema.idents.map((i) => ({ text: i, note: "ident" })),
  ];
  const ed = editor({
    value: memory.q, label: "Query", onrun: () => run(true),
    onchange: (q) => { memory.q = q; },
    complete: (called, tokens) => {
      const vars = [...new Set(tokens.filter((t) => t.type === "var").map((t) => t.text))].map((text) => ({ text, note: "variable" }));
      return called ? [...CALLS.map((text) => ({ text, note: "call" })), ...vars] : [...words, ...vars, ...CLAUSES.map((text) => ({ text, note: "clause" }))];
    },
  });
  const args = editor({
    value: memory.args, label: "Inputs, as one EDN vector", small: true, onrun: () => run(true),
    onchange: (a) => { memory.args = a; }, complete: () => words,
  });
  const argsRow = h("div", { class: "row pad-s", hidden: !memory.args }, h("span", { class: "muted small" }, ":in"), h("div", { class: "grow" }, args.el));
  const results = h("div", { class: "results" });
  const foot = h("div", { class: "foot", "aria-live": "polite" }, " ");
  let answer = null;
  let live = null;

  const views = tabs([["table", "Table"], ["json", "JSON"], ["graph", "Graph"], ["explain", "Explain"]], memory.view, (v) => {
    memory.view = v;
    app.note({ view: v === "table" ? null : v });
    if (v === "explain") explain(); else if (answer) draw(); else run(false);
  }, "Result as");
  const liveButton = h("button", { type: "button", "aria-pressed": "false", title: "Keep the answer up to date", onclick: () => (live ? unlive() : golive()) }, "Live");

  const body = () => {
    const b = { query: ed.value, types: true };
    if (args.value.trim()) b.args_edn = args.value;
    return b;
  };
  const ask = latest(async (signal) => {
    const t = app.timeline;
    const begun = performance.now();
    const got = t.mode === "diff"
      ? await post(app.path("/diff"), { ...body(), t1: t.from, t2: t.to ?? t.basis }, signal)
      : await post(app.path("/query"), { ...body(), ...app.time() }, signal);
    return { ...got, ms: performance.now() - begun, diff: t.mode === "diff" };
  });

  async function run(noted) {
    if (noted) app.note({ q: ed.value, args: args.value || null });
    try {
      const got = await ask();
      if (!got) return;
      answer = normal(got);
      ed.mark(null);
      if (memory.view === "explain") explain(); else draw();
    } catch (e) {
      answer = null;
      ed.mark(e.of === undefined || e.of === "query" ? e.span : null);
      results.replaceChildren(h("div", { class: "pad" }, problem(e)));
      foot.replaceChildren(" ");
    }
  }

  function draw() {
    const link = (e) => app.entity(e);
    const at = results.querySelector(".scroll")?.scrollTop;
    if (memory.view === "json") results.replaceChildren(show.json(answer.raw));
    else if (memory.view === "graph") results.replaceChildren(show.graph(answer));
    else results.replaceChildren(show.table({ ...answer, notes: answer.notes?.map((t) => t && { href: app.href("tx", t), text: `t${t}` }) }, link));
    const scroll = results.querySelector(".scroll");
    if (scroll && at) scroll.scrollTop = at;
    const added = answer.signs?.filter((s) => s === "+").length ?? 0;
    foot.replaceChildren(
      answer.signs ? h("span", {}, h("span", { class: "chip add" }, `+${number(added)}`), " ", h("span", { class: "chip del" }, `−${number(answer.signs.length - added)}`)) : h("span", {}, `${number(answer.rows.length)} ${answer.rows.length === 1 ? "row" : "rows"}`),
      h("span", {}, `${answer.ms.toFixed(answer.ms < 10 ? 1 : 0)} ms`),
      answer.scanned !== undefined ? h("span", {}, `${number(answer.scanned)} facts read`) : "",
      h("span", { class: "grow" }), h("span", {}, `basis t${number(answer.basis)}`));
  }

  async function explain() {
    try {
      const got = await post(app.path("/explain"), { ...body(), ...app.time() });
      results.replaceChildren(got.plan ? show.plan(got.plan) : show.plan(show.planOfText(got.text)));
      foot.replaceChildren(h("span", {}, `${number(got.rows)} rows, ${number(got["rows-made"])} made on the way`), h("span", {}, `${(got["elapsed-us"] / 1000).toFixed(1)} ms`));
    } catch (e) { results.replaceChildren(h("div", { class: "pad" }, problem(e))); }
  }

  function unlive() {
    live?.();
    live = null;
    liveButton.setAttribute("aria-pressed", "false");
    liveButton.classList.remove("primary");
  }
  function golive() {
    liveButton.setAttribute("aria-pressed", "true");
    liveButton.classList.add("primary");
    app.timeline.set({ mode: "at", t: null });
    live = events(app.path("/subscribe"), {
      body: body(),
      onstate: (s, e) => { if (s === "failed") { unlive(); results.replaceChildren(h("div", { class: "pad" }, problem(e))); } },
      onevent: (e) => {
        const data = JSON.parse(e.data);
        if (e.event === "snapshot") answer = normal({ ...data, ms: 0 });
        else if (e.event === "change") {
          const gone = new Set(data.removed.map((r) => JSON.stringify(r)));
          const rows = answer.rows.filter((r) => !gone.has(JSON.stringify(r))).concat(data.added);
          answer = { ...answer, rows, basis: data.t, raw: { ...answer.raw, rows, "basis-t": data.t } };
          app.refresh();
        } else return;
        draw();
      },
    });
  }

  function share() {
    app.note({ q: ed.value, args: args.value || null, ...(app.timeline.mode === "at" ? { t: app.timeline.at() } : {}) });
    navigator.clipboard?.writeText(location.href).then(() => toast("Link copied: it shows this query at this t, always."), () => toast("The address holds query and t."));
  }

  const side = schemaSide(schema, (text) => ed.insert(text));
  root.replaceChildren(h("div", { class: "query" }, side, h("div", { class: "work" },
    h("div", { class: "card" },
      h("div", { class: "head" }, h("h1", { class: "sr" }, "Query"),
        h("button", { class: "primary", type: "button", onclick: () => run(true) }, "Run"), h("span", { class: "muted small hide-s" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter")),
        h("span", { class: "grow" }),
        h("button", { class: "ghost", type: "button", onclick: () => { argsRow.hidden = !argsRow.hidden; } }, "Inputs"),
        liveButton,
        h("button", { class: "ghost", type: "button", onclick: share }, "Share")),
      ed.el, argsRow),
    h("div", { class: "card" }, h("div", { class: "head" }, views, h("span", { class: "grow" }),
      h("button", { class: "ghost hide-s", type: "button", title: "Download as CSV", onclick: () => csv(answer) }, "CSV")), results, foot))));

  app.ontime = () => { unlive(); run(false); };
  app.leave = unlive;
  await run(false);
}

/** Every shape of answer as columns and rows. */
function normal(got) {
  const base = { ms: got.ms, basis: got["basis-t"], raw: got, scanned: got.stats?.scanned };
  if (got.diff) {
    // What changed stands together: the old row above the new one.
    const all = [...got.added.map((x) => ({ ...x, sign: "+" })), ...got.removed.map((x) => ({ ...x, sign: "-" }))]
      .map((x) => ({ ...x, row: Array.isArray(x.row) ? x.row : [x.row] }))
      .sort((a, b) => {
        const [x, y] = [JSON.stringify(a.row[0]), JSON.stringify(b.row[0])];
        return x === y ? (a.sign < b.sign ? 1 : a.sign > b.sign ? -1 : 0) : x < y ? -1 : 1;
      });
    return { ...base, columns: got.columns, types: got.types ?? [], rows: all.map((x) => x.row), signs: all.map((x) => x.sign), notes: all.map((x) => x.t) };
  }
  let { rows } = got;
  if (got.shape === "scalar") rows = rows === null ? [] : [[rows]];
  else if (got.shape === "tuple") rows = rows === null ? [] : [rows];
  else if (got.shape === "coll") rows = rows.map((v) => [v]);
  else if (got.shape === "maps") rows = rows.map((m) => got.keys.map((k) => m[k]));
  return { ...base, columns: got.shape === "maps" ? got.keys : got.columns, types: got.types ?? [], rows };
}

function schemaSide(schema, insert) {
  const groups = new Map();
  for (const a of schema.attributes) {
    const ns = a.ident.slice(1).split("/")[0];
    if (/^(db|db\..*|tx|event|annals)$/.test(ns)) continue;
    groups.set(ns, [...(groups.get(ns) ?? []), a]);
  }
  const builtin = schema.attributes.filter((a) => /^:(tx|event)\/|^:db\/(ident|doc|txInstant)$/.test(a.ident));
  if (builtin.length) groups.set("built in", builtin);
  const few = groups.size <= 6;
  const el = h("aside", { class: "side folded", "aria-label": "Schema" },
    h("div", { class: "sidehead" }, h("h2", {}, "Attributes"), h("button", { class: "ghost small foldbutton", type: "button", onclick: () => el.classList.toggle("folded") }, "show or hide")),
    [...groups].map(([ns, attrs]) => h("details", { open: few && ns !== "built in" }, h("summary", {}, ns),
      attrs.map((a) => h("button", { class: "attr", type: "button", title: a.doc ?? `insert ${a.ident}`, onclick: () => insert(a.ident) },
        h("span", { class: "mono" }, a.ident.slice(a.ident.indexOf("/") + 1)), h("span", { class: "ty" }, a.type, a.cardinality === "many" ? " *" : "", a.unique ? " ◆" : ""))))));
  return el;
}

function sample(schema) {
  const own = schema.attributes.filter((a) => !/^:(db|tx|event)[./]/.test(a.ident));
  const unique = own.find((a) => a.unique === "identity") ?? own[0];
  if (!unique) return "[:find ?t ?when\n :where [?t :db/txInstant ?when]]";
  const ns = unique.ident.split("/")[0];
  const other = own.find((a) => a !== unique && a.ident.startsWith(`${ns}/`) && a.type !== "ref") ?? own.find((a) => a !== unique && a.ident.startsWith(`${ns}/`));
  return other
    ? `[:find ?id ?${other.ident.split("/")[1]}\n :where [?e ${unique.ident} ?id]\n        [?e ${other.ident} ?${other.ident.split("/")[1]}]]`
    : `[:find ?e ?v\n :where [?e ${unique.ident} ?v]]`;
}

function csv(answer) {
  if (!answer) return;
  const field = (v) => { const s = v === null || v === undefined ? "" : typeof v === "object" ? JSON.stringify(v) : String(v); return /[",\n]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s; };
  const text = [answer.columns, ...answer.rows].map((r) => r.map(field).join(",")).join("\n");
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  h("a", { href: url, download: "rows.csv" }).click();
  URL.revokeObjectURL(url);
}

