// What people call entities: the value of a unique attribute of theirs, where they have one.

import { post } from "./api.js";

const QUERY = "[:find ?e ?v :in $ [?e ...] :where [?a :db/unique _] [?e ?a ?v]]";
const MOST = 500;

/** The names of these entities as they are now, by entity id; what has none, and what comes after the first 500, is not in it. */
export async function names(app, ids) {
  const asked = [...new Set(ids)].slice(0, MOST);
  const found = new Map();
  if (!asked.length) return found;
  const { rows } = await post(app.path("/query"), { query: QUERY, args: [asked] });
  for (const [e, v] of rows) if (!found.has(e)) found.set(e, String(v));
  return found;
}
