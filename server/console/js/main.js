// The frame: databases, pages, the timeline they share, the address that holds it all.
// The address is the state: `#/orders/query?q=…&t=42` shows the same to whoever opens it.

import { h, $, problem, toast } from "./dom.js";
import { get, db as base, setToken, hasToken } from "./api.js";
import { Timeline } from "./timeline.js";
import query from "./pages/query.js";
import { log, transaction } from "./pages/log.js";
import entity from "./pages/entity.js";
import { streams, stream } from "./pages/streams.js";
import projections from "./pages/projections.js";
import schema from "./pages/schema.js";

const PAGES = { query, log, tx: transaction, e: entity, streams, stream, projections, schema };
const NAV = [["query", "Query"], ["log", "Log"], ["streams", "Streams"], ["projections", "Projections"], ["schema", "Schema"]];
const UNDER = { tx: "log", stream: "streams", e: "query" };

const app = {
  db: null,
  basis: 0,
  databases: [],
  schemas: new Map(),
  leave: null,
  path: (rest = "") => base(app.db) + rest,
  href: (page, arg, params) => address(app.db, page, arg, params),
  entity: (e) => address(app.db, e >= 2 ** 44 && e < 2 ** 45 ? "tx" : "e", e >= 2 ** 44 && e < 2 ** 45 ? e - 2 ** 44 : e, timeParams()),
  /** Time as chosen on the timeline, as a request says it. */
  time: () => (timeline.mode === "at" && timeline.t !== null ? { as_of: timeline.t } : {}),
  timeParams,
  /** Puts parameters into the address without running the page again. */
  note(params) {
    const now = parse();
    const all = { ...now.params, ...params };
    for (const k of Object.keys(all)) if (all[k] === null || all[k] === undefined || all[k] === "") delete all[k];
    history.replaceState(null, "", address(now.db, now.page, now.arg, all));
  },
  async schema() {
    if (!app.schemas.has(app.db)) app.schemas.set(app.db, get(app.path("/schema")).catch((e) => { app.schemas.delete(app.db); throw e; }));
    return app.schemas.get(app.db);
  },
  async refresh() {
    try {
      const data = await get(app.path("/timeline"));
      app.basis = data["basis-t"];
      timeline.load(data);
    } catch (e) { if (e.status !== 401) toast(e.detail ?? "The timeline could not be read"); }
  },
  timeline: null,
};

const timeline = (app.timeline = new Timeline($("timeline"), (choice, final) => {
  if (final) app.note(timeParams());
  app.ontime?.(choice, final);
}));

function timeParams() {
  return timeline.mode === "diff"
    ? { t: null, t1: timeline.from, t2: timeline.to }
    : { t: timeline.t, t1: null, t2: null };
}

function address(name, page, arg, params = {}) {
  const pairs = Object.entries(params).filter(([, v]) => v !== null && v !== undefined && v !== "");
  const search = pairs.length ? `?${new URLSearchParams(pairs)}` : "";
  return `#/${encodeURIComponent(name)}/${page}${arg !== undefined && arg !== "" ? `/${encodeURIComponent(arg)}` : ""}${search}`;
}

function parse() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, page = "query", arg = ""] = path.split("/").map((s) => { try { return decodeURIComponent(s); } catch { return s; } });
  return { db: name || app.databases[0]?.name, page, arg, params: Object.fromEntries(new URLSearchParams(search)) };
}

async function show() {
  const { db, page, arg, params } = parse();
  app.leave?.();
  app.leave = app.ontime = null;
  if (!db) return $("page").replaceChildren(h("div", { class: "empty" }, "This server holds no database you may see."));
  const changed = db !== app.db;
  app.db = db;
  if (changed) timeline.clear();
  $("db").value = db;
  const here = UNDER[page] ?? page;
  $("nav").replaceChildren(...NAV.map(([id, text]) => h("a", { href: address(db, id, undefined, timeParams()), "aria-current": id === here ? "page" : undefined }, text)));
  const n = (s) => (s !== undefined && /^\d+$/.test(s) ? Number(s) : null);
  timeline.mode = params.t1 !== undefined ? "diff" : "at";
  timeline.t = n(params.t);
  timeline.from = n(params.t1) ?? 0;
  timeline.to = n(params.t2);
  const root = $("page");
  const run = PAGES[page];
  document.title = `${NAV.find(([id]) => id === here)?.[1] ?? "Annals"} · ${db} · Annals`;
  try {
    if (changed) await app.refresh(); else timeline.set({});
    if (!run) throw Object.assign(new Error("no such page"), { message: "There is no such page." });
    await run(root, app, arg, params);
  } catch (e) {
    root.replaceChildren(problem(e));
  }
}

async function start() {
  theme(null);
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  $("token").addEventListener("click", ask);
  addEventListener("annals-unauthorised", () => { if (!document.querySelector("dialog")) ask(); });
  $("db").addEventListener("change", (e) => { location.hash = address(e.target.value, "query"); });
  addEventListener("hashchange", show);
  await databases();
}

async function databases() {
  try {
    app.databases = (await get("/v1/db")).databases;
    $("db").replaceChildren(...app.databases.map((d) => h("option", { value: d.name }, d.name)));
    $("token").hidden = !hasToken() && app.databases.open === true;
    app.db = null;
    await show();
  } catch (e) { $("page").replaceChildren(problem(e)); }
}

function theme(pick) {
  const stored = (() => { try { return localStorage.getItem("annals-theme"); } catch { return null; } })();
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const t = pick ?? stored ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = t;
  if (pick) { try { localStorage.setItem("annals-theme", pick); } catch { /* not remembered */ } }
}

function ask() {
  const input = h("input", { type: "password", autocomplete: "off", placeholder: "annals_…", "aria-label": "Access token" });
  const dialog = h("dialog", {}, h("form", {
    method: "dialog",
    onsubmit: () => { setToken(input.value.trim()); dialog.close(); dialog.remove(); databases(); },
  }, h("h2", {}, "Access token"), h("p", { class: "small muted" }, "Kept in the memory of this page alone; gone when you close it."), input,
  h("div", { class: "row" }, h("button", { class: "primary" }, "Use it"), h("button", { type: "button", onclick: () => { dialog.close(); dialog.remove(); } }, "Cancel"))));
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
}

start();
