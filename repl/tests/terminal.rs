//! The shell at a terminal: tmux is the terminal, keys go in, the screen is read.
//!
//! 1. Nothing waits for a fixed time: a screen is read until it shows what it should, for half a
//!    minute at most.
//! 2. Where there is no tmux the tests say so and are passed over.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use unicode_width::UnicodeWidthStr as _;

const BIN: &str = env!("CARGO_BIN_EXE_annals");
/// Longest wait for a screen.
const PATIENCE: Duration = Duration::from_secs(30);

/// One tmux server of its own with one window.
struct Terminal {
    socket: String,
    dir: tempfile::TempDir,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

impl Terminal {
    /// A terminal of this size in which bash waits, `annals` on its path; none without tmux.
    fn new(name: &str, width: usize, height: usize) -> Option<Terminal> {
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("skipped: there is no tmux");
            return None;
        }
        let t = Terminal {
            socket: format!("annals-{name}-{}", std::process::id()),
            dir: tempfile::tempdir().expect("a folder"),
        };
        let bin = Path::new(BIN).parent().expect("a folder").display();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
        let (home, w, h) = (t.dir.path().display().to_string(), width.to_string(), height.to_string());
        let start = [
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &w,
            "-y",
            &h,
            "-c",
            &home,
            "-e",
            "LC_ALL=C.UTF-8",
            "bash --norc --noprofile",
        ];
        t.tmux(&start).expect("tmux starts");
        t.wait("bash", |s| !s.trim().is_empty());
        t.line(&format!("export HOME='{home}' PATH='{path}' LC_ALL=C.UTF-8 PAGER=cat PS1='$ '; clear"));
        t.wait("its prompt", |s| s.trim() == "$");
        Some(t)
    }

    fn tmux(&self, args: &[&str]) -> Result<String, String> {
        let out = Command::new("tmux")
            .args(["-L", &self.socket])
            .args(args)
            .env_remove("TMUX")
            .output()
            .map_err(|e| e.to_string())?;
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }

    /// Types text as it is, again when it was typed into the moment between two programs, which is nobody's.
    fn text(&self, text: &str) {
        let bare = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let all = bare(text);
        let end: String = all.chars().skip(all.chars().count().saturating_sub(6)).collect();
        for _ in 0..6 {
            self.tmux(&["send-keys", "-l", "--", text]).expect("typed");
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                if bare(&self.screen()).contains(&end) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            self.keys(&["C-u"]);
        }
        panic!("{text:?} does not appear; the screen is\n{}", self.screen());
    }

    /// Presses keys by name: Enter, Tab, C-c.
    fn keys(&self, keys: &[&str]) {
        let args: Vec<&str> = ["send-keys"].iter().chain(keys).copied().collect();
        self.tmux(&args).expect("pressed");
    }

    fn line(&self, text: &str) {
        self.text(text);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).expect("a screen")
    }

    /// Waits until the screen is as it should be; gives it.
    fn wait(&self, what: &str, ready: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if ready(&screen) {
                return screen;
            }
            assert!(Instant::now() < until, "waited for {what}; the screen is\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("written");
    }

    /// Waits for a prompt with nothing typed.
    fn fresh(&self) {
        self.wait("a fresh prompt", |s| s.trim_end().ends_with("people @now>"));
    }

    /// A database with people in it, and the shell on it.
    fn shell(&self) {
        let mut people = String::from(
            "[{:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :person/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :person/motto :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]\n",
        );
        for (i, name) in ["Ada", "Ben", "Cid"].iter().enumerate() {
            people.push_str(&format!(
                "[{{:person/name \"{name}\" :person/age {} :person/motto \"{}\"}}]\n",
                30 + i,
                "one thing after the other ".repeat(4)
            ));
        }
        self.file("people.edn", &people);
        let out = Command::new(BIN)
            .args(["transact", "people", "people.edn", "-q"])
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .status()
            .expect("it runs");
        assert!(out.success());
        self.line("clear; annals people");
        self.wait("a prompt", |s| s.contains("people @now>"));
    }
}

#[test]
fn tab_completes_by_position() {
    let Some(t) = Terminal::new("tab", 100, 30) else { return };
    t.shell();
    t.text("[:find ?n :where [?p :person/na");
    t.keys(&["Tab"]);
    t.wait("the attribute", |s| s.contains("[?p :person/name"));
    t.text(" ?");
    t.keys(&["Tab"]);
    t.wait("the variables", |s| s.contains("?n"));
    t.keys(&["C-c"]);
    t.fresh();
    t.text(":sch");
    t.keys(&["Tab"]);
    t.wait("the command", |s| s.contains(":schema"));
    t.keys(&["C-c"]);
    t.fresh();
    t.text("[:find ?p :where [?p :person/");
    t.keys(&["Tab"]);
    let screen = t.wait("all attributes", |s| s.contains(":person/motto") && s.contains(":person/age"));
    assert!(screen.contains("string") && screen.contains("long"), "the types stand beside them\n{screen}");
}

#[test]
fn a_form_goes_over_several_lines_and_comes_back_whole() {
    let Some(t) = Terminal::new("lines", 100, 30) else { return };
    t.shell();
    t.line("[:find ?n");
    t.wait("an indented line", |s| s.lines().any(|l| l.contains("[:find ?n")));
    t.line(":where [?p :person/name ?n]");
    t.line("[?p :person/age 31]]");
    t.wait("the answer", |s| s.contains("│ Ben ") && s.contains("1 row"));
    // The whole form is one entry of the history.
    t.keys(&["Up"]);
    t.wait("the form again", |s| {
        s.matches("[?p :person/age 31]]").count() == 2 && s.matches("[:find ?n").count() == 2
    });
    t.keys(&["C-c"]);
    t.fresh();
    // What is open is said while typing.
    t.text("[:find (count ?p");
    t.wait("the hint", |s| s.contains("2 open"));
    t.keys(&["C-c"]);
    t.fresh();
    // A string over two lines is no end.
    t.line("[:find ?x :where [(ground \"a");
    t.line("b]\") ?x]]");
    t.wait("the string", |s| s.contains("a⏎b]"));
}

#[test]
fn ctrl_c_stops_a_query_and_not_the_shell() {
    let Some(t) = Terminal::new("stop", 100, 30) else { return };
    t.shell();
    t.line(":rules [[(up ?a) [(ground 0) ?a]] [(up ?b) (up ?a) [(inc ?a) ?b] [(< ?b 100000000)]]]");
    t.wait("the rules", |s| s.contains("stored up"));
    t.line("[:find (count ?b) . :where (up ?b)]");
    t.wait("progress", |s| s.contains("rows made · Ctrl-C stops it"));
    let pressed = Instant::now();
    t.keys(&["C-c"]);
    let screen = t.wait("the end of the query", |s| s.contains("query/cancelled"));
    // The release build is asked for 200 ms (tests/speeds.py); this one only not to hang.
    assert!(pressed.elapsed() < Duration::from_secs(5), "{:?}", pressed.elapsed());
    assert!(!screen.contains("Ctrl-C stops it"), "the progress is gone\n{screen}");
    t.line("[:find (max ?a) . :where [_ :person/age ?a]]");
    t.wait("another answer", |s| s.lines().any(|l| l.trim() == "32"));
    // What is typed right behind it, before there is a prompt again, is not lost.
    t.keys(&["[:find", "C-c", "[:find ?x . :where [(ground 4711) ?x]]", "Enter"]);
    t.wait("an answer typed ahead", |s| s.lines().any(|l| l.trim() == "4711"));
    // At the prompt it clears the line, and Ctrl-D leaves.
    t.text("[:find");
    t.keys(&["C-c"]);
    t.fresh();
    t.keys(&["C-d"]);
    t.wait("bash", |s| s.trim_end().ends_with('$'));
    t.line("echo left $?");
    t.wait("bash again", |s| s.contains("left 0"));
}

#[test]
fn tables_follow_the_window() {
    let Some(t) = Terminal::new("resize", 120, 30) else { return };
    t.shell();
    let query = "[:find ?n ?m :where [?p :person/name ?n] [?p :person/motto ?m]]";
    t.line(query);
    let wide = t.wait("a wide table", |s| s.contains("3 rows"));
    assert!(wide.lines().any(|l| l.starts_with('╭') && l.trim_end().width() > 100), "{wide}");
    t.tmux(&["resize-window", "-x", "50", "-y", "30"]).expect("resized");
    t.line("");
    t.keys(&["C-l"]);
    t.line(query);
    let narrow = t.wait("a narrow table", |s| {
        s.contains("3 rows")
            && s.lines().any(|l| l.starts_with('╭') && l.trim_end().width() <= 50 && l.contains('┬'))
    });
    assert!(narrow.lines().filter(|l| l.starts_with('│')).all(|l| l.trim_end().width() <= 50), "{narrow}");
    assert!(narrow.contains('…'), "{narrow}");
}

#[test]
fn twenty_columns_are_enough() {
    let Some(t) = Terminal::new("narrow", 20, 40) else { return };
    t.shell();
    t.line("[:find ?n ?a :where [?p :person/name ?n] [?p :person/age ?a]]");
    let screen = t.wait("the answer", |s| s.contains("3 rows"));
    assert!(screen.contains("Ada") && screen.contains("32"), "{screen}");
    t.line(":schema");
    t.wait("the schema", |s| s.contains(":person"));
    t.line(":help as-of");
    t.wait("help", |s| s.contains(":as-of"));
    t.line("[:find ?x :where [?x :person/nam]]");
    t.wait("an error", |s| s.contains("did you mean") || s.contains("did you"));
}

#[test]
fn a_dumb_terminal_gets_no_escape_codes() {
    let Some(t) = Terminal::new("dumb", 80, 30) else { return };
    t.shell();
    t.line(":quit");
    t.wait("bash", |s| s.trim_end().ends_with('$'));
    t.line("clear; TERM=dumb annals people");
    t.wait("a prompt", |s| s.contains("people @now>"));
    let raw = t.dir.path().join("raw");
    t.tmux(&["pipe-pane", &format!("cat > {}", raw.display())]).expect("piped");
    t.line("[:find ?n :where [?p :person/name ?n]]");
    t.wait("the answer", |s| s.contains("3 rows") && s.contains("| Ada "));
    t.line("[:find ?n :where [?p :person/nme ?n]]");
    t.wait("the error", |s| s.contains("did you mean"));
    t.line(":quit");
    t.wait("bash", |s| s.trim_end().ends_with('$'));
    let bytes = fs::read(raw).expect("what was drawn");
    let drawn = String::from_utf8_lossy(&bytes);
    // From the banner to the end: before and after, bash is at work.
    let from = drawn.find("annals 0.").unwrap_or(0);
    let until = drawn.rfind(":quit").unwrap_or(drawn.len()).max(from); // the banner names it too
    assert!(drawn[from..until].contains("| Ada ") && !drawn[from..until].contains("\u{1b}["), "{drawn:?}");
}

#[test]
fn half_characters_and_long_lines_break_nothing() {
    let Some(t) = Terminal::new("odd", 80, 30) else { return };
    t.shell();
    t.line(":quit");
    t.wait("bash", |s| s.trim_end().ends_with('$'));
    t.line("clear; printf '[:find ?x\\n\\xc3\\n]\\n[:find [?n ...] :where [_ :person/name ?n]]\\n' | annals people; echo first $?");
    let screen = t.wait("the end", |s| s.lines().any(|l| l.starts_with("first ")));
    assert!(screen.contains("is not UTF-8") && screen.contains("Ada"), "{screen}");
    t.file("long.py", "print('[:find ?x :where [(ground \"' + 'x' * 10_000_000 + '\") ?x]]')\n");
    t.line("clear; (python3 long.py || perl -e 'print \"[:find ?x :where [(ground \\\"\" . \"x\" x 10000000 . \"\\\") ?x]]\\n\"') | annals people --format table | cut -c1-70; echo second $?");
    let screen = t.wait("the end", |s| s.lines().any(|l| l.starts_with("second ")));
    assert!(screen.contains("xxxxxxxx"), "{screen}");
    t.line("clear; yes '[:find [?n ...] :where [_ :person/name ?n]]' | annals people | head -2; echo third ${PIPESTATUS[1]}");
    let screen = t.wait("the end", |s| s.lines().any(|l| l.starts_with("third ")));
    assert!(
        screen.contains("\"Ada\"") && !screen.contains("panicked") && screen.contains("third 0"),
        "{screen}"
    );
}
