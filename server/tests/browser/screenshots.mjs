// Run by hand against a server: npm i playwright-core; node screenshots.mjs http://127.0.0.1:7407 shop (Debian's chromium).
import { chromium } from "playwright-core";
const base = process.argv[2] ?? "http://127.0.0.1:7407"; const db = process.argv[3] ?? "orders"; const out = process.argv[4] ?? "/tmp/annals-shots";
import fs from "node:fs"; fs.mkdirSync(out,{recursive:true});
const pages = (process.argv[5] ?? "query,query?t=600,query?t1=300&t2=700,log,tx/40,e/35184372088840,streams,projections,schema").split(",");
const b = await chromium.launch({executablePath:"/usr/bin/chromium",args:["--headless","--no-sandbox","--disable-gpu","--disable-quic","--no-first-run","--disable-background-networking","--disable-component-update","--disable-sync"]});
const widths=(process.argv[6]??"360,1280,2200").split(",").map(Number);
let bad=0;
for (const w of widths) for (const scheme of w===1280?["light","dark"]:["light"]) {
  const c = await b.newContext({viewport:{width:w,height:w===360?780:900},colorScheme:scheme}); const p = await c.newPage();
  p.on("console",m=>{if(["error","warning"].includes(m.type())){bad++;console.log("CONSOLE",w,m.text(), p.url());}}); p.on("pageerror",e=>{bad++;console.log("ERROR",w,e.message,p.url());});
  for (const g of pages){ await p.goto(`${base}/#/${db}/${g}`); await p.waitForTimeout(700);
    const over=await p.evaluate(()=>document.documentElement.scrollWidth-innerWidth); if(over>0){bad++;console.log("OVERFLOW",w,g,over);}
    await p.screenshot({path:`${out}/${w}-${scheme}-${g.replace(/[^a-z0-9]/g,"_")}.png`}); }
  await c.close();
}
await b.close(); console.log("bad",bad);
