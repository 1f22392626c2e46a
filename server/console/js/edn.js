// An EDN lexer for the editor: tokens with places, bracket pairs, what is being typed.

const TOKEN = /(?<ws>[\s,]+)|(?<com>;[^\n]*)|(?<str>"(?:\\[\s\S]|[^"\\])*"?)|(?<chr>\\(?:newline|space|tab|return|u[0-9a-fA-F]{4}|[\s\S]))|(?<tag>#(?:_|[A-Za-z][\w./-]*)|#(?=\{))|(?<br>[()[\]{}])|(?<key>:[^\s,()[\]{}";]+)|(?<num>[+-]?\d[\w.+-]*)|(?<sym>[^\s,()[\]{}";#\\]+)|(?<other>[\s\S])/gy;
const CLOSES = { ")": "(", "]": "[", "}": "{" };

export function lex(text) {
  const out = [];
  TOKEN.lastIndex = 0;
  for (let m; (m = TOKEN.exec(text)); ) {
    const kind = Object.keys(m.groups).find((k) => m.groups[k] !== undefined);
    let type = kind;
    if (kind === "sym" && /^[?$%]/.test(m[0])) type = "var";
    if (kind === "sym" && ["_", ".", "...", "&"].includes(m[0])) type = "br";
    if (kind === "key") type = "key";
    if (kind === "chr") type = "str";
    out.push({ type, text: m[0], start: m.index, end: m.index + m[0].length });
  }
  return out;
}

/** Pairs of brackets: index of token → index of its partner, or -1. */
export function pairs(tokens) {
  const partner = new Map();
  const open = [];
  tokens.forEach((t, i) => {
    if (t.type !== "br" || t.text.length !== 1 || !"()[]{}".includes(t.text)) return;
    if ("([{".includes(t.text)) { open.push(i); partner.set(i, -1); return; }
    const at = open.at(-1);
    if (at !== undefined && tokens[at].text === CLOSES[t.text]) {
      open.pop(); partner.set(at, i); partner.set(i, at);
    } else partner.set(i, -1);
  });
  return partner;
}

/** Brackets open at `at`, outermost first, each with the column its content starts in. */
export function openAt(text, at) {
  const open = [];
  for (const t of lex(text)) {
    if (t.start >= at) break;
    if (t.type !== "br" || t.text.length !== 1) continue;
    if ("([{".includes(t.text)) open.push(t);
    else if (CLOSES[t.text] && open.length) open.pop();
  }
  return open;
}

/** The token that ends at, or holds, the caret. */
export function tokenBefore(tokens, caret) {
  return tokens.find((t) => t.start < caret && caret <= t.end && t.type !== "ws");
}

/** Byte offsets, as the server counts, to positions in a JS string. */
export function charIndex(text, byte) {
  let bytes = 0;
  for (let i = 0; i < text.length; ) {
    if (bytes >= byte) return i;
    const code = text.codePointAt(i);
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    i += code > 0xffff ? 2 : 1;
  }
  return text.length;
}
