//! Generated cases: transactions against the model, queries against the naive
//! evaluator, over every view of time, in every order of clauses.
//!
//! `ANNALS_CASES_COUNT` says how many cases each test runs and `ANNALS_SEED`
//! where they start; a failure names its seed.

use annals::{Connection, Db, Index, Options, Query, QueryOptions, Shape, T};
use annals_model::{AttrId, Datom, EntityId, Value, View};
use annals_query::{
    edn::print,
    eval::{FixpointChoice, JoinChoice, Threads, function::Library},
    naive::{self, Given, NaiveDb, NaiveError, bag},
};
use annals_tests::{
    generate::{
        Rng, count,
        data::{self, Attr, Known},
        each_seed,
        pull::pattern as generate_pull,
        query,
    },
    txmodel::{Model, Refusal},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// A fact that holds, and since when.
type Held = (EntityId, AttrId, Value, T);

/// A database and its model, from a seed.
struct Pair {
    conn: Connection,
    model: Model,
    attrs: Vec<Attr>,
    /// The last transaction of the schema.
    schema_t: T,
}

/// The facts of a database value, without those about the schema and the clock.
fn facts(db: &Db, attributes: &BTreeSet<AttrId>) -> BTreeSet<Held> {
    let shown = NaiveDb::read(db).expect("a sound database can be read");
    let ours = shown.datoms().iter().filter(|d| attributes.contains(&d.a));
    ours.map(|d| (d.e, d.a, d.v.clone(), d.t)).collect()
}

fn sorted(mut datoms: Vec<Datom>) -> Vec<Datom> {
    datoms.sort();
    datoms
}

impl Pair {
    fn new(rng: &mut Rng, options: Options, dir: Option<&std::path::Path>) -> Pair {
        let attrs = data::schema(rng);
        let conn = match dir {
            Some(dir) => options.open(dir).expect("a new folder opens"),
            None => options.in_memory().expect("memory is there"),
        };
        for tx in data::schema_txs(&attrs) {
            conn.transact(tx).expect("generated schemas are sound");
        }
        let db = conn.db();
        Pair { model: Model::new((**db.schema()).clone(), db.t()), schema_t: db.t(), conn, attrs }
    }

    fn attributes(&self) -> BTreeSet<AttrId> {
        let schema = self.conn.db().schema().clone();
        self.attrs
            .iter()
            .map(|a| schema.attribute_named(&annals::Keyword::new(&a.ident)).expect("installed").id)
            .collect()
    }

    /// Applies a transaction to both; false when both refuse it.
    fn transact(&mut self, seed: u64, forms: Vec<Value>) -> bool {
        let text = print(&Value::vector(forms.clone()));
        // What it would do, speculatively: the same, and nothing written.
        let before = self.conn.db();
        let speculated = before.with(text.as_str());
        let result = self.conn.transact(text.as_str());
        match (&speculated, &result) {
            (Ok(maybe), Ok(done)) => {
                let facts = |r: &annals::TxReport| -> Vec<Datom> {
                    sorted(r.tx_data().iter().filter(|d| d.e != r.tx()).cloned().collect())
                };
                assert_eq!(facts(maybe), facts(done), "seed {seed}: with and transact differ: {text}");
                let attributes = self.attributes();
                let (one, other) = (maybe.db_after(), done.db_after());
                assert_eq!(
                    self::facts(one, &attributes),
                    self::facts(other, &attributes),
                    "seed {seed}: {text}"
                );
            }
            (Err(_), Err(_)) => {
                assert_eq!(self.conn.db().t(), before.t(), "seed {seed}: a refusal writes nothing")
            }
            _ => panic!("seed {seed}: with and transact differ: {:?}: {text}", speculated.err()),
        }
        let ids: BTreeMap<String, EntityId> = match &result {
            Ok(report) => report.tempids().map(|(name, e)| (name.to_owned(), e)).collect(),
            Err(_) => BTreeMap::new(),
        };
        match (result, self.model.transact(&forms, &ids)) {
            (Ok(report), Ok(expected)) => {
                let attributes = self.attributes();
                let written: Vec<Datom> =
                    report.tx_data().iter().filter(|d| attributes.contains(&d.a)).cloned().collect();
                assert_eq!(sorted(written), sorted(expected), "seed {seed}: datoms of {text}");
                let instants = report.tx_data().len()
                    - report.tx_data().iter().filter(|d| attributes.contains(&d.a)).count();
                assert_eq!(
                    instants, 1,
                    "seed {seed}: exactly one datom about the transaction itself: {text}"
                );
                true
            }
            (Err(_), Err(refusal)) => {
                assert!(!matches!(refusal, Refusal::WrongId(_)), "seed {seed}: {refusal:?}");
                false
            }
            (Ok(report), Err(refusal)) => panic!(
                "seed {seed}: the engine takes what the model refuses ({refusal:?}): {text}\nits datoms: {:?}",
                report.tx_data()
            ),
            (Err(e), Ok(datoms)) => {
                panic!("seed {seed}: the engine refuses ({e}) what the model takes: {text}\nas {datoms:?}")
            }
        }
    }

    fn random_transaction(&mut self, seed: u64, rng: &mut Rng, mistakes: usize) -> bool {
        let known = Known { entities: self.model.entities().into_iter().collect(), mistakes };
        let forms = data::transaction(rng, &self.attrs, &known);
        self.transact(seed, forms)
    }

    /// Is every past state what replaying the model's log says?
    fn check_views(&self, seed: u64, rng: &mut Rng) {
        let (db, attributes) = (self.conn.db(), self.attributes());
        assert_eq!(db.t(), self.model.t(), "seed {seed}: refused transactions do not count");
        for t in [self.schema_t, db.t(), T(rng.within(self.schema_t.0 as i64, db.t().0 as i64) as u64)] {
            let then = db.as_of(t);
            assert_eq!(facts(&then, &attributes), self.model.as_of(t), "seed {seed}: as of {t}");
        }
        self.check_indexes(seed, &db, &attributes, rng);
        let log = self.conn.tx_range(T(0), db.t().next()).expect("the log is there");
        let mut all = Vec::new();
        for report in log {
            let report = report.expect("the log can be read");
            all.extend(report.tx_data().iter().filter(|d| attributes.contains(&d.a)).cloned());
        }
        assert_eq!(sorted(all), sorted(self.model.log().to_vec()), "seed {seed}: the log");
        self.check_history(seed, &db, &attributes, rng);
    }

    /// Does every index give the facts of the model under its prefixes?
    fn check_indexes(&self, seed: u64, db: &Db, attributes: &BTreeSet<AttrId>, rng: &mut Rng) {
        let t = T(rng.within(self.schema_t.0 as i64, db.t().0 as i64) as u64);
        let then = db.as_of(t);
        let all = self.model.as_of(t);
        let read = |index, components: &[Value]| -> BTreeSet<Held> {
            let datoms =
                then.datoms(index, components).unwrap_or_else(|e| panic!("seed {seed}: {index:?}: {e}"));
            let n = datoms.len();
            let ours = datoms.into_iter().filter(|d| attributes.contains(&d.a));
            let set: BTreeSet<_> = ours.map(|d| (d.e, d.a, d.v, d.t)).collect();
            assert!(set.len() <= n, "seed {seed}: no duplicates");
            set
        };
        assert_eq!(read(Index::Eavt, &[]), all, "seed {seed}: EAVT as of {t}");
        let schema = then.schema();
        for (e, a, v, _) in all.iter().take(12) {
            let attribute = schema.attribute(*a).expect("facts have attributes");
            let of = |want: &dyn Fn(&Held) -> bool| -> BTreeSet<Held> {
                all.iter().filter(|x| want(x)).cloned().collect()
            };
            let key = Value::Keyword(attribute.ident.clone());
            let (id, e) = (Value::Ref(*e), *e);
            assert_eq!(
                read(Index::Eavt, std::slice::from_ref(&id)),
                of(&|x| x.0 == e),
                "seed {seed}: EAVT of {e:?}"
            );
            assert_eq!(
                read(Index::Eavt, &[id.clone(), key.clone()]),
                of(&|x| (x.0, x.1) == (e, *a)),
                "seed {seed}"
            );
            assert_eq!(
                read(Index::Aevt, std::slice::from_ref(&key)),
                of(&|x| x.1 == *a),
                "seed {seed}: AEVT of {key:?}"
            );
            if attribute.unique.is_some() || attribute.index {
                let same = of(&|x| (x.1, &x.2) == (*a, v));
                assert_eq!(read(Index::Avet, &[key, v.clone()]), same, "seed {seed}: AVET of {v:?}");
            }
            if let Value::Ref(_) = v {
                assert_eq!(
                    read(Index::Vaet, std::slice::from_ref(v)),
                    of(&|x| x.2 == *v),
                    "seed {seed}: VAET of {v:?}"
                );
            }
        }
    }

    fn check_history(&self, seed: u64, db: &Db, attributes: &BTreeSet<AttrId>, rng: &mut Rng) {
        let since = T(rng.within(self.schema_t.0 as i64, db.t().0 as i64) as u64);
        for (name, view) in [
            ("history", View { history: true, ..View::NOW }),
            ("since", View { since: Some(since), ..View::NOW }),
            ("history since", View { history: true, since: Some(since), ..View::NOW }),
        ] {
            let real = db.since(view.since.unwrap_or(T(0)));
            let real = if view.history { real.history() } else { real };
            let shown = NaiveDb::read(&real).expect("a sound database can be read");
            let ours = shown.datoms().iter().filter(|d| attributes.contains(&d.a)).cloned().collect();
            let expected = NaiveDb::of_log(self.model.log(), db.schema().clone(), view);
            assert_eq!(sorted(ours), sorted(expected.datoms().to_vec()), "seed {seed}: {name} since {since}");
        }
    }
}

#[test]
fn transactions_agree_with_the_model() {
    let (taken, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    each_seed(count(500), |seed| {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(&mut rng, Options::new(), None);
        let forms = data::seed_transaction(&mut rng, &pair.attrs, 4);
        pair.transact(seed, forms);
        for _ in 0..12 {
            match pair.random_transaction(seed, &mut rng, 1) {
                true => taken.fetch_add(1, Relaxed),
                false => refused.fetch_add(1, Relaxed),
            };
        }
        pair.check_views(seed, &mut rng);
    });
    let (taken, refused) = (taken.into_inner(), refused.into_inner());
    println!("transactions against the model: {taken} taken, {refused} refused, by both");
    assert!(taken + refused < 100 || taken > refused / 4, "the generator makes too many refusals");
}

#[test]
fn files_agree_with_the_model_over_reopening_and_checkpoints() {
    use annals::{Checkpoint, Durability};
    each_seed(count(500) / 20 + 1, |seed| {
        let mut rng = Rng::new(seed ^ 0xf11e);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let options = |rng: &mut Rng| {
            let checkpoint = match rng.below(3) {
                0 => Checkpoint::Never,
                1 => Checkpoint::Always,
                _ => Checkpoint::Auto { facts: rng.within(1, 30) as usize, idle_ms: 5 },
            };
            Options::new().checkpoint(checkpoint).durability(Durability::Relaxed)
        };
        let first = options(&mut rng);
        let mut pair = Pair::new(&mut rng, first, Some(dir.path()));
        for _ in 0..15 {
            pair.random_transaction(seed, &mut rng, 0);
            if rng.chance(25) {
                pair.conn.close();
                let again = options(&mut rng);
                let Pair { conn, model, attrs, schema_t } = pair;
                drop(conn);
                let conn = again.open(dir.path()).unwrap_or_else(|e| panic!("seed {seed}: reopening: {e}"));
                pair = Pair { conn, model, attrs, schema_t };
                pair.check_views(seed, &mut rng);
            }
        }
        pair.check_views(seed, &mut rng);
    });
}

/// The log of a database, genesis and all.
fn log_of(conn: &Connection) -> Vec<Datom> {
    let log = conn.tx_range(T(0), conn.db().t().next()).expect("the log is there");
    log.flat_map(|r| r.expect("the log can be read").tx_data().to_vec()).collect()
}

/// Functions the naive evaluator leaves to others: those of the engine's table.
fn library(name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let function = Library::standard().function(name)?;
    Some(function.call(args).map_err(|e| e.to_string()))
}

/// A way to run a query that must not change its answer.
struct Way {
    name: &'static str,
    options: QueryOptions,
    /// Rows of a batch, if they are taken batch by batch.
    batch: Option<usize>,
}

fn ways() -> Vec<Way> {
    let way = |name, options| Way { name, options, batch: None };
    let fixpoint = |fixpoint| QueryOptions { fixpoint, ..QueryOptions::default() };
    vec![
        way("as usual", QueryOptions::default()),
        way("not optimised", QueryOptions { optimise: false, ..QueryOptions::default() }),
        way("fixpoint by hash tables", fixpoint(FixpointChoice::Hash)),
        way("fixpoint by sorted batches", fixpoint(FixpointChoice::Sorted)),
        way("resolved anew", QueryOptions { cache: false, ..QueryOptions::default() }),
        way("checked by itself", QueryOptions::default().check(true)),
        way("on three threads", QueryOptions { threads: Threads::Exactly(3), ..QueryOptions::default() }),
        way("cycles at once", QueryOptions { joins: JoinChoice::Leapfrog, ..QueryOptions::default() }),
        way("rows unsorted", QueryOptions { sorted: false, ..QueryOptions::default() }),
        Way { name: "rows streamed", options: QueryOptions::default(), batch: Some(3) },
    ]
}

/// What the engine answers: is it one row of possibly many, and the rows.
fn engine_rows(
    q: &Query,
    db: &Db,
    args: &[query::Arg],
    newest: &Db,
    Way { options, batch, .. }: &Way,
) -> Result<(bool, Vec<Vec<Value>>), String> {
    let source = |db: Db| annals_query::query::Input::Source(Arc::new(db));
    let inputs: Vec<_> = args
        .iter()
        .map(|a| match a {
            query::Arg::Db => source(db.clone()),
            query::Arg::AsOf(t) => source(newest.as_of(*t)),
            query::Arg::Value(v) => annals_query::query::Input::Value(v.clone()),
        })
        .collect();
    let is_one = |shape: &Shape| !matches!(shape, Shape::Rel | Shape::Coll);
    if let Some(size) = batch {
        let stream = q.stream(&inputs, options, *size).map_err(|e| e.to_string())?;
        let one = is_one(&stream.shape);
        let batches: Vec<_> = stream.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        if batches.iter().any(|b| b.is_empty() || b.len() > *size) {
            return Err(format!("a batch of none, or of more than {size} rows"));
        }
        return Ok((one, batches.concat()));
    }
    let answer = q.run(&inputs, options).map_err(|e| e.to_string())?;
    let one = is_one(&answer.shape);
    Ok((one, answer.rows.iter().collect()))
}

/// A database as one view shows it, to the engine and to the naive evaluator.
struct Scene<'a> {
    shown: Db,
    newest: &'a Db,
    log: &'a [Datom],
    view: View,
}

impl Scene<'_> {
    fn new<'a>(newest: &'a Db, log: &'a [Datom], view: View) -> Scene<'a> {
        let mut shown = newest.clone();
        if let Some(t) = view.as_of {
            shown = shown.as_of(t);
        }
        if let Some(t) = view.since {
            shown = shown.since(t);
        }
        if view.history {
            shown = shown.history();
        }
        Scene { shown, newest, log, view }
    }

    fn naive(&self, q: &query::Generated) -> Result<naive::Naive, NaiveError> {
        let of = |view| Given::Db(Arc::new(NaiveDb::of_log(self.log, self.newest.schema().clone(), view)));
        let given: Vec<Given> = q
            .args
            .iter()
            .map(|a| match a {
                query::Arg::Db => of(self.view),
                query::Arg::AsOf(t) => of(View { as_of: Some(*t), ..View::NOW }),
                query::Arg::Value(v) => Given::Value(v.clone()),
            })
            .collect();
        naive::run(&q.form(), &given, &library)
    }

    /// What is wrong with the engine's answer, if anything.
    fn complaint(
        &self,
        q: &query::Generated,
        expected: &Result<naive::Naive, NaiveError>,
        way: &Way,
    ) -> Option<String> {
        let actual = match Query::parse(&print(&q.form())) {
            Ok(prepared) => engine_rows(&prepared, &self.shown, &q.args, self.newest, way),
            Err(e) => Err(e.to_string()),
        };
        match (expected, actual) {
            (Ok(naive), Ok((one, actual))) => {
                let wanted = q.slice.map_or_else(|| naive.rows.clone(), |s| s.of(naive.rows.clone()));
                let in_order = q.slice.is_none() || wanted == actual;
                let (wanted, actual) = (bag(wanted.into_iter()), bag(actual.into_iter()));
                let right = match one {
                    true if wanted.is_empty() => actual.is_empty(),
                    true => !actual.is_empty() && actual.keys().all(|r| wanted.contains_key(r)),
                    false => in_order && wanted == actual,
                };
                (!right).then(|| format!("expected {wanted:?}\n  actual   {actual:?}"))
            }
            (Err(_), Err(_)) => None,
            (Ok(naive), Err(e)) => Some(format!("the engine fails: {e}\n  expected {:?}", naive.rows)),
            (Err(e), Ok(_)) => Some(format!("the engine answers what has no meaning: {e:?}")),
        }
    }

    /// The smallest query that still goes wrong this way, by leaving out clauses.
    fn shrunk(&self, q: &query::Generated, way: &Way) -> (query::Generated, String) {
        let wrong = |q: &query::Generated| {
            let expected = self.naive(q);
            // Without its clause a variable may be unbound; that is another story.
            if expected.is_err() { None } else { self.complaint(q, &expected, way) }
        };
        // A clause left out may make a variable unbound, which is no smaller case of the same.
        let same = |a: &str, b: &str| a.contains("query/unbound") == b.contains("query/unbound");
        let mut best = (q.clone(), self.complaint(q, &self.naive(q), way).unwrap_or_default());
        let mut at = 0;
        while at < best.0.clauses.len() {
            let mut smaller = best.0.clone();
            smaller.clauses.remove(at);
            match wrong(&smaller) {
                Some(complaint) if same(&complaint, &best.1) => best = (smaller, complaint),
                _ => at += 1,
            }
        }
        best
    }
}

#[test]
fn queries_agree_with_the_naive_evaluator() {
    let [compared, with_rows, refused, skipped] = [const { AtomicUsize::new(0) }; 4];
    let queries_a_database = 5;
    let ways = ways();
    each_seed(count(500).div_ceil(queries_a_database), |seed| {
        let mut rng = Rng::new(seed ^ 0x0_0acc1e);
        let mut pair = Pair::new(&mut rng, Options::new(), None);
        let n = rng.within(5, 10) as usize;
        let forms = data::seed_transaction(&mut rng, &pair.attrs, n);
        pair.transact(seed, forms);
        for _ in 0..6 {
            pair.random_transaction(seed, &mut rng, 0);
        }
        let (log, db) = (log_of(&pair.conn), pair.conn.db());
        let entities: Vec<EntityId> = pair.model.entities().into_iter().collect();
        for _ in 0..queries_a_database {
            let t = T(rng.within(pair.schema_t.0 as i64, db.t().0 as i64) as u64);
            let view = match rng.below(8) {
                0 => View { history: true, ..View::NOW },
                1 => View { as_of: Some(t), ..View::NOW },
                2 => View { since: Some(pair.schema_t), ..View::NOW },
                3 => View { since: Some(T(t.0 - 1)), as_of: Some(t), history: false },
                _ => View::NOW,
            };
            let scene = Scene::new(&db, &log, view);
            let world = query::World {
                attrs: &pair.attrs,
                entities: &entities,
                basis: db.t(),
                history: view.history,
            };
            let q = query::query(&mut rng, &world);
            let expected = scene.naive(&q);
            if let Err(NaiveError::TooLarge | NaiveError::Unsupported(_)) = expected {
                skipped.fetch_add(1, Relaxed);
                continue;
            }
            let shuffled = q.shuffled(&mut rng);
            for (q, ways) in [(&q, &ways[..]), (&shuffled, &ways[..2])] {
                for way in ways {
                    if let Some(first) = scene.complaint(q, &expected, way) {
                        eprintln!("seed {seed}: {first}\n  {}", print(&q.form()));
                        let (q, complaint) = scene.shrunk(q, way);
                        panic!(
                            "seed {seed}, {}: {complaint}\n  {}\n  args {:?}\n  view {view:?}",
                            way.name,
                            print(&q.form()),
                            q.args
                        );
                    }
                }
            }
            match &expected {
                Ok(naive) => with_rows.fetch_add(usize::from(!naive.rows.is_empty()), Relaxed),
                Err(_) => refused.fetch_add(1, Relaxed),
            };
            compared.fetch_add(1, Relaxed);
        }
    });
    let [compared, with_rows, refused, skipped] =
        [compared, with_rows, refused, skipped].map(AtomicUsize::into_inner);
    println!(
        "queries against the naive evaluator: {compared}, {with_rows} with rows; {refused} refused, {skipped} skipped"
    );
    assert!(compared < 100 || with_rows * 4 > compared, "the generator makes too many empty answers");
}

#[test]
fn pulls_agree_with_the_naive_evaluator() {
    let compared = AtomicUsize::new(0);
    each_seed(count(500).div_ceil(10), |seed| {
        let mut rng = Rng::new(seed ^ 0x9011);
        let mut pair = Pair::new(&mut rng, Options::new(), None);
        let forms = data::seed_transaction(&mut rng, &pair.attrs, 7);
        pair.transact(seed, forms);
        for _ in 0..4 {
            pair.random_transaction(seed, &mut rng, 0);
        }
        let (log, db) = (log_of(&pair.conn), pair.conn.db());
        let entities: Vec<EntityId> = pair.model.entities().into_iter().collect();
        for _ in 0..10 {
            let t = T(rng.within(pair.schema_t.0 as i64, db.t().0 as i64) as u64);
            let view = if rng.chance(40) { View { as_of: Some(t), ..View::NOW } } else { View::NOW };
            let shown = view.as_of.map_or(db.clone(), |t| db.as_of(t));
            let pattern = generate_pull(&mut rng, &pair.attrs, 2);
            let Some(e) = rng.some(&entities).copied() else { break };
            let text = print(&pattern);
            let expected = naive::pull(&NaiveDb::of_log(&log, db.schema().clone(), view), &pattern, e);
            let actual = shown.pull(text.as_str(), e).map_err(|e| e.to_string());
            match (&expected, &actual) {
                (Ok(wanted), Ok(got)) => {
                    assert_eq!(wanted, got, "seed {seed}: {text} of {e:?}, view {view:?}");
                    compared.fetch_add(1, Relaxed);
                }
                (Err(_), Err(_)) => {}
                _ => panic!("seed {seed}: {text} of {e:?}: expected {expected:?}, was {actual:?}"),
            }
        }
    });
    println!("pulls against the naive evaluator: {}", compared.into_inner());
}

#[test]
fn timelines_agree_with_running_the_query_at_every_time() {
    let [compared, refused] = [const { AtomicUsize::new(0) }; 2];
    each_seed(count(500).div_ceil(10), |seed| {
        let mut rng = Rng::new(seed ^ 0x71e1);
        let mut pair = Pair::new(&mut rng, Options::new(), None);
        let forms = data::seed_transaction(&mut rng, &pair.attrs, 5);
        pair.transact(seed, forms);
        for _ in 0..5 {
            pair.random_transaction(seed, &mut rng, 0);
        }
        let (log, db) = (log_of(&pair.conn), pair.conn.db());
        let entities: Vec<EntityId> = pair.model.entities().into_iter().collect();
        let world = query::World { attrs: &pair.attrs, entities: &entities, basis: db.t(), history: false };
        for _ in 0..3 {
            let q = query::query(&mut rng, &world);
            let form = q.form();
            // Other times and bags have no timeline of their own.
            let moves = q.args.iter().any(|a| matches!(a, query::Arg::AsOf(_)));
            if moves || q.is_aggregated() || q.slice.is_some() {
                continue;
            }
            let values = q.args.iter().filter_map(|a| match a {
                query::Arg::Value(v) => Some(annals::Input::Value(v.clone())),
                _ => None,
            });
            let actual = db.timeline(print(&form).as_str(), values.collect::<Vec<_>>());
            let mut wanted: BTreeMap<Vec<Value>, BTreeSet<T>> = BTreeMap::new();
            let mut sound = true;
            for t in pair.schema_t.0..=db.t().0 {
                let view = View { as_of: Some(T(t)), ..View::NOW };
                let then = Arc::new(NaiveDb::of_log(&log, db.schema().clone(), view));
                let given: Vec<Given> = q
                    .args
                    .iter()
                    .map(|a| match a {
                        query::Arg::Value(v) => Given::Value(v.clone()),
                        _ => Given::Db(then.clone()),
                    })
                    .collect();
                match naive::run(&form, &given, &library) {
                    Ok(answer) => {
                        for row in answer.rows {
                            wanted.entry(row).or_default().insert(T(t));
                        }
                    }
                    Err(_) => sound = false,
                }
            }
            match actual {
                Err(_) => drop(refused.fetch_add(1, Relaxed)),
                Ok(rows) if sound => {
                    let mut got: BTreeMap<Vec<Value>, BTreeSet<T>> = BTreeMap::new();
                    for row in rows {
                        let times = (pair.schema_t.0..=db.t().0).map(T).filter(|t| row.times.contains(*t));
                        got.entry(row.values.clone()).or_default().extend(times);
                    }
                    got.retain(|_, times| !times.is_empty());
                    assert_eq!(got, wanted, "seed {seed}: timeline of {} with {:?}", print(&form), q.args);
                    compared.fetch_add(1, Relaxed);
                }
                Ok(_) => {}
            }
        }
    });
    println!("timelines: {} compared, {} refused", compared.into_inner(), refused.into_inner());
}
