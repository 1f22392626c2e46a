// Run by hand against a server: npm i playwright-core; node console.mjs http://127.0.0.1:7407 shop (Debian's chromium).
import { chromium } from "playwright-core";
const base = process.argv[2], db = process.argv[3];
const b = await chromium.launch({executablePath:"/usr/bin/chromium",args:["--headless","--no-sandbox","--disable-gpu","--disable-quic","--no-first-run","--disable-background-networking","--disable-component-update","--disable-sync"]});
const p = await (await b.newContext({viewport:{width:1280,height:900}})).newPage();
p.on("console",m=>{if(["error","warning"].includes(m.type()))console.log("CONSOLE",m.text());}); p.on("pageerror",e=>console.log("ERROR",e.message));
await p.goto(`${base}/#/${db}/query`); await p.waitForSelector("tbody tr");
const rows0 = await p.locator(".foot span").first().textContent(); console.log("now:", rows0);
// drag
const box = await p.locator(".tl-track").boundingBox();
const times=[];
await p.mouse.move(box.x+box.width*0.98, box.y+20); await p.mouse.down();
for (let i=0;i<8;i++){ const before=await p.locator(".card .foot span").allTextContents(); const t0=Date.now(); await p.mouse.move(box.x+box.width*(0.9-i*0.1), box.y+20);
  await p.waitForFunction((b)=>[...document.querySelectorAll(".card .foot span")].map(x=>x.textContent).join()!==b, before.join(), {timeout:4000,polling:5}).catch(()=>console.log("no change",i)); times.push(Date.now()-t0); }
await p.mouse.up(); console.log("drag ms", times.join(" "));
console.log("url", p.url().slice(-40), await p.locator(".foot span").first().textContent());
// keyboard on the slider
await p.locator(".tl-handle").focus(); await p.keyboard.press("End"); await p.waitForTimeout(300); console.log("end:", await p.locator(".foot span").first().textContent());
await p.keyboard.press("PageDown"); await p.waitForTimeout(300); console.log("pgdn:", await p.locator(".tl-when").textContent());
// error at its place
const ta=p.locator("textarea").first(); await ta.fill("[:find ?id :where [?o :order/idd ?id]]"); await p.keyboard.press("Control+Enter"); await p.waitForSelector(".problem");
console.log("error:", await p.locator(".problem").textContent(), "| marked:", await p.locator(".t-err").allTextContents());
await p.screenshot({path:"/tmp/act-error.png"});
// completion
await ta.fill("[:find ?s :where [?o "); await ta.press("End"); await p.keyboard.type(":order/st"); await p.waitForSelector(".complete:not([hidden]) div"); console.log("complete:", await p.locator(".complete div span").allTextContents());
await p.screenshot({path:"/tmp/act-complete.png"});
await p.keyboard.press("Enter"); await p.keyboard.type(" ?s]]"); console.log("text:", await ta.inputValue());
// live
await ta.fill("[:find ?id :where [?o :order/id ?id] [?o :order/status :vip]]"); await p.keyboard.press("Control+Enter"); await p.waitForTimeout(300); await p.getByRole("button",{name:"Live"}).click(); await p.waitForTimeout(400);
await fetch(`${base}/v1/db/${db}/transact`,{method:"POST",headers:{"content-type":"application/edn"},body:`[{:order/id "VIP-1" :order/status :vip}]`}); await p.waitForSelector("text=VIP-1",{timeout:3000}); console.log("live ok");
// tabs by keyboard
await p.getByRole("tab",{name:"Table"}).focus(); await p.keyboard.press("ArrowRight"); await p.waitForTimeout(200); console.log("tab:", await p.locator('[role=tab][aria-selected=true]').allTextContents());
// load time
const t0=Date.now(); await p.reload(); await p.waitForSelector(".card"); console.log("reload ms", Date.now()-t0);
// play
await p.goto(`${base}/#/${db}/query?t=10`); await p.waitForTimeout(500); await p.getByRole("button",{name:"Play history"}).click(); await p.waitForTimeout(1500); console.log("playing:", await p.locator(".tl-when").textContent()); 
await b.close();
