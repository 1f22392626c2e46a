// Building elements. Text is always a text node: nothing a database holds is ever parsed as HTML.

const SVG = new Set(["svg", "g", "rect", "line", "path", "circle", "text"]);

export function h(tag, props, ...children) {
  const el = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(props ?? {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else if (k === "class") el.setAttribute("class", v);
    else if (k === "style") for (const [p, s] of Object.entries(v)) el.style.setProperty(p, s);
    else if (k === "value" || k === "checked" || k === "open") el[k] = v;
    else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

export const $ = (id) => document.getElementById(id);

let toastTimer;
export function toast(text) {
  const el = $("toast");
  el.textContent = text;
  el.classList.add("on");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => el.classList.remove("on"), 2600);
}

/** Tabs: `items` is [[id, label], …]; arrows move, as in the ARIA pattern. */
export function tabs(items, current, pick, label) {
  const el = h("div", { class: "tabs", role: "tablist", "aria-label": label });
  const draw = (at) => {
    el.replaceChildren(...items.map(([id, text]) => h("button", {
      type: "button", role: "tab", "aria-selected": String(id === at), tabindex: id === at ? "0" : "-1", "data-id": id,
      onclick: () => { draw(id); pick(id); },
      onkeydown: (e) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
        if (!step) return;
        const i = items.findIndex((x) => x[0] === id);
        const next = items[(i + step + items.length) % items.length][0];
        draw(next); pick(next); el.querySelector(`[data-id="${next}"]`).focus();
      },
    }, text)));
  };
  draw(current);
  el.show = draw;
  return el;
}

export const number = (n) => Number(n).toLocaleString("en-GB").replaceAll(",", "\u202f");

export function when(instant, exact = false) {
  if (!instant) return "";
  const d = new Date(instant);
  if (Number.isNaN(d.getTime())) return String(instant);
  const iso = d.toISOString();
  return exact ? iso.replace("T", " ").replace("Z", " UTC") : `${iso.slice(0, 10)} ${iso.slice(11, 19)}`;
}

export function ago(instant) {
  const s = (Date.now() - new Date(instant).getTime()) / 1000;
  if (!Number.isFinite(s)) return "";
  for (const [unit, size] of [["y", 31557600], ["mo", 2629800], ["d", 86400], ["h", 3600], ["min", 60]]) {
    if (Math.abs(s) >= size) return `${Math.floor(Math.abs(s) / size)} ${unit} ${s < 0 ? "ahead" : "ago"}`;
  }
  return "just now";
}

export function problem(e) {
  if (!e.code) return h("div", { class: "problem", role: "alert" }, h("b", {}, "Failed"), ` ${e.message ?? e}`);
  return h("div", { class: "problem", role: "alert" },
    h("div", {}, h("b", {}, e.detail), " ", h("code", {}, e.code)),
    e.hint && h("div", { class: "hint" }, e.hint),
    (e.errors ?? []).map((x) => h("div", { class: "hint" }, `also: ${x.detail}${x.hint ? `; ${x.hint}` : ""}`)));
}
