//! Which transactions can change the answer of a query: those that touch an attribute it names.
//!
//! 1. The set is never too small. Whatever could read more than it names (an attribute in a
//!    variable, a wildcard, a component pulled in full, the log, events, stored rules, a pattern
//!    among the inputs) makes it [`Touch::Anything`].
//! 2. A transaction that touches an attribute of the schema can change what names mean: it
//!    always counts.
//! 3. A keyword in any other place may be the name of an entity, which only `:db/ident` changes;
//!    in a lookup ref it names the attribute that is looked up, so those count as read.

use annals::{
    AttrId, Datom, Keyword, Query, Schema, Value,
    ast::{
        Clause, Expr, FindElem, PullArg, PullItem, PullPattern, PullSub, Query as Ast, RuleSet, Spanned, Term,
    },
};
use std::collections::BTreeSet;

/// What can change an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Touch {
    /// Any transaction.
    Anything,
    /// Those that assert or retract one of these.
    Attributes(BTreeSet<AttrId>),
}

impl Touch {
    /// What can change the answer of a query with these rules and arguments.
    pub fn of(query: &Query, rules: Option<&str>, args: &[Value], schema: &Schema) -> Touch {
        let mut reads = Reads { schema, named: BTreeSet::new() };
        let found =
            reads.query(query.ast()).and_then(|()| reads.rules(rules)).and_then(|()| reads.values(args));
        match found {
            Some(()) => Touch::Attributes(reads.named),
            None => Touch::Anything,
        }
    }

    /// Can a transaction with these datoms change it? `schema` is that after the transaction.
    pub fn by(&self, datoms: &[Datom], schema: &Schema) -> bool {
        match self {
            Touch::Anything => true,
            Touch::Attributes(read) => {
                datoms.iter().any(|d| read.contains(&d.a)) || touches_schema(datoms, schema)
            }
        }
    }
}

/// Can these datoms change what names mean? Then [`Touch::of`] is to be asked again.
pub fn touches_schema(datoms: &[Datom], schema: &Schema) -> bool {
    datoms.iter().any(|d| {
        schema.attribute(d.a).is_none_or(|a| match a.ident.namespace() {
            // Said of every transaction, and of anything.
            Some("db") => !matches!(a.ident.name(), "txInstant" | "doc"),
            Some(other) => other.starts_with("db."),
            None => false,
        })
    })
}

/// Collects names; None is "it may read anything".
struct Reads<'a> {
    schema: &'a Schema,
    named: BTreeSet<AttrId>,
}

type Known = Option<()>;

impl Reads<'_> {
    fn attribute(&mut self, name: &Keyword) -> Known {
        let bare = match name.name().strip_prefix('_') {
            Some(bare) => Keyword::from_parts(name.namespace(), bare),
            None => name.clone(),
        };
        // Events are rows beside the datoms, under names of their own.
        if bare.namespace() == Some("event") {
            return None;
        }
        self.named.insert(self.schema.attribute_named(&bare)?.id);
        Some(())
    }

    fn attribute_term(&mut self, term: &Spanned<Term>) -> Known {
        match &term.node {
            Term::Const(Value::Keyword(k)) => self.attribute(k),
            _ => None,
        }
    }

    /// A lookup ref names the attribute that is looked up.
    fn value(&mut self, v: &Value) -> Known {
        match v {
            Value::Vector(items) | Value::List(items) | Value::Set(items) => {
                for item in items.iter() {
                    match item {
                        Value::Keyword(k) if self.schema.attribute_named(k).is_some() => self.attribute(k)?,
                        Value::Vector(_) | Value::List(_) | Value::Set(_) => self.value(item)?,
                        // A text may be an attribute's name, a map a pattern.
                        Value::String(s) if self.schema.attribute_named(&Keyword::new(s)).is_some() => {
                            return None;
                        }
                        Value::Map(_) => return None,
                        _ => {}
                    }
                }
                Some(())
            }
            Value::Map(_) => None,
            _ => Some(()),
        }
    }

    fn values(&mut self, all: &[Value]) -> Known {
        all.iter().try_for_each(|v| self.value(v))
    }

    fn terms(&mut self, all: &[Spanned<Term>]) -> Known {
        all.iter().try_for_each(|t| match &t.node {
            Term::Const(v) => self.value(v),
            Term::Src(_) => None,
            Term::Var(_) | Term::Blank => Some(()),
        })
    }

    fn query(&mut self, q: &Ast) -> Known {
        if !q.rules.stored.is_empty() {
            return None;
        }
        self.rule_set(&q.rules.inline)?;
        for elem in &q.find.elems {
            match elem {
                FindElem::Pull { pattern: PullArg::Literal(pattern), .. } => self.pull(pattern)?,
                FindElem::Pull { .. } => return None,
                FindElem::Var(_) | FindElem::Aggregate { .. } => {}
            }
        }
        self.clauses(&q.clauses)
    }

    fn rules(&mut self, text: Option<&str>) -> Known {
        let Some(text) = text else { return Some(()) };
        // Rules are read where a query brings its own; the query around them reads nothing.
        let carrier = Query::parse(&format!("[:find ?x :in [?x ...] :rules {text}]")).ok()?;
        if !carrier.ast().rules.stored.is_empty() {
            return None;
        }
        self.rule_set(&carrier.ast().rules.inline)
    }

    fn rule_set(&mut self, rules: &RuleSet) -> Known {
        rules.rules.iter().try_for_each(|r| self.clauses(&r.clauses))
    }

    fn clauses(&mut self, all: &[Clause]) -> Known {
        all.iter().try_for_each(|c| self.clause(c))
    }

    fn clause(&mut self, c: &Clause) -> Known {
        match c {
            Clause::Pattern(p) => {
                self.attribute_term(p.terms.get(1)?)?;
                self.terms(&p.terms)
            }
            Clause::Predicate(call) | Clause::Function(call, _) => self.expr(&call.expr),
            Clause::Not(not) => self.clauses(&not.clauses),
            Clause::Or(or) => or.branches.iter().try_for_each(|b| self.clauses(&b.clauses)),
            Clause::Rule(call) => self.terms(&call.args),
        }
    }

    fn expr(&mut self, e: &Expr) -> Known {
        match e {
            Expr::Call { args, .. } => self.terms(args),
            Expr::GetElse { e, a, .. } | Expr::Missing { e, a, .. } => {
                self.attribute_term(a)?;
                self.terms(std::slice::from_ref(e))
            }
            Expr::GetSome { e, attrs, .. } => {
                attrs.iter().try_for_each(|a| self.attribute_term(a))?;
                self.terms(std::slice::from_ref(e))
            }
            Expr::Fulltext { a, .. } => self.attribute_term(a),
            Expr::Ground(_) => Some(()),
            Expr::Query { query, args } => {
                self.query(query)?;
                let values = args.iter().filter_map(|a| a.node.as_const());
                values.into_iter().try_for_each(|v| self.value(v))
            }
            Expr::TxIds { .. } | Expr::TxData { .. } => None,
        }
    }

    fn pull(&mut self, pattern: &PullPattern) -> Known {
        pattern.items.iter().try_for_each(|item| match item {
            PullItem::Wildcard(_) => None,
            PullItem::Id { .. } => Some(()),
            PullItem::Attr(a) => {
                self.attribute(&a.attr.node)?;
                match &a.sub {
                    PullSub::Pattern(sub) => self.pull(sub),
                    PullSub::Recursion(_) => Some(()),
                    // A component is pulled with all it has.
                    PullSub::None => {
                        let component =
                            self.schema.attribute_named(&a.attr.node).is_none_or(|a| a.is_component);
                        (!component).then_some(())
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"[
      {:db/ident :order/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
      {:db/ident :order/status :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
      {:db/ident :order/next :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
      {:db/ident :order/lines :db/valueType :db.type/ref :db/cardinality :db.cardinality/many :db/isComponent true}]"#;

    fn touch(query: &str, rules: Option<&str>, args: &[Value]) -> Option<String> {
        let conn = annals::in_memory().unwrap();
        conn.transact(SCHEMA).unwrap();
        let db = conn.db();
        match Touch::of(&Query::parse(query).unwrap(), rules, args, db.schema()) {
            Touch::Anything => None,
            Touch::Attributes(named) => {
                let mut names: Vec<_> = named
                    .iter()
                    .map(|a| db.schema().attribute(*a).unwrap().ident.name().to_owned())
                    .collect();
                names.sort();
                Some(names.join(" "))
            }
        }
    }

    #[test]
    fn what_a_query_names_is_what_it_reads() {
        let of = |q: &str| touch(q, None, &[]);
        assert_eq!(of("[:find ?s :where [?o :order/status ?s]]").as_deref(), Some("status"));
        assert_eq!(
            of("[:find (pull ?o [:order/id {:order/_next [:order/status]}]) :where [?o :order/next]]")
                .as_deref(),
            Some("id next status")
        );
        assert_eq!(of("[:find ?o :where [?o :order/next [:order/id \"a\"]]]").as_deref(), Some("id next"));
        assert_eq!(
            of("[:find ?o :where [?o :order/id] (not [?o :order/next _]) [(missing? $ ?o :order/status)]]")
                .as_deref(),
            Some("id next status")
        );
        let rules = "[[(r ?a ?b) [?a :order/next ?b]]]";
        let rec = "[:find ?a :in $ % :where (r ?a ?b) [?b :order/id]]";
        assert_eq!(touch(rec, Some(rules), &[]).as_deref(), Some("id next"));
        let by = "[:find ?s :in $ ?o :where [?o :order/status ?s]]";
        let lookup = Value::vector([Value::keyword("order/id"), Value::string("a")]);
        assert_eq!(touch(by, None, &[lookup]).as_deref(), Some("id status"));
    }

    #[test]
    fn what_may_read_more_is_changed_by_anything() {
        for q in [
            "[:find ?a :where [_ ?a _]]",
            "[:find ?o :where [?o]]",
            "[:find ?a :where [(ground :order/id) ?x] [_ ?x ?a]]",
            "[:find (pull ?o [*]) :where [?o :order/id]]",
            "[:find (pull ?o [:order/lines]) :where [?o :order/id]]",
            "[:find (pull ?o p) :in $ p :where [?o :order/id]]",
            "[:find ?t :where [(tx-ids $ 1 5) [?t ...]]]",
            "[:find ?e :where [?e :event/type \"x\"]]",
            "[:find ?o :where [?o :order/id] :rules [:stored/rules]]",
        ] {
            assert_eq!(touch(q, None, &[]), None, "{q}");
        }
        let by = "[:find ?s :in $ % ?o :where (r ?o) [?o :order/status ?s]]";
        assert_eq!(touch(by, Some(":annals/allen"), &[]), None);
        let text = Value::vector([Value::string("order/id"), Value::string("a")]);
        assert_eq!(touch(by, None, &[text]), None);
    }

    #[test]
    fn a_transaction_counts_by_its_attributes_and_always_when_it_touches_the_schema() {
        let conn = annals::in_memory().unwrap();
        conn.transact(SCHEMA).unwrap();
        let query = Query::parse("[:find ?s :where [?o :order/status ?s]]").unwrap();
        let touch = Touch::of(&query, None, &[], conn.db().schema());
        let counts = |tx: &str| {
            let report = conn.transact(tx).unwrap();
            touch.by(report.tx_data(), report.db_after().schema())
        };
        assert!(!counts(r#"[{:order/id "a"}]"#));
        assert!(counts(r#"[{:order/id "a" :order/status :paid}]"#));
        assert!(!counts(r#"[{:db/id "x" :db/doc "said of something"}]"#));
        assert!(counts("[{:db/ident :color/red}]"));
        assert!(counts("[{:db/id :order/status :db/ident :order/state}]"));
    }
}
