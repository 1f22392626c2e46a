//! Reads the sources and holds them to what ARCHITECTURE.md and the style say:
//! who may depend on whom, what is named in one place only, what every file
//! opens with, and that every error code is documented.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const CRATES: [&str; 7] = ["model", "query", "storage", "engine", "server", "repl", "tests"];

/// Crate folder, its package, and the packages of the workspace it may depend on.
const ARROWS: [(&str, &str, &[&str]); 7] = [
    ("model", "annals-model", &[]),
    ("query", "annals-query", &["annals-model"]),
    ("storage", "annals-storage", &["annals-model"]),
    ("engine", "annals", &["annals-model", "annals-query", "annals-storage"]),
    ("server", "annals-server", &["annals"]),
    ("repl", "annals-repl", &["annals", "annals-server"]),
    (
        "tests",
        "annals-tests",
        &["annals-model", "annals-query", "annals-storage", "annals", "annals-server", "annals-repl"],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").to_path_buf()
}

fn files_under(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && entry.file_name() != "target" && entry.file_name() != "node_modules" {
            files_under(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
    out.sort();
}

/// Every Rust file of a crate with its text.
fn sources(krate: &str) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    files_under(&root().join(krate), "rs", &mut paths);
    paths.into_iter().map(|p| (p.clone(), fs::read_to_string(&p).expect("sources are UTF-8"))).collect()
}

/// A file's code without its comments, so that prose may name what code may not.
fn code(text: &str) -> String {
    text.lines().map(|l| if l.trim_start().starts_with("//") { "" } else { l }).collect::<Vec<_>>().join("\n")
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Does `name` occur in `text` as a word of its own, followed by `::` or used as a crate?
fn names_crate(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(i, _)| {
        let before = text[..i].chars().next_back();
        let rest = &text[i + name.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '"')
            && (rest.starts_with("::") || (text[..i].ends_with("use ") && rest.starts_with([';', ' '])))
    })
}

fn assert_none(what: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let mut wrong = Vec::new();
    for (folder, package, allowed) in ARROWS {
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("each crate has one");
        assert!(manifest.contains(&format!("name = \"{package}\"")), "{folder} is package {package}");
        for line in manifest.lines() {
            let dependency = line.split([' ', '.', '=']).next().unwrap_or("");
            let ours = dependency == "annals" || dependency.starts_with("annals-");
            if ours && dependency != package && !allowed.contains(&dependency) {
                wrong.push(format!("{folder}/Cargo.toml: {line}"));
            }
        }
        for (path, text) in sources(folder) {
            for (_, other, _) in ARROWS {
                let name = other.replace('-', "_");
                if other != package && !allowed.contains(&other) && names_crate(&code(&text), &name) {
                    wrong.push(format!("{} names {name}", short(&path)));
                }
            }
        }
    }
    assert_none("an arrow that ARCHITECTURE.md does not have", wrong);
}

#[test]
fn foreign_crates_stay_behind_their_doors() {
    // A crate and the only path (a file, or a folder ending in /) that may name it.
    let doors = [
        ("lmdb", "storage/src/kv/"),
        ("lmdb_sys", "storage/src/kv/"),
        ("libc", "storage/src/"),
        ("datafrog", "query/src/"),
        ("pest", "query/src/edn"),
        ("pest_derive", "query/src/edn"),
        ("axum", "server/"),
        ("rustyline", "repl/"),
        ("clap", "repl/"),
        ("crossterm", "repl/"),
    ];
    let asynchronous = ["server/", "repl/", "tests/"];
    let (mut wrong, mut by_crate) = (Vec::new(), BTreeMap::<&str, Vec<String>>::new());
    for krate in CRATES {
        for (path, text) in sources(krate) {
            let (name, code) = (short(&path), code(&text));
            for (foreign, door) in doors {
                if names_crate(&code, foreign) {
                    by_crate.entry(foreign).or_default().push(name.clone());
                    if !name.starts_with(door) {
                        wrong.push(format!("{name} names {foreign}, which belongs in {door}"));
                    }
                }
            }
            if names_crate(&code, "tokio") && !asynchronous.iter().any(|d| name.starts_with(d)) {
                wrong.push(format!("{name} names tokio: async belongs in the server"));
            }
        }
    }
    for single in ["lmdb", "datafrog"] {
        if let Some(files) = by_crate.get(single).filter(|f| f.len() > 1) {
            wrong.push(format!("{single} is named in more than one file: {}", files.join(", ")));
        }
    }
    assert_none("foreign crates out of their place", wrong);
}

#[test]
fn model_query_and_storage_derive_no_serde() {
    let mut wrong = Vec::new();
    for krate in ["model", "query", "storage"] {
        for (path, text) in sources(krate) {
            if names_crate(&code(&text), "serde") || names_crate(&code(&text), "serde_json") {
                wrong.push(short(&path));
            }
        }
    }
    assert_none("serialization stops at the edge, but is named in", wrong);
}

#[test]
fn unsafe_is_in_storage_only_and_says_why() {
    // Options of the binary's allocator have no safe face.
    let allowed = |krate: &str, path: &Path| krate == "storage" || path.ends_with("repl/src/allocator.rs");
    let mut wrong = Vec::new();
    for krate in CRATES {
        for (path, text) in sources(krate) {
            if path.ends_with("tests/tests/tidy.rs") {
                continue;
            }
            let lines: Vec<&str> = text.lines().collect();
            for (i, line) in lines.iter().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                if !(code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn"))
                {
                    continue;
                }
                let explained = lines[i.saturating_sub(6)..=i].iter().any(|l| l.contains("SAFETY:"));
                if !allowed(krate, &path) || !explained {
                    wrong.push(format!("{}:{}", short(&path), i + 1));
                }
            }
        }
    }
    assert_none("unsafe outside storage, or without SAFETY", wrong);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let mut wrong = Vec::new();
    for krate in CRATES {
        for (path, text) in sources(krate) {
            if !text.starts_with("//!") {
                wrong.push(short(&path));
            }
        }
    }
    assert_none("files without a //! header", wrong);
}

#[test]
fn nothing_unfinished_is_left_behind() {
    // Spelled in halves so that this file does not find itself.
    let marks = [
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("TO", "DO"),
        concat!("XX", "X:"),
        concat!("#[igno", "re"),
        concat!("<<<<", "<<<"),
    ];
    let mut wrong = Vec::new();
    for krate in CRATES {
        for (path, text) in sources(krate) {
            for (i, line) in text.lines().enumerate() {
                if marks.iter().any(|m| line.contains(m))
                    || line.ends_with([' ', '\t'])
                    || line.contains('\r')
                {
                    wrong.push(format!("{}:{}: {}", short(&path), i + 1, line.trim()));
                }
            }
        }
    }
    assert_none("left behind", wrong);
}

/// The codes a text holds: string literals of the shape `area/what-went-wrong`
/// where the area is one that errors have.
fn error_codes(text: &str) -> BTreeSet<String> {
    let areas = [
        "edn",
        "query",
        "pull",
        "tx",
        "db",
        "event",
        "command",
        "process",
        "projection",
        "storage",
        "open",
        "request",
        "access",
        "server",
        "idempotency",
        "json",
    ];
    let mut found = BTreeSet::new();
    for (i, line) in text.lines().enumerate() {
        let context = text.lines().skip(i.saturating_sub(1)).take(2).collect::<Vec<_>>().join(" ");
        let makes_code = context.contains("Diagnostic::new(")
            || line.contains("=> \"")
            || line.contains("=> (\"")
            || line.contains("code: \"");
        if !makes_code || line.trim_start().starts_with("//") {
            continue;
        }
        for literal in line.split('"').skip(1).step_by(2) {
            let Some((area, rest)) = literal.split_once('/') else { continue };
            let slug = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if areas.contains(&area) && slug(rest) {
                found.insert(literal.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_error_code_is_documented() {
    let Ok(documented) = fs::read_to_string(root().join("docs/errors.md")) else {
        panic!("docs/errors.md explains every error code; it is missing");
    };
    let mut wrong = BTreeSet::new();
    for krate in ["query", "storage", "engine", "server", "repl"] {
        for (path, text) in sources(krate) {
            let text = text.split("#[cfg(test)]").next().unwrap_or("");
            for code in error_codes(text) {
                if !documented.contains(&code) {
                    wrong.insert(format!("{code} (in {})", short(&path)));
                }
            }
        }
    }
    assert_none("codes missing from docs/errors.md", wrong.into_iter().collect());
}

#[test]
fn architecture_is_short_and_names_files_that_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    assert!(text.lines().count() < 300, "ARCHITECTURE.md has {} lines", text.lines().count());
    let mut wrong = Vec::new();
    for word in text.split('`').skip(1).step_by(2) {
        let path_like =
            CRATES.iter().any(|c| word.starts_with(&format!("{c}/"))) || word.starts_with("docs/");
        if path_like && !word.contains(['*', ' ', '{']) && !root().join(word).exists() {
            wrong.push(word.to_owned());
        }
    }
    assert_none("ARCHITECTURE.md names what is not there", wrong);
}

#[test]
fn the_files_a_newcomer_looks_for_are_there() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        ".ci/run",
    ] {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("checked above");
    let head: String = readme.lines().take(25).collect::<Vec<_>>().join("\n");
    assert!(head.contains("cargo run --release -- demo") && head.contains("cargo test --workspace"));
}
