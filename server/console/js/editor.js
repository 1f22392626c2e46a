// The query editor: a textarea over its own highlighted copy, brackets, completion, marked errors.

import { h } from "./dom.js";
import { lex, pairs, openAt, tokenBefore, charIndex } from "./edn.js";

const OPEN = { "(": ")", "[": "]", "{": "}" };

export function editor({ value = "", onrun, onchange, complete, label, small = false }) {
  const pre = h("pre", { "aria-hidden": "true" });
  const area = h("textarea", { spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-label": label, rows: small ? "1" : "6" });
  const menu = h("div", { class: "complete", role: "listbox", hidden: true });
  const el = h("div", { class: small ? "editor small" : "editor" }, pre, area, menu);
  let error = null;
  let items = [];
  let chosen = 0;
  let word = null;

  area.value = value;

  function paint() {
    const text = area.value;
    const tokens = lex(text);
    const partner = pairs(tokens);
    const caret = area.selectionStart;
    const near = tokens.findIndex((t, i) => partner.has(i) && (t.end === caret || t.start === caret));
    const lit = near >= 0 && document.activeElement === area ? [near, partner.get(near)] : [];
    pre.replaceChildren(...tokens.map((t, i) => {
      const marks = [t.type !== "ws" && t.type !== "other" ? `t-${t.type}` : ""];
      if (lit.includes(i)) marks.push("t-on");
      if (partner.get(i) === -1 && i !== near) marks.push("t-bad");
      if (error && t.start < error[1] && t.end > error[0] && t.type !== "ws") marks.push("t-err");
      const cls = marks.join(" ").trim();
      return cls ? h("span", { class: cls }, t.text) : document.createTextNode(t.text);
    }), "\n");
  }

  function replace(start, end, text, caret = start + text.length) {
    area.setRangeText(text, start, end, "end");
    area.setSelectionRange(caret, caret);
    changed();
  }

  function changed() {
    error = null;
    paint();
    onchange?.(area.value);
  }

  function hide() { menu.hidden = true; items = []; }

  function offer() {
    const tokens = lex(area.value);
    const t = tokenBefore(tokens, area.selectionStart);
    if (!t || !["key", "var", "sym"].includes(t.type) && t.text !== ":" || area.selectionStart !== t.end) return hide();
    word = t;
    const first = openAt(area.value, t.start).at(-1);
    const called = first !== undefined && area.value[first.start] === "(" && area.value.slice(first.end, t.start).trim() === "";
    const wanted = t.text.toLowerCase();
    items = complete(called, tokens)
      .filter((c) => c.text !== t.text && (c.text.toLowerCase().startsWith(wanted) || wanted.length > 2 && c.text.toLowerCase().includes(wanted.replace(/^:/, ""))))
      .sort((a, b) => Number(b.text.toLowerCase().startsWith(wanted)) - Number(a.text.toLowerCase().startsWith(wanted)))
      .slice(0, 40);
    if (!items.length) return hide();
    chosen = 0;
    draw();
    place(t.start);
  }

  function draw() {
    menu.replaceChildren(...items.map((c, i) => h("div", {
      role: "option", "aria-selected": String(i === chosen), onmousedown: (e) => { e.preventDefault(); chosen = i; take(); },
    }, h("span", { class: "mono" }, c.text), h("small", {}, c.note ?? ""))));
    menu.hidden = false;
    menu.children[chosen]?.scrollIntoView({ block: "nearest" });
  }

  function place(index) {
    // The copy below the text knows where every character stands.
    const walker = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
    let at = 0;
    for (let node; (node = walker.nextNode()); at += node.length) {
      if (index > at + node.length) continue;
      const range = document.createRange();
      range.setStart(node, Math.max(0, Math.min(index - at, node.length - 1)));
      range.setEnd(node, Math.min(node.length, index - at + 1));
      const box = range.getBoundingClientRect();
      const home = el.getBoundingClientRect();
      menu.style.left = `${Math.max(4, Math.min(box.left - home.left, home.width - 240))}px`;
      menu.style.top = `${box.bottom - home.top + 4}px`;
      return;
    }
  }

  function take() {
    const c = items[chosen];
    if (c) replace(word.start, word.end, c.text);
    hide();
  }

  function keydown(e) {
    if (!menu.hidden) {
      if (e.key === "ArrowDown" || e.key === "ArrowUp") {
        chosen = (chosen + (e.key === "ArrowDown" ? 1 : items.length - 1)) % items.length;
        draw(); e.preventDefault(); return;
      }
      if (e.key === "Tab" || e.key === "Enter" && !(e.ctrlKey || e.metaKey)) { take(); e.preventDefault(); return; }
      if (e.key === "Escape") { hide(); e.preventDefault(); return; }
    }
    const { selectionStart: s, selectionEnd: end, value: text } = area;
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { hide(); onrun?.(); e.preventDefault(); return; }
    if (e.key === "Enter" && !e.shiftKey) {
      const open = openAt(text, s).at(-1);
      const column = open ? open.end - (text.lastIndexOf("\n", open.start) + 1) + (text[open.start] === "(" ? 1 : 0) : 0;
      replace(s, end, `\n${" ".repeat(column)}`); e.preventDefault(); return;
    }
    if (OPEN[e.key] && s === end && /^[\s)\]}]?$/.test(text[s] ?? "")) {
      replace(s, end, e.key + OPEN[e.key], s + 1); e.preventDefault(); return;
    }
    if (")]}".includes(e.key) && text[s] === e.key && s === end) { area.setSelectionRange(s + 1, s + 1); paint(); e.preventDefault(); return; }
    if (e.key === "Backspace" && s === end && OPEN[text[s - 1]] === text[s] && text[s]) { replace(s - 1, s + 1, "", s - 1); e.preventDefault(); }
  }

  area.addEventListener("input", () => { changed(); offer(); });
  area.addEventListener("keydown", keydown);
  area.addEventListener("blur", () => { hide(); paint(); });
  for (const name of ["keyup", "click", "focus"]) area.addEventListener(name, paint);
  paint();

  return {
    el,
    get value() { return area.value; },
    set value(text) { area.value = text; error = null; paint(); },
    focus: () => area.focus(),
    insert(text) { area.focus(); replace(area.selectionStart, area.selectionEnd, text); },
    /** Underlines what the server complained about; its spans count bytes. */
    mark(span) {
      error = span ? [charIndex(area.value, span.start), Math.max(charIndex(area.value, span.end), charIndex(area.value, span.start) + 1)] : null;
      paint();
    },
  };
}
