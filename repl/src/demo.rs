//! `annals demo`: a real event log, and a tour of it.
//!
//! Every step of the tour is a line anyone could type; it is shown, then run
//! through the same dispatch as the prompt, so the tour cannot show what the shell cannot do.

use crate::{
    cli::Global,
    fail::{Failure, Outcome},
    import::{events as importing, rejects::Rejects, source::Source},
    output::table::counted,
    script,
    session::{Access, Mode, Session, open},
    shell::{dispatch, highlight, prompt},
    term::{Screen, theme},
};
use std::{
    io::{self, BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
    time::Instant,
};

/// The event log; data/SOURCE.md says where it is from.
const LOG: &[u8] = include_bytes!("../data/permits.events.ndjson.gz");
/// The projection that turns it into facts.
const PROJECTION: &str = include_str!("../data/permits.edn");

/// One step of the tour.
struct Step {
    title: &'static str,
    text: &'static str,
    /// What is typed, in order.
    lines: &'static [&'static str],
}

const TOUR: &[Step] = &[
    Step {
        title: "The present",
        text: "1,434 applications for an environmental permit came to a Dutch municipality. Where do they stand? \
               A query names what it wants and describes it; a variable that occurs twice has one value.",
        lines: &[
            "[:find ?state (count ?case)\n :where [?case :case/state ?state]\n :order-by [1 :desc]\n :limit 8]",
        ],
    },
    Step {
        title: "As of",
        text: "The same question, asked of the first of June 2011. Nothing is restored and nothing replayed: \
               every fact knows when it began and when it ended.",
        lines: &[
            ":as-of 2011-06-01",
            "[:find ?state (count ?case)\n :where [?case :case/state ?state]\n :order-by [1 :desc]\n :limit 4]",
            ":now",
        ],
    },
    Step {
        title: "History",
        text: "One case, step by step. Its check was found wanting twice before it went on.",
        lines: &[":history [:case/id \"permit-case-891\"] :case/state"],
    },
    Step {
        title: "Timeline",
        text: "Another case, drawn: what its state was, and on whose desk it lay.",
        lines: &[":timeline [:case/id \"permit-case-4114\"] :case/state :case/handler"],
    },
    Step {
        title: "Diff",
        text: "What changed in a month, for applications that came by post: rows gained and lost, and the transaction that did it.",
        lines: &[
            ":diff 2011-03-01 2011-04-01 [:find ?id ?state\n                              :where [?case :case/channel :post]\n                                     [?case :case/id ?id]\n                                     [?case :case/state ?state]]",
        ],
    },
    Step {
        title: "Why",
        text: "Who says so? A fact made by a projection leads back to the event that caused it.",
        lines: &[":why [:case/id \"permit-case-891\"] :case/state"],
    },
    Step {
        title: "A recursive rule",
        text: "Nobody wrote down how the process runs, but history knows: one state follows another when a transaction \
               ends the one and begins the other. The rule below finds everything that can still come after the \
               request for more documents.",
        lines: &[
            ":rules [[(followed-by ?a ?b)\n         [?case :case/state ?a ?tx false]\n         [?case :case/state ?b ?tx true]]\n        [(leads-to ?a ?b) (followed-by ?a ?b)]\n        [(leads-to ?a ?b) (followed-by ?a ?x) (leads-to ?x ?b)]]",
            ":history on",
            "[:find [?state ...]\n :where\n (leads-to :t16-report-reasons-to-hold-request ?state)]",
            ":now",
        ],
    },
    Step {
        title: "A chart",
        text: "And who carries the work?",
        lines: &[
            ":chart [:find ?name (count ?case)\n        :where [?case :case/handled-by ?p] [?p :person/name ?name]\n        :order-by [1 :desc]\n        :limit 10]",
        ],
    },
];

/// `annals demo [DB]`.
pub fn run(db: Option<&Path>, no_pause: bool, g: &Global) -> Outcome {
    let temporary = match db {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("annals-demo-").tempdir()?),
    };
    let path: PathBuf = match (db, &temporary) {
        (Some(p), _) => p.to_owned(),
        (None, Some(t)) => t.path().join("permits"),
        (None, None) => unreachable!("one of them is there"),
    };
    let conn = open(&path, Access::Create)?;
    let mut s = Session::new(conn, Some(path), Screen::stdout(g.color), Screen::stderr(g.color));
    // A tour is for people, wherever it is printed.
    s.mode = Mode::Table;
    s.quiet = g.quiet;
    load(&mut s)?;
    let at_terminal = io::stdin().is_terminal() && s.out.tty;
    tour(&mut s, at_terminal && !no_pause)?;
    if at_terminal && !no_pause {
        return prompt::run(&mut s);
    }
    Ok(())
}

/// `:demo` in a shell: loads into the open database if it is empty, else into one in memory.
pub fn in_session(s: &mut Session) -> Outcome {
    let db = s.conn.db()?;
    if db.basis_t().0 > 0 && db.attribute("case/id").is_err() {
        return Err(Failure::refused("demo/not-empty", "the demo wants an empty database")
            .help(":open first, for one in memory"));
    }
    load(s)?;
    tour(s, io::stdin().is_terminal() && s.out.tty)
}

fn load(s: &mut Session) -> Outcome {
    let started = Instant::now();
    s.note(
        s.err.paint(theme::DIM, "loading 8,577 events of a permit process (Buijs 2014, 4TU.ResearchData)"),
    );
    let conn = s.conn.local(":demo")?;
    let before = conn.stats()?;
    let done =
        importing::load(s, &mut Source::of_bytes("permits.events.ndjson.gz", LOG), &mut Rejects::default())?;
    importing::install(s, &[("permits.edn".to_owned(), PROJECTION.to_owned())])?;
    let after = s.conn.local(":demo")?.stats()?;
    let facts = (after.current + after.closed).saturating_sub(before.current + before.closed);
    let (events, seconds) = (counted(done.appended, "event"), started.elapsed().as_secs_f64());
    s.note(
        s.err.paint(
            theme::DIM,
            format!("{events} projected into {} in {seconds:.1} s", counted(facts, "fact")),
        ),
    );
    Ok(())
}

fn tour(s: &mut Session, pause: bool) -> Outcome {
    let n = TOUR.len();
    for (i, step) in TOUR.iter().enumerate() {
        let rule = if s.out.unicode { "─" } else { "-" };
        let title = format!("{rule}{rule} {} ({}/{n}) ", step.title, i + 1);
        let rest = rule.repeat(s.out.width().min(80).saturating_sub(title.chars().count()));
        s.say(format!("\n{}\n", s.out.paint(theme::HEAD, format!("{title}{rest}"))))?;
        s.say(wrapped(step.text, s.out.width().min(80)))?;
        for line in step.lines {
            let (prompt, past) = s.prompt();
            let styled = s.out.paint(if past { theme::PAST } else { theme::NOW }, &prompt).to_string();
            let shown = highlight::paint(line, None, None, &s.out)
                .replace('\n', &format!("\n{}", " ".repeat(prompt.chars().count())));
            s.say(format!("\n{styled}{shown}"))?;
            for item in script::items(line) {
                dispatch::item(s, &item)?;
            }
        }
        if pause && i + 1 < n && !wait(s)? {
            break;
        }
    }
    let end = "That was the tour. :help shows the rest; docs/tutorial.md begins at the beginning.";
    s.say(format!("\n{}", s.out.paint(theme::DIM, wrapped(end, s.out.width().min(80)))))
}

/// Waits for Enter; false when the rest is not wanted.
fn wait(s: &Session) -> Outcome<bool> {
    eprint!("\n{}", s.err.paint(theme::DIM, "Enter goes on, q ends the tour "));
    let mut line = String::new();
    let n = io::stdin().lock().read_line(&mut line)?;
    Ok(n > 0 && !line.trim().eq_ignore_ascii_case("q"))
}

fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let n = word.chars().count();
        if used > 0 && used + n + 1 > width {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += n;
    }
    out
}
