//! Random transactions: speculation agrees with commitment, a reopened database
//! with the one that was closed, and every view of time with a replay of the log.

use annals::{Connection, Datom, Db, Options, T, TxData, Value, tx};
use std::collections::{BTreeMap, BTreeSet};

const SCHEMA: &str = r#"[
 {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}
 {:db/ident :p/tag :db/valueType :db.type/string :db/cardinality :db.cardinality/many}
 {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
 {:db/ident :p/kid :db/valueType :db.type/ref :db/cardinality :db.cardinality/many :db/isComponent true}
]"#;

/// A small generator of numbers; the seed names the run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
    fn name(&mut self) -> String {
        format!("n{}", self.roll(8))
    }
    fn lookup(&mut self) -> Value {
        Value::vector([Value::keyword("p/name"), self.name().into()])
    }
    fn tx(&mut self) -> TxData {
        let mut data = tx();
        for _ in 0..=self.roll(4) {
            data = match self.roll(8) {
                0..=2 => {
                    data.entity([("p/name", self.name().into()), ("p/age", Value::Long(self.roll(4) as i64))])
                }
                3 => data
                    .entity([("p/name", self.name().into()), ("p/tag", format!("t{}", self.roll(3)).into())]),
                4 => data.entity([("p/name", self.name().into()), ("p/boss", self.lookup())]),
                5 => {
                    let part = Value::map([(Value::keyword("p/age"), Value::Long(self.roll(9) as i64))]);
                    data.entity([("p/name", self.name().into()), ("p/kid", Value::vector([part]))])
                }
                6 => data.retract(self.lookup(), "p/tag", format!("t{}", self.roll(3))),
                _ => data.retract_entity(self.lookup()),
            };
        }
        data
    }
}

fn all(db: &Db) -> Vec<Datom> {
    db.datoms("eavt", &[]).unwrap()
}

/// The same facts through every index, so that none can differ.
fn consistent(db: &Db) {
    let facts: BTreeSet<Datom> = all(db).into_iter().collect();
    let by_attr: BTreeSet<Datom> = db.datoms("aevt", &[]).unwrap().into_iter().collect();
    // Attributes installed after an as-of view have no facts in it.
    assert_eq!(facts, by_attr);
    for d in &facts {
        let one = db.datoms("eavt", &[Value::Ref(d.e), Value::Ref(d.a.entity()), d.v.clone()]).unwrap();
        assert!(one.contains(d));
        if let Value::Ref(_) = d.v {
            assert!(db.datoms("vaet", std::slice::from_ref(&d.v)).unwrap().contains(d));
        }
    }
    for attr in ["p/name", "p/age"] {
        let ranged: Vec<Datom> = db.datoms("avet", &[Value::keyword(attr)]).unwrap();
        assert!(ranged.is_sorted_by(|x, y| (&x.v, x.e) <= (&y.v, y.e)));
        let listed: BTreeSet<Datom> =
            db.datoms("aevt", &[Value::keyword(attr)]).unwrap().into_iter().collect();
        assert_eq!(ranged.into_iter().collect::<BTreeSet<_>>(), listed);
    }
}

/// What holds after the log up to `t`, folded naively.
fn replay(conn: &Connection, t: T) -> Vec<Datom> {
    let mut held = BTreeMap::new();
    for r in conn.tx_range(T(0), t.next()).unwrap() {
        for d in r.unwrap().tx_data() {
            match d.added {
                true => held.insert((d.e, d.a, d.v.clone()), d.t),
                false => held.remove(&(d.e, d.a, d.v.clone())),
            };
        }
    }
    held.into_iter().map(|((e, a, v), t)| Datom { e, a, v, t, added: true }).collect()
}

fn views(db: &Db, at: T) -> Vec<Vec<Datom>> {
    let past = db.as_of(at);
    let since = db.since(at);
    [db, &past, &since, &db.history(), &past.history(), &since.history()].into_iter().map(all).collect()
}

#[test]
fn speculation_agrees_with_commitment() {
    for seed in 0..6 {
        let conn = annals::in_memory().unwrap();
        conn.transact(SCHEMA).unwrap();
        let mut dice = Dice(seed);
        let mut ahead: Option<Db> = None;
        let mut pending: Vec<TxData> = Vec::new();
        for step in 0..60 {
            let data = dice.tx();
            let base = ahead.clone().unwrap_or_else(|| conn.db());
            if let Ok(r) = base.with(&data) {
                ahead = Some(r.db_after().clone());
                pending.push(data);
            }
            if step % 5 != 4 {
                continue;
            }
            for data in pending.drain(..) {
                conn.transact(data).unwrap();
            }
            let Some(guess) = ahead.take() else { continue };
            let real = conn.db();
            assert_eq!(guess.t(), real.t());
            let at = T(dice.roll(real.t().0 + 1));
            // Instants differ: the clock went on. Everything else is the same.
            let strip = |views: Vec<Vec<Datom>>| -> Vec<Vec<Datom>> {
                let keep = |d: &Datom| !matches!(d.v, Value::Instant(_));
                views.into_iter().map(|v| v.into_iter().filter(keep).collect()).collect()
            };
            assert_eq!(strip(views(&guess, at)), strip(views(&real, at)), "seed {seed} step {step} at {at}");
            consistent(&guess);
            consistent(&real);
        }
        assert!(conn.db().t() > T(15), "too few transactions passed to mean anything");
    }
}

#[test]
fn reopened_databases_and_views_equal_a_replay() {
    for seed in 10..13 {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed);
        let open = || Options::new().open(dir.path().join("db")).unwrap();
        let mut conn = open();
        conn.transact(SCHEMA).unwrap();
        for step in 0..60 {
            let _ = conn.transact(dice.tx());
            if step % 20 == 19 {
                let at = T(dice.roll(conn.db().t().0 + 1));
                let before = views(&conn.db(), at);
                drop(conn);
                conn = open();
                assert_eq!(views(&conn.db(), at), before, "seed {seed} step {step}");
                assert_eq!(all(&conn.db().as_of(at)), replay(&conn, at), "seed {seed} at {at}");
                consistent(&conn.db());
                consistent(&conn.db().as_of(at));
            }
        }
    }
}

#[test]
fn a_second_open_is_refused_and_missing_databases_are_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    assert_eq!(Options::new().create(false).open(&path).unwrap_err().code(), "open/missing");
    let conn = annals::open(&path).unwrap();
    assert_eq!(annals::open(&path).unwrap_err().code(), "storage/locked");
    conn.transact("[{:db/ident :color/red}]").unwrap();
    drop(conn);
    let conn = Options::new().read_only(true).open(&path).unwrap();
    assert_eq!(conn.transact("[]").unwrap_err().code(), "tx/read-only");
    assert!(conn.db().entid("color/red").is_some());
}
