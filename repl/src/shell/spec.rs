//! The shell's commands as data: names, arguments, help with examples.
//!
//! One table feeds dispatch, completion, `:help` and "did you mean", so none of
//! them can know a command that another does not.

/// What a command's argument is, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// Nothing we can list.
    Free,
    /// A file or folder.
    File,
    /// An attribute.
    Attribute,
    /// An entity: a number, an ident, a lookup ref.
    Entity,
    /// A query, transaction or event.
    Form,
    /// A point in time.
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A help topic.
    Topic,
    /// A stream.
    Stream,
    /// A projection.
    Projection,
}

/// One command.
#[derive(Debug)]
pub struct Spec {
    /// Its name, without the colon.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// Its arguments as shown in help.
    pub usage: &'static str,
    /// What each argument is; the last one repeats.
    pub args: &'static [Arg],
    /// One line: what it does.
    pub summary: &'static str,
    /// More, if there is more to say.
    pub more: &'static str,
    /// Lines one can type.
    pub examples: &'static [&'static str],
    /// Heading in `:help`.
    pub group: Group,
}

/// A heading of the list of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own heading")]
pub enum Group {
    Look,
    Time,
    Explain,
    Write,
    Events,
    Files,
    Shell,
}

impl Group {
    /// All, in the order of `:help`.
    pub const ALL: [Group; 7] =
        [Group::Look, Group::Time, Group::Explain, Group::Write, Group::Events, Group::Files, Group::Shell];
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Look => "Looking around",
            Group::Time => "Time",
            Group::Explain => "Why",
            Group::Write => "Writing",
            Group::Events => "Events",
            Group::Files => "Files and databases",
            Group::Shell => "The shell",
        }
    }
}

const ON_OFF: &[&str] = &["on", "off"];
const ENTITY: &[Arg] = &[Arg::Entity, Arg::Attribute, Arg::Free];

/// Every command.
pub const COMMANDS: &[Spec] = &[
    Spec {
        name: "schema",
        aliases: &["describe", "d"],
        usage: "[:ATTR | NAMESPACE]",
        args: &[Arg::Attribute],
        summary: "attributes with type, cardinality, uniqueness and doc",
        more: "With an attribute or a namespace, only those. The schema shown is that of the moment in the prompt.",
        examples: &[":schema", ":schema :order/status", ":schema order"],
        group: Group::Look,
    },
    Spec {
        name: "attrs",
        aliases: &[],
        usage: "[NAMESPACE]",
        args: &[Arg::Attribute],
        summary: "attributes with the number of facts each holds now",
        more: "",
        examples: &[":attrs", ":attrs order"],
        group: Group::Look,
    },
    Spec {
        name: "stats",
        aliases: &[],
        usage: "",
        args: &[],
        summary: "sizes and counts of the database",
        more: "",
        examples: &[":stats"],
        group: Group::Look,
    },
    Spec {
        name: "entity",
        aliases: &["e"],
        usage: "ENTITY",
        args: &[Arg::Entity],
        summary: "everything one entity says, as of the moment in the prompt",
        more: "An entity is a number, an ident, or a lookup ref.",
        examples: &[":entity [:order/id \"A-1\"]", ":entity 35184372088833"],
        group: Group::Look,
    },
    Spec {
        name: "pull",
        aliases: &[],
        usage: "PATTERN ENTITY",
        args: &[Arg::Form, Arg::Entity],
        summary: "one entity as a tree",
        more: "",
        examples: &[
            ":pull [*] [:order/id \"A-1\"]",
            ":pull [:order/id {:order/customer [*]}] [:order/id \"A-1\"]",
        ],
        group: Group::Look,
    },
    Spec {
        name: "chart",
        aliases: &[],
        usage: "[bars|spark] [QUERY]",
        args: &[Arg::Word(&["bars", "spark", "sparkline"]), Arg::Form],
        summary: "draw rows of labels and numbers; without a query, the last answer",
        more: "The last numeric column is drawn; the columns before it are the label.",
        examples: &[":chart [:find ?status (count ?o) :where [?o :order/status ?status]]", ":chart spark *1"],
        group: Group::Look,
    },
    Spec {
        name: "watch",
        aliases: &[],
        usage: "[QUERY]",
        args: &[Arg::Form],
        summary: "follow transactions, or a query's rows, as they change; Ctrl-C ends it",
        more: "Of a folder it sees what this process writes; of a database on a server, what anybody writes there.",
        examples: &[":watch", ":watch [:find (count ?o) . :where [?o :order/id]]"],
        group: Group::Look,
    },
    Spec {
        name: "as-of",
        aliases: &["asof"],
        usage: "T | DATE | -2h",
        args: &[Arg::Time],
        summary: "move to a moment: everything that follows is asked of the database as it was then",
        more: "T is a transaction number; a date is RFC 3339 or a prefix of it (2026, 2026-03, 2026-03-01); -2h goes back from now: s, m, h, d, w, mo, y.",
        examples: &[":as-of 42", ":as-of 2026-03-01", ":as-of -8mo"],
        group: Group::Time,
    },
    Spec {
        name: "now",
        aliases: &[],
        usage: "",
        args: &[],
        summary: "back to the present: no as-of, since or history",
        more: "",
        examples: &[":now"],
        group: Group::Time,
    },
    Spec {
        name: "since",
        aliases: &[],
        usage: "T | DATE | -2h",
        args: &[Arg::Time],
        summary: "see only what was asserted after a moment",
        more: "Combines with :as-of to a window. A lookup ref resolves within the window, so it finds only entities identified in it.",
        examples: &[":since 42", ":since -1d"],
        group: Group::Time,
    },
    Spec {
        name: "history",
        aliases: &["hist"],
        usage: "[on | off | ENTITY [:ATTR]]",
        args: ENTITY,
        summary: "ask every assertion and retraction; with an entity, show its life",
        more: "In a history view a pattern has five places: [?e :attr ?v ?tx ?op]; ?op is true for an assertion.",
        examples: &[
            ":history on",
            ":history [:order/id \"A-1\"]",
            ":history [:order/id \"A-1\"] :order/status",
        ],
        group: Group::Time,
    },
    Spec {
        name: "diff",
        aliases: &[],
        usage: "T1 T2 [QUERY]",
        args: &[Arg::Time, Arg::Time, Arg::Form],
        summary: "rows gained and lost between two moments, with the transaction that did it",
        more: "Without a query, the last query is compared.",
        examples: &[
            ":diff 3 7 [:find ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]",
            ":diff -1d now",
        ],
        group: Group::Time,
    },
    Spec {
        name: "timeline",
        aliases: &["lanes"],
        usage: "ENTITY [:ATTR …]",
        args: &[Arg::Entity, Arg::Attribute],
        summary: "draw when each value of an entity held",
        more: "",
        examples: &[":timeline [:order/id \"A-1\"]", ":timeline [:order/id \"A-1\"] :order/status"],
        group: Group::Time,
    },
    Spec {
        name: "log",
        aliases: &[],
        usage: "[N | FROM TO]",
        args: &[Arg::Time],
        summary: "transactions, newest last (10 unless said)",
        more: "",
        examples: &[":log", ":log 50", ":log 2026-01-01 2026-02-01"],
        group: Group::Time,
    },
    Spec {
        name: "tx",
        aliases: &[],
        usage: "T",
        args: &[Arg::Time],
        summary: "what one transaction asserted and retracted",
        more: "",
        examples: &[":tx 42"],
        group: Group::Time,
    },
    Spec {
        name: "why",
        aliases: &[],
        usage: "[N | ENTITY :ATTR [VALUE]]",
        args: ENTITY,
        summary: "why a row is in the last answer; or which event, projection and transaction made a fact",
        more: "Alone or with a number, it proves a row of the last answer: every clause, and the facts, rules and tests that satisfy it. With an entity and an attribute, it names the transaction, event, command and projection that made the fact.",
        examples: &[
            ":why",
            ":why 3",
            ":why [:order/id \"A-1\"] :order/status",
            ":why [:order/id \"A-1\"] :order/status :shipped",
        ],
        group: Group::Explain,
    },
    Spec {
        name: "why-not",
        aliases: &["whynot"],
        usage: "[QUERY] [ROW]",
        args: &[Arg::Form],
        summary: "which clause leaves a query without rows, or keeps one row out of its answer",
        more: "Without a row, clauses are added one at a time, in an order that keeps them joined; the first set without rows is shown, and what each clause finds alone. With a row, a value for each element of :find, the clause that cannot hold for it. The last query is meant when none is written.",
        examples: &[
            ":why-not [:find ?o :where [?o :order/id \"A-9\"] [?o :order/status :shipped]]",
            ":why-not [:find ?id :where [?o :order/id ?id] [?o :order/status :shipped]] [\"A-1\"]",
            ":why-not [\"A-1\"]",
        ],
        group: Group::Explain,
    },
    Spec {
        name: "explain",
        aliases: &[],
        usage: "[QUERY]",
        args: &[Arg::Form],
        summary: "run a query and show what each clause did: rows expected and found, time; without one, the last",
        more: "Clauses stand in the order they were run. Expected rows are the planner's estimate when it chose the clause. :plan shows them without running.",
        examples: &[":explain [:find ?id :where [_ :order/id ?id]]", ":explain"],
        group: Group::Explain,
    },
    Spec {
        name: "plan",
        aliases: &[],
        usage: "[QUERY]",
        args: &[Arg::Form],
        summary: "what a query would do: the clauses in order, the index each reads, rows expected; nothing is run",
        more: "",
        examples: &[":plan [:find ?id :where [_ :order/id ?id]]", ":plan"],
        group: Group::Explain,
    },
    Spec {
        name: "with",
        aliases: &[],
        usage: "TX [QUERY]",
        args: &[Arg::Form, Arg::Form],
        summary: "what a transaction would do; with a query, what it would answer. Nothing is written",
        more: "",
        examples: &[
            ":with [{:order/id \"A-2\"}]",
            ":with [{:order/id \"A-2\"}] [:find (count ?o) . :where [?o :order/id]]",
        ],
        group: Group::Write,
    },
    Spec {
        name: "undo-tx",
        aliases: &["undo"],
        usage: "T",
        args: &[Arg::Time],
        summary: "propose the transaction that takes another one back",
        more: "It is printed, and kept as *1's transaction for `:undo-tx T !`, which transacts it. What later transactions changed is left alone and named.",
        examples: &[":undo-tx 42", ":undo-tx 42 !"],
        group: Group::Write,
    },
    Spec {
        name: "let",
        aliases: &[],
        usage: "[?x VALUE | ?x]",
        args: &[Arg::Free, Arg::Form],
        summary: "give a value to a parameter: queries that name it in :in get it",
        more: "`:let` alone lists them; `:let ?x` forgets one. *1 *2 *3 stand for the last answers.",
        examples: &[":let ?id \"A-1\"", ":let ?ids [\"A-1\" \"A-2\"]", ":let ?last *1"],
        group: Group::Write,
    },
    Spec {
        name: "rules",
        aliases: &[],
        usage: "[[(HEAD) CLAUSE…] … | clear]",
        args: &[Arg::Form],
        summary: "keep rules for queries: a query that calls one gets them",
        more: "`:rules` alone lists them. A query that does not name % in :in but calls a stored rule gets it added.",
        examples: &[
            ":rules [[(under ?x ?y) [?x :p/boss ?y]] [(under ?x ?y) [?x :p/boss ?z] (under ?z ?y)]]",
            ":rules",
            ":rules clear",
        ],
        group: Group::Write,
    },
    Spec {
        name: "streams",
        aliases: &[],
        usage: "[STREAM]",
        args: &[Arg::Stream],
        summary: "streams with their versions; with one, its events",
        more: "",
        examples: &[":streams", ":streams order-A-1"],
        group: Group::Events,
    },
    Spec {
        name: "projections",
        aliases: &[],
        usage: "[add|preview FILE | rebuild|drop|pause|resume|parked|replay|skipped NAME | skip NAME POSITION WHY]",
        args: &[
            Arg::Word(&[
                "add", "preview", "rebuild", "drop", "pause", "resume", "parked", "replay", "skip", "skipped",
            ]),
            Arg::Projection,
        ],
        summary: "what turns events into facts: state, position, lag, what is parked",
        more: "preview runs a changed definition in memory and shows the facts it would add and remove. rebuild makes the facts anew beside the live ones and replaces them in one transaction. drop retracts them as of now. parked lists the events a projection could not take, replay tries them again, skip leaves one out for good, with who and why.",
        examples: &[
            ":projections",
            ":projections add cases.edn",
            ":projections preview cases.edn",
            ":projections rebuild cases",
            ":projections parked cases",
            ":projections skip cases 17 \"booked twice\"",
        ],
        group: Group::Events,
    },
    Spec {
        name: "commands",
        aliases: &[],
        usage: "[drop ID WHY]",
        args: &[Arg::Word(&["drop"]), Arg::Free],
        summary: "commands that wait to be carried out; drop takes one out of the queue, undone",
        more: "A command that can never succeed holds up those behind it. Dropped, it is rejected with the code command/dropped, and the process that sent it is told.",
        examples: &[":commands", ":commands drop 0f8fad5b-d9cb-469f-a165-70867728950e \"ticket 4711\""],
        group: Group::Events,
    },
    Spec {
        name: "send",
        aliases: &["append"],
        usage: "STREAM TYPE [DATA]",
        args: &[Arg::Stream, Arg::Free, Arg::Form],
        summary: "append one event, and show the facts it changed",
        more: "",
        examples: &[":send order-A-1 OrderShipped {:carrier \"DHL\"}"],
        group: Group::Events,
    },
    Spec {
        name: "open",
        aliases: &[],
        usage: "[DB | URL]",
        args: &[Arg::File],
        summary: "another database, in a folder or on a server; without a name, one in memory",
        more: "The token for a server is taken from $ANNALS_TOKEN.",
        examples: &[":open ./orders", ":open http://127.0.0.1:7407/v1/db/orders"],
        group: Group::Files,
    },
    Spec {
        name: "import",
        aliases: &[],
        usage: "events|csv|ndjson|edn|git|cloudevents|xes FILE [FLAGS]",
        args: &[Arg::Word(&["events", "csv", "ndjson", "edn", "git", "cloudevents", "xes"]), Arg::File],
        summary: "read data into the database, as `annals import` does",
        more: "",
        examples: &[":import csv products.csv --key sku", ":import events log.ndjson --projection cases.edn"],
        group: Group::Files,
    },
    Spec {
        name: "export",
        aliases: &[],
        usage: "[FILE] [--history] [--format F]",
        args: &[Arg::File],
        summary: "write the database out, as `annals export` does",
        more: "",
        examples: &[":export full.edn --history"],
        group: Group::Files,
    },
    Spec {
        name: "run",
        aliases: &["read", "i"],
        usage: "FILE",
        args: &[Arg::File],
        summary: "run the forms and commands of a file",
        more: "",
        examples: &[":run report.edn"],
        group: Group::Files,
    },
    Spec {
        name: "edit",
        aliases: &["ed"],
        usage: "",
        args: &[],
        summary: "write the next form in $EDITOR, beginning with the last one",
        more: "",
        examples: &[":edit"],
        group: Group::Files,
    },
    Spec {
        name: "save",
        aliases: &["o"],
        usage: "FILE",
        args: &[Arg::File],
        summary: "write the last answer to a file; its ending chooses the format",
        more: "Endings: .edn .json .ndjson .csv .parquet .txt. An existing file is replaced.",
        examples: &[":save rows.csv"],
        group: Group::Files,
    },
    Spec {
        name: "backup",
        aliases: &[],
        usage: "DIR",
        args: &[Arg::File],
        summary: "copy the database while it is in use",
        more: "",
        examples: &[":backup ../orders.backup"],
        group: Group::Files,
    },
    Spec {
        name: "verify",
        aliases: &[],
        usage: "",
        args: &[],
        summary: "check every record and index",
        more: "",
        examples: &[":verify"],
        group: Group::Files,
    },
    Spec {
        name: "curl",
        aliases: &[],
        usage: "[QUERY]",
        args: &[Arg::Form],
        summary: "the same query over HTTP, ready to paste",
        more: "",
        examples: &[":curl", ":curl [:find ?id :where [_ :order/id ?id]]"],
        group: Group::Files,
    },
    Spec {
        name: "demo",
        aliases: &[],
        usage: "",
        args: &[],
        summary: "load the bundled event log and take the tour",
        more: "",
        examples: &[":demo"],
        group: Group::Files,
    },
    Spec {
        name: "mode",
        aliases: &["format", "x"],
        usage: "[table|records|edn|json|ndjson|csv]",
        args: &[Arg::Word(&["table", "records", "edn", "json", "ndjson", "csv"])],
        summary: "how rows are printed",
        more: "`\\x` switches between table and records.",
        examples: &[":mode csv", ":mode records"],
        group: Group::Shell,
    },
    Spec {
        name: "timing",
        aliases: &[],
        usage: "[on|off]",
        args: &[Arg::Word(ON_OFF)],
        summary: "time, rows read and rows made, under every answer",
        more: "",
        examples: &[":timing off"],
        group: Group::Shell,
    },
    Spec {
        name: "set",
        aliases: &[],
        usage: "[NAME [VALUE]]",
        args: &[Arg::Word(&["rows", "timeout-ms", "pager", "idents", "indent", "bail"]), Arg::Free],
        summary: "settings: rows shown, timeout, pager, idents, indent, bail",
        more: "",
        examples: &[":set", ":set rows 200", ":set timeout-ms 5000", ":set pager off"],
        group: Group::Shell,
    },
    Spec {
        name: "help",
        aliases: &["h", "?"],
        usage: "[TOPIC]",
        args: &[Arg::Topic],
        summary: "this list, or a topic: a command, clause, function, or word like tx, pull, time",
        more: "",
        examples: &[":help", ":help diff", ":help or-join", ":help get-else"],
        group: Group::Shell,
    },
    Spec {
        name: "quit",
        aliases: &["q", "exit"],
        usage: "",
        args: &[],
        summary: "leave (Ctrl-D too)",
        more: "",
        examples: &[":quit"],
        group: Group::Shell,
    },
];

/// The command of this name or alias, without sigil.
pub fn find(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|c| c.name == name || c.aliases.contains(&name))
}

/// Every name a command goes by.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(|c| std::iter::once(c.name).chain(c.aliases.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_command_has_an_example() {
        let mut all: Vec<_> = names().collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|w| w[0] != w[1]));
        for c in COMMANDS {
            assert!(!c.examples.is_empty(), "{}", c.name);
            for e in c.examples {
                assert!(e.starts_with(&format!(":{}", c.name)), "{e}");
            }
        }
    }
}
