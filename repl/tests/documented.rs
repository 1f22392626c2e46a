//! What the shell says is explained: every code in docs/errors.md, every command with examples of
//! itself. (That the examples of clauses and functions run is tested where they stand, in `topics`.)

use annals_repl::shell::spec::{self, COMMANDS};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for e in fs::read_dir(dir).expect("the sources").flatten() {
        let path = e.path();
        match path.is_dir() {
            true => sources(&path, out),
            false => out.push(path),
        }
    }
}

fn here(rest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(rest)
}

#[test]
fn every_code_of_the_shell_is_explained() {
    let page = fs::read_to_string(here("../docs/errors.md")).expect("the page");
    let mut files = Vec::new();
    sources(&here("src"), &mut files);
    let mut codes = BTreeSet::new();
    for f in files {
        let text = fs::read_to_string(&f).expect("text");
        let text = text.split("#[cfg(test)]").next().unwrap_or("");
        for word in text.split('"') {
            let area = word.split('/').next().unwrap_or("");
            let slug = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if ["shell", "import", "demo", "serve"].contains(&area)
                && word.split('/').count() == 2
                && word.split('/').all(slug)
            {
                codes.insert(word.to_owned());
            }
        }
    }
    assert!(codes.len() > 20, "{codes:?}");
    let missing: Vec<&String> = codes.iter().filter(|c| !page.contains(&format!("### `{c}`"))).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
}

#[test]
fn every_command_has_a_summary_and_examples_of_itself() {
    for c in COMMANDS {
        assert!(!c.summary.is_empty() && !c.summary.ends_with('.'), ":{}", c.name);
        assert!(!c.examples.is_empty(), ":{} has no example", c.name);
        for e in c.examples {
            let name = e.trim_start_matches(':').split_whitespace().next().unwrap_or("");
            assert_eq!(spec::find(name).map(|s| s.name), Some(c.name), "{e}");
        }
    }
}
