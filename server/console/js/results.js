// Rows on screen: a table that draws what is looked at, JSON, a graph.

import { h, when, number } from "./dom.js";

const PAGE = 400;

/** One value, by the type the server says its column has. */
export function cell(v, type, link, names) {
  if (v === null || v === undefined) return h("span", { class: "v-nil" }, "nil");
  if (type === "ref" || type === "tx") return h("a", { class: "v-ref", href: link(v), title: names?.has(v) ? String(v) : undefined }, names?.get(v) ?? String(v));
  if (type === "instant") return h("time", { class: "v-time", datetime: String(v), title: String(v) }, when(v));
  if (type === "keyword" || typeof v === "string" && type === "mixed" && /^:[\w.*+!?-]+(\/[\w.*+!?-]+)?$/.test(v)) return h("span", { class: "v-kw" }, v);
  if (typeof v === "number") return h("span", { class: "v-num" }, String(v));
  if (typeof v === "boolean") return h("span", { class: "v-kw" }, String(v));
  if (typeof v === "object") return h("code", {}, JSON.stringify(v));
  return h("span", { class: "v-str" }, v);
}

/** `answer`: {columns, types, rows}; `signs`: "+" or "-" for each row of a diff. */
export function table({ columns, types = [], rows, signs, notes }, link) {
  if (!rows.length) return h("div", { class: "empty" }, signs ? "No difference between these two times." : "No rows at this time.");
  let order = rows.map((_, i) => i);
  let by = null;
  let shown = PAGE;
  const numeric = columns.map((_, c) => ["long", "double", "bigint", "bigdec"].includes(types[c]));
  const body = h("tbody");
  const more = h("div", { class: "empty" });
  const draw = () => {
    body.replaceChildren(...order.slice(0, shown).map((i) => h("tr", { class: signs ? (signs[i] === "+" ? "add" : "del") : undefined },
      signs && h("td", { class: "sign" }, signs[i] === "+" ? "+" : "−"),
      columns.map((_, c) => h("td", { class: numeric[c] ? "num" : undefined }, cell(rows[i][c], types[c], link))),
      notes && h("td", { class: "small" }, notes[i] ? h("a", { href: notes[i].href }, notes[i].text) : ""))));
    more.replaceChildren(...(order.length > shown ? [h("button", { type: "button", onclick: () => { shown += PAGE * 3; draw(); } }, `Show more (${number(order.length - shown)} of ${number(order.length)} not drawn)`)] : []));
    more.hidden = order.length <= shown;
  };
  const sort = (c) => {
    const down = by === c;
    by = down ? ~c : c;
    const sign = down ? -1 : 1;
    order.sort((a, b) => sign * compare(rows[a][c], rows[b][c]));
    draw();
    for (const [i, th] of [...head.querySelectorAll("th[data-c]")].entries()) th.setAttribute("aria-sort", i === c ? (down ? "descending" : "ascending") : "none");
  };
  const head = h("tr", {}, signs && h("th", {}, h("span", { class: "sr" }, "change")),
    columns.map((name, c) => h("th", { "data-c": c, class: numeric[c] ? "num" : undefined, "aria-sort": "none" },
      h("button", { type: "button", onclick: () => sort(c) }, name), types[c] && types[c] !== "mixed" && h("small", {}, types[c]))),
    notes && h("th", {}, "by"));
  draw();
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" }, h("table", {}, h("thead", {}, head), body), more);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

export function json(data) {
  return h("div", { class: "scroll", tabindex: "0" }, h("pre", { class: "json" }, JSON.stringify(data, null, 2)));
}

/** The first two columns as edges; a third, if there is one, names them. */
export function graph({ columns, rows }, dark) {
  if (columns.length < 2) return h("div", { class: "empty" }, "A graph needs two columns: what is joined to what.");
  const LIMIT = 400;
  const nodes = new Map();
  const node = (v) => {
    const key = typeof v === "object" ? JSON.stringify(v) : String(v);
    if (!nodes.has(key)) { const a = nodes.size * 2.399963; const r = 14 * Math.sqrt(nodes.size + 1); nodes.set(key, { key, x: Math.cos(a) * r, y: Math.sin(a) * r, vx: 0, vy: 0, degree: 0 }); }
    return nodes.get(key);
  };
  const links = [];
  for (const row of rows) {
    if (nodes.size > LIMIT) break;
    const [a, b] = [node(row[0]), node(row[1])];
    a.degree++; b.degree++;
    links.push([a, b, row[2]]);
  }
  const all = [...nodes.values()];
  const canvas = h("canvas", { class: "graph", tabindex: "0", role: "img", "aria-label": `Graph of ${all.length} nodes and ${links.length} edges` });
  const view = { x: 0, y: 0, k: 1 };
  let heat = 1;
  let held = null;
  const step = () => {
    for (let i = 0; i < all.length; i++) for (let j = i + 1; j < all.length; j++) {
      const [a, b] = [all[i], all[j]];
      const dx = a.x - b.x, dy = a.y - b.y, d2 = Math.max(60, dx * dx + dy * dy);
      if (d2 > 90000) continue;
      const f = 900 / d2 * heat;
      a.vx += dx * f * .06; a.vy += dy * f * .06; b.vx -= dx * f * .06; b.vy -= dy * f * .06;
    }
    for (const [a, b] of links) {
      const dx = b.x - a.x, dy = b.y - a.y, d = Math.hypot(dx, dy) || 1, f = (d - 70) / d * .04 * heat;
      a.vx += dx * f; a.vy += dy * f; b.vx -= dx * f; b.vy -= dy * f;
    }
    for (const n of all) { if (n === held) continue; n.vx -= n.x * .002 * heat; n.vy -= n.y * .002 * heat; n.x += n.vx; n.y += n.vy; n.vx *= .78; n.vy *= .78; }
    heat *= .985;
  };
  const draw = () => {
    const [w, hgt, dpr] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
    if (!w) return;
    canvas.width = w * dpr; canvas.height = hgt * dpr;
    const c = canvas.getContext("2d");
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue(name).trim();
    c.setTransform(dpr, 0, 0, dpr, 0, 0);
    c.translate(w / 2 + view.x, hgt / 2 + view.y); c.scale(view.k, view.k);
    c.lineWidth = 1 / view.k; c.strokeStyle = colour("--line-strong"); c.fillStyle = colour("--ink-3"); c.font = `${10 / view.k}px sans-serif`; c.textAlign = "center";
    for (const [a, b, name] of links) {
      c.beginPath(); c.moveTo(a.x, a.y); c.lineTo(b.x, b.y); c.stroke();
      const angle = Math.atan2(b.y - a.y, b.x - a.x), px = b.x - Math.cos(angle) * 9, py = b.y - Math.sin(angle) * 9;
      c.beginPath(); c.moveTo(px, py); c.lineTo(px - 6 * Math.cos(angle - .45), py - 6 * Math.sin(angle - .45)); c.lineTo(px - 6 * Math.cos(angle + .45), py - 6 * Math.sin(angle + .45)); c.fill();
      if (name !== undefined && links.length < 60) c.fillText(String(name).slice(0, 24), (a.x + b.x) / 2, (a.y + b.y) / 2 - 3);
    }
    c.font = `${11 / view.k}px sans-serif`;
    for (const n of all) {
      c.beginPath(); c.arc(n.x, n.y, 4 + Math.min(7, Math.sqrt(n.degree)), 0, 7); c.fillStyle = colour("--now"); c.fill();
      if (all.length < 120 || n.degree > 6) { c.fillStyle = colour("--ink"); c.fillText(n.key.slice(0, 28), n.x, n.y - 9 - Math.min(7, Math.sqrt(n.degree))); }
    }
  };
  let frame;
  const tick = () => { if (!canvas.isConnected) return; if (heat > .02 || held) { step(); draw(); } frame = requestAnimationFrame(tick); };
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) for (let i = 0; i < 250; i++) step();
  else for (let i = 0; i < 80; i++) step();
  requestAnimationFrame(() => { fit(); draw(); frame = requestAnimationFrame(tick); });
  const fit = () => {
    const far = Math.max(60, ...all.map((n) => Math.max(Math.abs(n.x) / (canvas.clientWidth / 2 - 60), Math.abs(n.y) / (canvas.clientHeight / 2 - 30)) ).map((f) => f * 60));
    view.k = Math.min(1.6, 60 / far);
  };
  const point = (e) => { const box = canvas.getBoundingClientRect(); return [(e.clientX - box.left - box.width / 2 - view.x) / view.k, (e.clientY - box.top - box.height / 2 - view.y) / view.k]; };
  canvas.addEventListener("pointerdown", (e) => {
    const [x, y] = point(e);
    held = all.find((n) => Math.hypot(n.x - x, n.y - y) < 14 / view.k) ?? null;
    let [px, py] = [e.clientX, e.clientY];
    canvas.setPointerCapture(e.pointerId);
    const move = (ev) => {
      if (held) { [held.x, held.y] = point(ev); heat = Math.max(heat, .3); }
      else { view.x += ev.clientX - px; view.y += ev.clientY - py; [px, py] = [ev.clientX, ev.clientY]; draw(); }
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", () => { canvas.removeEventListener("pointermove", move); held = null; }, { once: true });
  });
  const zoom = (f) => { view.k = Math.max(.1, Math.min(6, view.k * f)); draw(); };
  canvas.addEventListener("wheel", (e) => { if (e.ctrlKey || e.metaKey || document.activeElement === canvas) { e.preventDefault(); zoom(e.deltaY < 0 ? 1.12 : .89); } }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    const to = { "+": () => zoom(1.2), "=": () => zoom(1.2), "-": () => zoom(.83), ArrowLeft: () => { view.x += 40; draw(); }, ArrowRight: () => { view.x -= 40; draw(); }, ArrowUp: () => { view.y += 40; draw(); }, ArrowDown: () => { view.y -= 40; draw(); } }[e.key];
    if (to) { e.preventDefault(); to(); }
  });
  return h("div", {}, canvas, rows.length > links.length && h("p", { class: "small muted pad" }, `The first ${number(links.length)} of ${number(rows.length)} rows are drawn.`));
}

/** The plan as the server gives it: {op, detail, actual, runs, us, children}. */
export function plan(root) {
  const item = (n) => h("li", {},
    h("span", { class: "op" }, n.op), " ", n.detail && h("span", {}, n.detail), " ",
    n.index && h("span", { class: "chip" }, n.index), " ",
    n.estimated !== undefined && h("span", { class: "muted" }, `est ${number(n.estimated)}`), " ",
    n.actual !== undefined && h("span", {}, `rows ${number(n.actual)}`), " ",
    n.us !== undefined && h("span", { class: "muted" }, `${(n.us / 1000).toFixed(2)} ms`),
    n.runs > 1 && h("span", { class: "muted" }, ` in ${number(n.runs)} runs`),
    n.children?.length ? h("ul", {}, n.children.map(item)) : null);
  return h("div", { class: "plan" }, h("ul", {}, [].concat(root).map(item)));
}

/** A plan given as indented text becomes the same tree. */
export function planOfText(text) {
  const root = { children: [] };
  const stack = [[-1, root]];
  for (const line of text.split("\n").filter((l) => l.trim())) {
    const depth = line.length - line.trimStart().length;
    const body = line.trim().replace(/^[│├└─|`\-\s]+/, "");
    const [op, ...rest] = body.split(" ");
    const node = { op, detail: rest.join(" "), children: [] };
    while (stack.at(-1)[0] >= depth) stack.pop();
    stack.at(-1)[1].children.push(node);
    stack.push([depth, node]);
  }
  return root.children;
}
