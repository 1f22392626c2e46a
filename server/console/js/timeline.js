// The timeline: density of transactions, one handle for as-of, two for a diff.
// It knows transactions and clock time; what to do with a choice is its listener's business.

import { h, when, ago, number, tabs } from "./dom.js";

const HEIGHT = 38;

export class Timeline {
  constructor(el, onpick) {
    this.el = el;
    this.onpick = onpick;
    this.data = null;
    this.mode = "at";       // "at": one handle, "diff": two
    this.t = null;          // null is now
    this.from = 0;
    this.to = null;
    this.axis = "time";
    this.playing = null;
  }

  /** `answer`: what `GET …/timeline` says. */
  load(answer) {
    const kept = this.data?.basis_t;
    const buckets = answer.buckets.map((b) => ({ ...b, from_t: b["from-t"], to_t: b["to-t"] }));
    this.data = { basis_t: answer["basis-t"], buckets };
    if (kept === undefined) this.draw();
    else this.paint();
  }

  clear() { this.stop(); this.data = null; this.el.replaceChildren(); }

  get basis() { return this.data?.basis_t ?? 0; }
  at() { return this.t ?? this.basis; }

  set({ mode, t, from, to }) {
    if (mode) this.mode = mode;
    if (t !== undefined) this.t = t;
    if (from !== undefined && from !== null) this.from = from;
    if (to !== undefined) this.to = to;
    if (this.data) this.draw();
  }

  // Positions. Within a bucket both t and the clock run evenly.
  scale() {
    const b = this.data.buckets;
    const first = Date.parse(b[0]?.from ?? 0);
    const span = Math.max(1, Date.parse(b.at(-1)?.to ?? 0) - first);
    return { b, first, span };
  }
  xOf(t) {
    if (this.axis === "t" || !this.data.buckets.length) return this.basis ? Math.min(1, t / this.basis) : 1;
    const { b, first, span } = this.scale();
    if (t >= this.basis) return 1;
    const k = b.find((x) => x.transactions && t <= x.to_t) ?? b.at(-1);
    const part = (t - k.from_t + 1) / (k.to_t - k.from_t + 1);
    const [x0, x1] = [Date.parse(k.from), Date.parse(k.to)];
    return Math.max(0, Math.min(1, (x0 + (x1 - x0) * Math.max(0, part) - first) / span));
  }
  tOf(x) {
    if (x >= 1) return this.basis;
    if (x <= 0) return 0;
    if (this.axis === "t" || !this.data.buckets.length) return Math.round(x * this.basis);
    const { b, first, span } = this.scale();
    const ms = first + x * span;
    let last = 0;
    for (const k of b) {
      const [x0, x1] = [Date.parse(k.from), Date.parse(k.to)];
      if (ms < x0) break;
      if (!k.transactions) continue;
      const part = x1 > x0 ? Math.min(1, (ms - x0) / (x1 - x0)) : 1;
      last = k.from_t - 1 + Math.max(1, Math.round(part * (k.to_t - k.from_t + 1)));
    }
    return last;
  }
  instantOf(t) {
    const b = this.data.buckets;
    if (!b.length) return null;
    if (t >= this.basis) return b.at(-1).to;
    const k = b.find((x) => x.transactions && t <= x.to_t);
    if (!k || t < k.from_t) return k?.from ?? null;
    const part = (t - k.from_t) / Math.max(1, k.to_t - k.from_t);
    return new Date(Date.parse(k.from) + part * (Date.parse(k.to) - Date.parse(k.from))).toISOString();
  }

  pick(final) { this.onpick({ mode: this.mode, t: this.t, from: this.from, to: this.to ?? this.basis }, final); }

  move(which, t, final) {
    t = Math.max(0, Math.min(this.basis, t));
    if (which === "at") this.t = t >= this.basis ? null : t;
    if (which === "from") this.from = Math.min(t, (this.to ?? this.basis));
    if (which === "to") this.to = t >= this.basis ? null : Math.max(t, this.from);
    this.paint();
    this.pick(final);
  }

  handle(which, name) {
    const value = () => (which === "at" ? this.at() : which === "from" ? this.from : this.to ?? this.basis);
    const el = h("button", {
      type: "button", class: "tl-handle", role: "slider", "aria-label": name, "aria-valuemin": "0",
      onkeydown: (e) => {
        const page = Math.max(1, Math.round(this.basis / 20));
        const to = { ArrowLeft: value() - 1, ArrowDown: value() - 1, ArrowRight: value() + 1, ArrowUp: value() + 1, PageDown: value() - page, PageUp: value() + page, Home: 0, End: this.basis }[e.key];
        if (to === undefined) return;
        e.preventDefault(); this.stop(); this.move(which, to, true);
      },
    });
    el.sync = () => {
      const t = value();
      el.style.left = `${this.xOf(t) * 100}%`;
      el.classList.toggle("past", which === "at" && this.t !== null);
      if (which !== "at") el.classList.add(which);
      el.setAttribute("aria-valuemax", this.basis);
      el.setAttribute("aria-valuenow", t);
      el.setAttribute("aria-valuetext", `t ${t}, ${when(this.instantOf(t))}`);
    };
    return el;
  }

  draw() {
    const modes = tabs([["at", "as of"], ["diff", "diff"]], this.mode, (m) => {
      this.stop();
      this.mode = m;
      if (m === "diff" && this.t !== null) { this.from = this.t; this.to = null; }
      this.draw(); this.pick(true);
    }, "One time or two");
    this.when = h("span", { class: "tl-when small" });
    this.bars = h("svg", { preserveAspectRatio: "none", viewBox: `0 0 1000 ${HEIGHT}`, "aria-hidden": "true" });
    this.marks = h("div", { class: "tl-axis", "aria-hidden": "true" });
    this.handles = this.mode === "at" ? [["at", "As of"]] : [["from", "From"], ["to", "To"]];
    this.handles = this.handles.map(([w, n]) => Object.assign(this.handle(w, n), { which: w }));
    this.track = h("div", { class: "tl-track" }, this.bars, this.marks, this.handles);
    this.track.addEventListener("pointerdown", (e) => this.drag(e));
    const play = h("button", { class: "ghost", type: "button", title: "Play from here", "aria-label": "Play history", onclick: () => this.play() }, this.playing ? "❚❚" : "▶");
    this.playButton = play;
    this.el.replaceChildren(
      h("div", { class: "tl-head" }, modes, this.when, h("span", { class: "grow" }),
        this.mode === "at" && play,
        this.mode === "at" && h("button", { class: "ghost", type: "button", onclick: () => { this.stop(); this.move("at", this.basis, true); } }, "now"),
        h("button", { class: "ghost hide-s", type: "button", title: "Space the axis by clock time or by transaction", onclick: () => { this.axis = this.axis === "time" ? "t" : "time"; this.draw(); } }, this.axis === "time" ? "by clock" : "by t")),
      this.track);
    this.paint();
  }

  paint() {
    const b = this.data.buckets;
    const most = Math.max(1, ...b.map((k) => k.datoms));
    const [lo, hi] = this.mode === "at" ? [0, this.at()] : [this.from, this.to ?? this.basis];
    const { first, span } = this.scale();
    const x = (k) => (this.axis === "t" ? [(k.from_t - 1) / Math.max(1, this.basis), k.to_t / Math.max(1, this.basis)] : [(Date.parse(k.from) - first) / span, (Date.parse(k.to) - first) / span]);
    this.bars.replaceChildren(
      h("line", { class: "base", x1: 0, x2: 1000, y1: HEIGHT, y2: HEIGHT }),
      ...b.filter((k) => k.transactions).map((k) => {
        const [x0, x1] = x(k);
        const tall = Math.max(2, Math.sqrt(k.datoms / most) * (HEIGHT - 3));
        const on = k.from_t <= hi && k.to_t > lo;
        return h("rect", { class: `b ${on ? (this.mode === "at" ? "on" : "span") : ""}`, x: (x0 * 1000).toFixed(2), width: Math.max(2.2, (x1 - x0) * 1000 - 1).toFixed(2), y: (HEIGHT - tall).toFixed(1), height: tall.toFixed(1), rx: 1 });
      }));
    const ticks = [0, 0.25, 0.5, 0.75, 1];
    this.marks.replaceChildren(...ticks.map((p) => {
      const text = this.axis === "t" || !b.length ? `t${number(Math.round(p * this.basis))}` : tick(first + p * span, span);
      const el = h("span", {}, text);
      el.style.left = `${p * 100}%`;
      return el;
    }));
    for (const handle of this.handles) handle.sync();
    if (this.mode === "at") {
      const past = this.t !== null;
      this.when.replaceChildren(
        h("span", { class: `chip ${past ? "past" : "now"}` }, past ? "the past" : "now", " · t", number(this.at())), " ",
        h("span", { class: "muted hide-s" }, when(this.instantOf(this.at())), past ? `  ${ago(this.instantOf(this.at()))}` : ""));
    } else {
      this.when.replaceChildren(
        h("span", { class: "chip del" }, "t", number(this.from)), " → ",
        h("span", { class: "chip add" }, "t", number(this.to ?? this.basis)), " ",
        h("span", { class: "muted hide-s" }, when(this.instantOf(this.from)), " → ", when(this.instantOf(this.to ?? this.basis))));
    }
  }

  drag(e) {
    if (e.button) return;
    this.stop();
    const box = this.track.getBoundingClientRect();
    const tAt = (ev) => this.tOf((ev.clientX - box.left) / box.width);
    const near = (w) => Math.abs(this.xOf(w === "from" ? this.from : this.to ?? this.basis) - (e.clientX - box.left) / box.width);
    const which = e.target.which ?? (this.mode === "at" ? "at" : near("from") <= near("to") ? "from" : "to");
    this.track.setPointerCapture(e.pointerId);
    const move = (ev) => this.move(which, tAt(ev), false);
    const up = (ev) => {
      this.track.removeEventListener("pointermove", move);
      this.move(which, tAt(ev), true);
    };
    this.track.addEventListener("pointermove", move);
    this.track.addEventListener("pointerup", up, { once: true });
    this.move(which, tAt(e), false);
    this.handles.find((x) => x.which === which)?.focus({ preventScroll: true });
    e.preventDefault();
  }

  play() {
    if (this.playing) return this.stop();
    const start = this.t ?? 0;
    const begun = performance.now();
    const long = 9000 * (1 - this.xOf(start)) + 400;
    const x0 = this.xOf(start);
    this.playButton.textContent = "❚❚";
    const step = () => {
      const p = Math.min(1, (performance.now() - begun) / long);
      this.move("at", this.tOf(x0 + (1 - x0) * p), p === 1);
      if (p < 1) this.playing = setTimeout(step, 120);
      else this.stop();
    };
    this.playing = setTimeout(step, 0);
  }

  stop() {
    clearTimeout(this.playing);
    this.playing = null;
    if (this.playButton) this.playButton.textContent = "▶";
  }
}

function tick(ms, span) {
  const iso = new Date(ms).toISOString();
  if (span > 86400e3 * 3) return iso.slice(0, 10);
  if (span > 60e3) return iso.slice(11, 16);
  return iso.slice(11, 23);
}
