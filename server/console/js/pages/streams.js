// Streams of domain events, and one stream with its live tail.

import { h, number, when } from "../dom.js";
import { get, events } from "../api.js";

export async function streams(root, app) {
  const filter = h("input", { type: "search", placeholder: "category or stream id", "aria-label": "Filter streams" });
  const list = h("div", { class: "list" });
  const foot = h("div", { class: "foot" });
  const tail = h("div", { class: "list" });
  let all = [];
  const draw = () => {
    const wanted = filter.value.trim().toLowerCase();
    const some = all.filter((s) => s.stream.toLowerCase().includes(wanted));
    list.replaceChildren(...some.slice(0, 300).map((s) => h("a", { class: "item", href: app.href("stream", s.stream) },
      h("span", { class: "k" }, `v${number(s.version)}`), h("span", { class: "d" }, s.stream), h("span", { class: "muted small" }, s.tombstoned ? "tombstoned" : ""))));
    if (!some.length) list.replaceChildren(h("div", { class: "empty" }, all.length ? "No stream matches." : "No events yet. Append some: POST …/streams/order-1/events"));
    foot.replaceChildren(`${number(some.length)} of ${number(all.length)} streams`);
  };
  filter.addEventListener("input", draw);
  const state = h("span", { class: "chip" }, h("span", { class: "dot" }), "connecting");
  root.replaceChildren(h("div", { class: "stack" }, h("h1", {}, "Streams"), h("div", { class: "columns" },
    h("div", { class: "card" }, h("div", { class: "head" }, filter), list, foot),
    h("div", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Live tail"), h("span", { class: "grow" }), state), tail))));
  all = (await get(app.path("/streams"))).streams;
  draw();
  const head = (await get(app.path("/all?after=0&limit=1"))).head;
  app.leave = events(app.path("/all"), {
    last: String(Math.max(0, head - 20)),
    onstate: (s) => { state.replaceChildren(h("span", { class: `dot ${s === "live" ? "live" : "paused"}` }), s); },
    onevent: (e) => {
      if (e.event === "caught-up" || e.event === "checkpoint") return;
      tail.prepend(eventRow(JSON.parse(e.data), app, true));
      while (tail.children.length > 60) tail.lastChild.remove();
    },
  });
}

function eventRow(e, app, linked) {
  return h("details", { class: "event" }, h("summary", { class: "item" },
    h("span", { class: "k" }, linked ? `#${number(e.position)}` : `v${number(e.streamversion)}`),
    h("span", { class: "d" }, h("b", {}, e.type), " ", linked ? h("a", { href: app.href("stream", e.subject) }, e.subject) : h("small", {}, `position ${number(e.position)}`)),
    h("span", { class: "muted small" }, when(e.time))),
  h("pre", { class: "json" }, JSON.stringify(e.data, null, 2)),
  h("p", { class: "small muted pad" }, `id ${e.id} · `, h("a", { href: app.href("tx", e.t) }, `t${number(e.t)}`), e.correlationid ? ` · correlation ${e.correlationid}` : "", e.causationid ? ` · caused by ${e.causationid}` : ""));
}

export async function stream(root, app, id) {
  const list = h("div", { class: "list" });
  const state = h("span", { class: "chip" }, h("span", { class: "dot" }), "connecting");
  const foot = h("div", { class: "foot" }, "reading");
  root.replaceChildren(h("div", { class: "stack" },
    h("div", { class: "row" }, h("a", { href: app.href("streams") }, "Streams"), h("span", { class: "muted" }, "/"), h("h1", {}, id), h("span", { class: "grow" }), state),
    h("div", { class: "card" }, list, foot)));
  const seen = new Set();
  let n = 0;
  app.leave = events(app.path(`/streams/${encodeURIComponent(id)}`), {
    onstate: (s, e) => {
      state.replaceChildren(h("span", { class: `dot ${s === "live" ? "live" : "paused"}` }), s);
      if (e) foot.replaceChildren(e.detail ?? String(e));
    },
    onevent: (e) => {
      if (e.event === "caught-up") { foot.replaceChildren(`${number(n)} events; new ones appear as they are appended`); return; }
      if (e.event === "checkpoint" || seen.has(e.id)) return;
      seen.add(e.id);
      n++;
      list.append(eventRow(JSON.parse(e.data), app, false));
    },
  });
}
