// The HTTP API, and the one place that holds the token: in memory, never in storage or a URL.

let token = null;
export const setToken = (t) => { token = t || null; };
export const hasToken = () => token !== null;

export class Problem extends Error {
  constructor(doc) { super(doc.detail ?? "request failed"); Object.assign(this, doc); }
}

function headers(more) {
  const all = { accept: "application/json", ...more };
  if (token) all.authorization = `Bearer ${token}`;
  return all;
}

async function answer(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  let doc = { status: response.status, code: `http/${response.status}`, detail: response.statusText };
  try { doc = await response.json(); } catch { /* the status line is all there is */ }
  if (response.status === 401) dispatchEvent(new CustomEvent("annals-unauthorised"));
  throw new Problem(doc);
}

export const get = async (path, signal) => answer(await fetch(path, { headers: headers(), signal }));
export const post = async (path, body, signal, more) => answer(await fetch(path, {
  method: "POST", headers: headers({ "content-type": "application/json", ...more }), body: JSON.stringify(body ?? {}), signal,
}));

/** Reads server-sent events by fetch, so that the token can go along; reconnects with Last-Event-ID. */
export function events(path, { body, onevent, onstate, last }) {
  const stop = new AbortController();
  let id = last;
  (async () => {
    for (let wait = 400; !stop.signal.aborted; wait = Math.min(wait * 2, 8000)) {
      try {
        const more = { accept: "text/event-stream" };
        if (id !== undefined) more["last-event-id"] = id;
        const init = { headers: headers(more), signal: stop.signal };
        if (body) Object.assign(init, { method: "POST", body: JSON.stringify(body), headers: { ...init.headers, "content-type": "application/json" } });
        const response = await fetch(path, init);
        if (!response.ok) await answer(response);
        onstate?.("live");
        wait = 400;
        let rest = "";
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          const blocks = (rest + value).split("\n\n");
          rest = blocks.pop();
          for (const block of blocks) {
            const e = { event: "message", data: "" };
            for (const line of block.split("\n")) {
              if (line.startsWith("id:")) e.id = line.slice(3).trim();
              else if (line.startsWith("event:")) e.event = line.slice(6).trim();
              else if (line.startsWith("data:")) e.data += line.slice(5).trimStart();
            }
            if (e.id !== undefined) id = e.id;
            if (e.data || e.event !== "message") onevent(e);
          }
        }
      } catch (e) {
        if (stop.signal.aborted) return;
        if (e instanceof Problem && e.status < 500 && e.status !== 429) { onstate?.("failed", e); return; }
      }
      onstate?.("waiting");
      await new Promise((r) => setTimeout(r, wait));
    }
  })();
  return () => stop.abort();
}

/** Only the newest call matters: an older one in flight is aborted. */
export function latest(call) {
  let current = null;
  return async (...args) => {
    current?.abort();
    const mine = (current = new AbortController());
    try { return await call(mine.signal, ...args); }
    catch (e) { if (mine.signal.aborted) return undefined; throw e; }
    finally { if (current === mine) current = null; }
  };
}

export const db = (name) => `/v1/db/${encodeURIComponent(name)}`;
