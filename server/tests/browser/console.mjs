// The console in headless Chromium, against a running server: every page, by pointer and by keyboard.
//
//   server/tests/browser/run.sh            starts a server of its own and runs this
//   node console.mjs URL DB [folder]       against one that runs; screenshots go to the folder
//
// ONLY=slider runs the parts whose names say so. Fails on: a console message, a page wider than the window, a row that does not follow the slider, a control
// that the keyboard does not reach. Prints how long the rows took to follow the slider.

import { chromium } from "playwright-core";
import assert from "node:assert/strict";
import fs from "node:fs";

const [base = "http://127.0.0.1:7407", db = "shop", shots = ""] = process.argv.slice(2);
const most = Number(process.env.DRAG_MS ?? 150);
const quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: quiet });
const complaints = [];

async function open(width, height, colorScheme = "light") {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  // A refused query is a 422, which the browser writes down whatever the page does with it.
  page.on("console", (m) => { if (["error", "warning"].includes(m.type()) && !m.text().includes("status of 422")) complaints.push(`${width} ${page.url()}: ${m.text()}`); });
  page.on("pageerror", (e) => complaints.push(`${width} ${page.url()}: ${e.message}`));
  page.on("request", (r) => { if (!r.url().startsWith(base)) complaints.push(`asked elsewhere: ${r.url()}`); });
  return page;
}

const api = async (path, init) => (await fetch(`${base}/v1/db/${db}${path}`, init)).json();
const basis = (await api(""))["basis-t"];
const order = (await api("/query", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ query: "[:find ?o . :where [?o :order/id \"A-1000\"]]" }) })).rows;
const half = Math.floor(basis / 2);

const parts = {
  async "every page fits and is quiet at every width, light and dark"() {
    const pages = ["query", `query?t=${half}`, `query?t1=${Math.floor(half / 2)}&t2=${half}`, "log", `tx/${half}`, `e/${order}`, "streams", "stream/order-A-1001", "projections", "schema"];
    for (const [width, height, scheme] of [[360, 780, "light"], [360, 780, "dark"], [1280, 900, "light"], [1280, 900, "dark"], [2560, 1440, "light"]]) {
      const page = await open(width, height, scheme);
      for (const at of pages) {
        await page.goto(`${base}/#/${db}/${at}`);
        await page.waitForSelector("#page > *");
        await page.waitForLoadState("load");
        await page.waitForTimeout(350);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wider <= 0, `${at} is ${wider} px wider than ${width}`);
        const unnamed = await page.evaluate(() => [...document.querySelectorAll("button, a, input, textarea, select")].filter((e) => e.checkVisibility() && !(e.innerText?.trim() || e.getAttribute("aria-label") || e.title || e.labels?.length)).map((e) => e.outerHTML.slice(0, 80)));
        assert.deepEqual(unnamed, [], `controls without a name on ${at}`);
        if (shots) { fs.mkdirSync(shots, { recursive: true }); await page.screenshot({ path: `${shots}/${width}-${scheme}-${at.replace(/[^a-z0-9]+/gi, "_")}.png` }); }
      }
      await page.context().close();
    }
  },

  async "dragging the slider runs the query as of that time"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/query`);
    await page.waitForSelector("tbody tr");
    const text = () => page.locator(".card .foot").first().textContent();
    const box = await page.locator(".tl-track").boundingBox();
    const at = (part) => [box.x + box.width * part, box.y + 20];
    await page.mouse.move(...at(0.99));
    await page.mouse.down();
    const times = [];
    for (let i = 1; i <= 12; i++) {
      const before = await text();
      const began = Date.now();
      await page.mouse.move(...at(0.62 - i * 0.04));
      await page.waitForFunction((b) => document.querySelector(".card .foot").textContent !== b && document.querySelector("tbody tr"), before, { timeout: 5000, polling: 4 });
      times.push(Date.now() - began);
    }
    await page.mouse.up();
    times.sort((a, b) => a - b);
    const [median, worst] = [times[times.length / 2], times.at(-1)];
    console.log(`    rows follow the slider: median ${median} ms, slowest ${worst} ms`);
    assert.ok(median <= most, `median ${median} ms, at most ${most}`);
    assert.match(page.url(), /[?&]t=\d+/);
    // The link carries query and time.
    const other = await open(1280, 900);
    await other.goto(page.url());
    await other.waitForSelector("tbody tr");
    const rows = (t) => t.split(" rows")[0];
    assert.equal(rows(await other.locator(".card .foot").first().textContent()), rows(await text()));
    await other.context().close();
    // By keyboard.
    await page.locator(".tl-handle").first().focus();
    await page.keyboard.press("Home");
    await page.waitForTimeout(400);
    assert.match(await page.locator(".tl-when").first().textContent(), /t0|t1/);
    await page.keyboard.press("End");
    await page.waitForTimeout(400);
    assert.match(await page.locator(".tl-when").first().textContent(), /now|t\d+/);
    await page.context().close();
  },

  async "two handles show what came and what went"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/query?t1=${Math.floor(half / 2)}&t2=${half}`);
    await page.waitForSelector("tbody tr");
    const signs = await page.locator("tbody tr td:first-child").allTextContents();
    assert.ok(signs.some((s) => s.includes("+")) && signs.some((s) => s.includes("−")), signs.slice(0, 5).join());
    const colours = await page.evaluate(() => ["+", "−"].map((s) => getComputedStyle([...document.querySelectorAll("tbody tr")].find((r) => r.cells[0].textContent.includes(s)).cells[1]).backgroundColor + getComputedStyle([...document.querySelectorAll("tbody tr")].find((r) => r.cells[0].textContent.includes(s))).backgroundColor));
    assert.notEqual(colours[0], colours[1]);
    assert.equal(await page.locator(".tl-handle").count(), 2);
    await page.context().close();
  },

  async "the editor marks what is wrong and completes from the schema"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/query`);
    const editor = page.locator("textarea").first();
    await editor.fill("[:find ?id :where [?o :order/idd ?id]]");
    await page.keyboard.press("Control+Enter");
    await page.waitForSelector(".problem");
    assert.match(await page.locator(".problem").first().textContent(), /order\/id\b/);
    assert.deepEqual(await page.locator(".t-err").allTextContents(), [":order/idd"]);
    await editor.fill("[:find ?s :where [?o ");
    await editor.press("End");
    await page.keyboard.type(":order/st");
    await page.waitForSelector(".complete:not([hidden]) div");
    await page.keyboard.press("Enter");
    await page.keyboard.type(" ?s]]");
    assert.match(await editor.inputValue(), /:order\/status \?s\]\]$/);
    await page.keyboard.press("Control+Enter");
    await page.waitForFunction(() => !document.querySelector(".problem") && document.querySelector("tbody tr"));
    // Tabs by arrow keys: JSON, graph, explain.
    await page.getByRole("tab", { name: "Table" }).focus();
    for (const name of ["JSON", "Graph", "Explain"]) {
      await page.keyboard.press("ArrowRight");
      await page.waitForFunction((n) => [...document.querySelectorAll('[role=tab][aria-selected=true]')].some((t) => t.textContent === n), name);
    }
    await page.waitForFunction(() => /rows made|made on the way/.test([...document.querySelectorAll(".card")].at(-1).textContent));
    await page.context().close();
  },

  async "a live query follows"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/query`);
    const editor = page.locator("textarea").first();
    await editor.fill("[:find ?id :where [?o :order/id ?id] [?o :order/status :vip]]");
    await page.keyboard.press("Control+Enter");
    await page.getByRole("button", { name: "Live" }).click();
    await page.waitForTimeout(400);
    const id = `VIP-${Date.now()}`;
    await fetch(`${base}/v1/db/${db}/transact`, { method: "POST", headers: { "content-type": "application/edn" }, body: `[{:order/id "${id}" :order/status :vip}]` });
    await page.waitForSelector(`text=${id}`, { timeout: 5000 });
    await page.context().close();
  },

  async "an entity has lanes, a transaction says who and what"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/e/${order}`);
    await page.waitForSelector("text=status");
    assert.ok(await page.locator("svg rect, .lane, .lanes *").count() > 1, "no lanes");
    // A reference is called by what identifies it; its number is in the title.
    const customer = page.locator(".facts .v-ref").first();
    assert.doesNotMatch(await customer.textContent(), /^[0-9]+$/);
    assert.match(await customer.getAttribute("title"), /^[0-9]+$/);
    await page.goto(`${base}/#/${db}/tx/${half}`);
    await page.waitForSelector("tbody tr");
    assert.match(await page.locator("#page").textContent(), /shop|warehouse|local/);
    await page.context().close();
  },

  async "the live tail shows an event that comes"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/streams`);
    await page.waitForSelector("details.event");
    const type = `Seen${Date.now()}`;
    await fetch(`${base}/v1/db/${db}/streams/tail-1/events`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify([{ type, data: {} }]) });
    await page.waitForSelector(`text=${type}`, { timeout: 5000 });
    await page.context().close();
  },

  async "projections pause, go on, are rebuilt, and show what is parked"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/projections`);
    const state = (s) => page.waitForFunction((s) => [...document.querySelectorAll(".card .chip")].some((c) => c.textContent === s), s, { timeout: 8000 });
    await state("live");
    await page.getByRole("button", { name: "Pause" }).click();
    await state("paused");
    await page.getByRole("button", { name: "Resume" }).click();
    await state("live");
    const version = Number((await page.locator(".chip").filter({ hasText: "version" }).first().textContent()).split(" ")[1]);
    await page.getByRole("button", { name: "Rebuild" }).click();
    await state(`version ${version + 1}`);
    await page.locator("summary").filter({ hasText: /arked/ }).first().click();
    await page.waitForSelector("text=Nothing is parked.");
    await page.context().close();
  },

  async "everything on the query page is reached by Tab"() {
    const page = await open(1280, 900);
    await page.goto(`${base}/#/${db}/query`);
    await page.waitForSelector("tbody tr");
    const seen = new Set();
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      const what = await page.evaluate(() => { const e = document.activeElement; return e === document.body ? "" : `${e.tagName} ${e.innerText?.trim().split("\n")[0] || e.getAttribute("aria-label") || e.className}`; });
      seen.add(what);
      if (what.startsWith("TEXTAREA")) await page.keyboard.press("Escape");
    }
    const all = [...seen].join(" | ");
    for (const wanted of ["Query", "Log", "Schema", "Run", "Live", "Share", "Table", "TEXTAREA"]) assert.ok(all.includes(wanted), `${wanted} is not reached: ${all}`);
    assert.ok(all.includes("BUTTON As of"), `the slider is not reached: ${all}`);
    await page.context().close();
  },

  async "the page is there in half a second"() {
    const page = await open(1280, 900);
    const times = [];
    for (let i = 0; i < 5; i++) {
      const began = Date.now();
      await page.goto(`${base}/?${i}#/${db}/schema`);
      await page.waitForSelector("#page > *");
      times.push(Date.now() - began);
    }
    console.log(`    page loads: ${times.join(" ")} ms`);
    assert.ok(times.sort((a, b) => a - b)[2] <= Number(process.env.LOAD_MS ?? 500));
    await page.context().close();
  },
};

let failed = 0;
for (const [name, part] of Object.entries(parts)) {
  if (process.env.ONLY && !name.includes(process.env.ONLY)) continue;
  try { await part(); console.log(`ok  ${name}`); }
  catch (e) { failed++; console.log(`NOT ${name}\n    ${String(e.message).split("\n").slice(0, 6).join("\n    ")}`); }
}
for (const c of complaints) console.log(`complaint: ${c}`);
await browser.close();
process.exitCode = failed || complaints.length ? 1 : 0;
