/**
 * A client of the Annals temporal fact database: `fetch`, no dependencies; for Node 18+, Deno and browsers.
 *
 * ```ts
 * const db = connect("http://127.0.0.1:7407", "orders");
 * const { t } = await db.transact([{ ":order/id": "A-1", ":order/status": ":placed" }]);
 * const { rows } = await db.query("[:find ?s :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]", ["A-1"]);
 * const then = await db.asOf(t).query("…");
 * ```
 */

/** What the server reads as a value; see docs/http.md. `{"#edn": "…"}` says any value exactly. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/** A t, a transaction's id, or a date-time. */
export type TimePoint = number | string | Date;
/** An id, `":an/ident"`, or `[":unique/attr", value]`. */
export type Entity = number | string | [string, Json];

export interface Problem {
  type: string; title: string; status: number; code: string; detail: string; retryable?: boolean;
  hint?: string; path?: string; span?: { start: number; end: number }; of?: string; [more: string]: unknown;
}

/** What the server refused. */
export class Refused extends Error {
  readonly code: string;
  readonly status: number;
  constructor(readonly problem: Problem) {
    super(`${problem.code}: ${problem.detail}${problem.hint ? ` (${problem.hint})` : ""}`);
    this.name = "Refused";
    this.code = problem.code;
    this.status = problem.status;
  }
}

export interface Report { t: number; tx: number; "tx-instant": string; tempids: Record<string, number>; datoms: number; replayed?: boolean }
export interface Answer<Row = Json[]> { "basis-t": number; shape: "rel" | "coll" | "tuple" | "scalar" | "maps" | "map"; columns: string[]; rows: Row[]; types?: string[] }
export interface Changed { row: Json[]; t: number }
export interface Transaction { t: number; tx: number; "tx-instant": string; principal?: string; datoms: [number, string, Json, number, boolean][] }
export type Live = { kind: "snapshot"; t: number; rows: Json[][] } | { kind: "change"; t: number; added: Json[][]; removed: Json[][] };

export interface Options { token?: string; fetch?: typeof globalThis.fetch }
export interface QueryOptions { rules?: string; minT?: number; timeoutMs?: number; limit?: number; types?: boolean; exact?: boolean; signal?: AbortSignal }
interface View { as_of?: number | string; since?: number | string; history?: true }

/** A database on a server. Nothing is sent until something is asked. */
export function connect(url: string, database: string, options: Options = {}): Database {
  return new Database(url.replace(/\/$/, ""), database, options, {});
}

/** A database, or a view of it at another time. What a view cannot answer for, as a transaction, is a `TypeError` before anything is sent. */
export class Database {
  constructor(private readonly url: string, readonly name: string, private readonly options: Options, private readonly view: View) {}

  asOf(point: TimePoint): Database { return new Database(this.url, this.name, this.options, { ...this.view, as_of: time(point) }); }
  since(point: TimePoint): Database { return new Database(this.url, this.name, this.options, { ...this.view, since: time(point) }); }
  history(): Database { return new Database(this.url, this.name, this.options, { ...this.view, history: true }); }

  /** Refuses what would pass over the view, rather than to answer of another time. */
  private needs(what: string, ...allowed: (keyof View)[]): void {
    const wrong = (Object.keys(this.view) as (keyof View)[]).filter((name) => !allowed.includes(name));
    if (wrong.length) throw new TypeError(`${what} is not for a view with ${wrong.join(", ")}: ask the database itself`);
  }

  async basisT(): Promise<number> { return (await this.send<{ "basis-t": number }>("GET", "")).body["basis-t"]; }

  /** Rows of a relation. For the other shapes use {@link scalar} or {@link collection}. */
  async query<Row = Json[]>(query: string, args: Json[] = [], options: QueryOptions = {}): Promise<Answer<Row>> {
    const { signal, minT, timeoutMs, ...rest } = options;
    const body = strip({ query, args, ...this.view, ...rest, min_t: minT, timeout_ms: timeoutMs });
    return (await this.send<Answer<Row>>("POST", "/query", body, {}, signal)).body;
  }
  /** The value of `[:find ?x . …]`, or null. */
  async scalar<V = Json>(query: string, args: Json[] = [], options: QueryOptions = {}): Promise<V | null> {
    return (await this.query(query, args, options)).rows as unknown as V | null;
  }
  /** The values of `[:find [?x ...] …]`. */
  async collection<V = Json>(query: string, args: Json[] = [], options: QueryOptions = {}): Promise<V[]> {
    return (await this.query<V>(query, args, options)).rows;
  }

  async pull(pattern: string, entity: Entity): Promise<Record<string, Json>> {
    this.needs("pull", "as_of");
    const body = strip({ pattern, entity: entity as Json, as_of: this.view.as_of });
    return (await this.send<{ entity: Record<string, Json> }>("POST", "/pull", body)).body.entity;
  }

  async diff(query: string, t1: TimePoint, t2?: TimePoint, args: Json[] = []): Promise<{ added: Changed[]; removed: Changed[] }> {
    this.needs("diff");
    const body = strip({ query, args, t1: time(t1), t2: t2 === undefined ? undefined : time(t2) });
    return (await this.send<{ added: Changed[]; removed: Changed[] }>("POST", "/diff", body)).body;
  }

  /** Makes a transaction, from EDN text or JSON forms. With a `key` it may be sent again. */
  async transact(tx: string | Json[], key?: string): Promise<Report> {
    this.needs("transact");
    return (await this.send<Report>("POST", "/transact", tx, key ? { "idempotency-key": key } : {})).body;
  }
  /** What a transaction would do; nothing is written. */
  async with(tx: string | Json[]): Promise<Report & { "tx-data": Json[] }> {
    this.needs("with");
    return (await this.send<Report & { "tx-data": Json[] }>("POST", "/with", tx)).body;
  }

  /** Asks the domain to do something. With a `key` it happens once, however often it is sent. */
  async command(category: string, type: string, payload: Json, options: { id?: string; key?: string; ifVersion?: number } = {}): Promise<Commanded> {
    this.needs("command");
    const body = strip({ category, type, payload, id: options.id, if_version: options.ifVersion });
    return (await this.send<Commanded>("POST", "/commands", body, options.key ? { "idempotency-key": options.key } : {})).body;
  }
  /** What came of a command; `wait` as in `"5s"` waits for the end. */
  async commandStatus(key: string, wait?: string): Promise<CommandStatus> {
    return (await this.send<CommandStatus>("GET", `/commands/${encodeURIComponent(key)}${wait ? `?wait=${wait}` : ""}`)).body;
  }

  /** Transactions `[from, to)`, page by page. */
  async *log(from = 0, to?: number): AsyncGenerator<Transaction> {
    this.needs("log");
    for (let at: number | undefined = from; at !== undefined; ) {
      const page: { transactions: Transaction[]; next?: number } = (await this.send<{ transactions: Transaction[]; next?: number }>("GET", `/log?from=${at}${to === undefined ? "" : `&to=${to}`}`)).body;
      yield* page.transactions;
      at = page.next;
    }
  }

  /** Every transaction after `after` (default: from now on). Ends when the signal is raised. */
  async *changes(after?: number, signal?: AbortSignal): AsyncGenerator<Transaction> {
    this.needs("changes");
    for await (const e of this.events("GET", `/changes${after === undefined ? "" : `?after=${after}`}`, undefined, signal)) {
      if (e.event === "transaction") yield e.data as Transaction;
    }
  }

  /** A live query: its rows (unless resumed `after` a t), then what each transaction changes. */
  async *subscribe(query: string, args: Json[] = [], after?: number, signal?: AbortSignal): AsyncGenerator<Live> {
    this.needs("subscribe");
    for await (const e of this.events("POST", `/subscribe${after === undefined ? "" : `?after=${after}`}`, { query, args }, signal)) {
      const data = e.data as { rows: Json[][]; added: Json[][]; removed: Json[][] };
      if (e.event === "snapshot") yield { kind: "snapshot", t: e.id, rows: data.rows };
      else if (e.event === "change") yield { kind: "change", t: e.id, added: data.added, removed: data.removed };
    }
  }

  private async *events(method: string, path: string, body: Json | undefined, signal?: AbortSignal): AsyncGenerator<{ event: string; id: number; data: unknown }> {
    const response = await this.fetch(method, path, body, { accept: "text/event-stream" }, signal);
    if (!response.body) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop() ?? "";
        for (const block of blocks) {
          const field = (name: string) => block.split("\n").filter((l) => l.startsWith(`${name}: `)).map((l) => l.slice(name.length + 2)).join("\n");
          const data = field("data");
          if (!data) continue;
          const event = field("event");
          if (event === "problem") throw new Refused(JSON.parse(data) as Problem);
          yield { event, id: Number(field("id")), data: JSON.parse(data) as unknown };
        }
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  private async fetch(method: string, path: string, body: Json | string | undefined, more: Record<string, string>, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { accept: "application/json", ...more };
    if (this.options.token) headers["authorization"] = `Bearer ${this.options.token}`;
    const init: RequestInit = { method, headers };
    if (signal) init.signal = signal;
    if (body !== undefined) {
      headers["content-type"] = typeof body === "string" ? "application/edn" : "application/json";
      init.body = typeof body === "string" ? body : JSON.stringify(body, number);
    }
    const response = await (this.options.fetch ?? globalThis.fetch)(`${this.url}/v1/db/${encodeURIComponent(this.name)}${path}`, init);
    if (!response.ok) {
      const fallback: Problem = { type: "about:blank", title: response.statusText, status: response.status, code: `http/${response.status}`, detail: response.statusText };
      throw new Refused((await response.json().catch(() => fallback)) as Problem);
    }
    return response;
  }

  private async send<T>(method: string, path: string, body?: Json | string, more: Record<string, string> = {}, signal?: AbortSignal): Promise<{ body: T; headers: Headers }> {
    const response = await this.fetch(method, path, body, more, signal);
    return { body: (await response.json()) as T, headers: response.headers };
  }
}

/** What a command did. */
export interface Commanded { command: string; status: string; id: string; stream: string; version: number; t: number; events: number; replayed: boolean }
/** How far a command is. */
export interface CommandStatus { command: string; status: "accepted" | "running" | "done" | "rejected" | "failed"; t?: number; code?: string; views: Record<string, number> }

/** JSON has no infinities, and would make null of them; the database has no not-a-number. */
function number(_: string, value: unknown): unknown {
  if (typeof value !== "number" || Number.isFinite(value)) return value;
  if (Number.isNaN(value)) throw new TypeError("not-a-number is no value: it equals nothing and could never be found again");
  return { "#edn": value > 0 ? "##Inf" : "##-Inf" };
}

function time(point: TimePoint): number | string { return point instanceof Date ? point.toISOString() : point; }

function strip(body: { [key: string]: Json | undefined }): { [key: string]: Json } {
  return Object.fromEntries(Object.entries(body).filter((e): e is [string, Json] => e[1] !== undefined));
}
