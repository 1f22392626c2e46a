//! Running at a terminal: the line editor, its history, the loop.

use super::{
    dispatch::{self, Flow},
    files,
    helper::{AskEditor, Enter, GiveUp, NewLine, ShellHelper, Tab},
};
use crate::{
    diagnose,
    fail::{Failure, Outcome},
    script::{self, Item},
    session::Session,
    term::theme,
};
use rustyline::{
    Behavior, ColorMode, CompletionType, Config, Editor, EventHandler, KeyCode, KeyEvent, Modifiers,
    error::ReadlineError,
    history::{FileHistory, History as _},
};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

/// Inputs longer than this are not kept in the history.
const MAX_HISTORY_ENTRY: usize = 64 << 10;

type Line = Editor<ShellHelper, FileHistory>;

/// Runs until the user leaves.
pub fn run(s: &mut Session) -> Outcome {
    let mut editor = editor(s)?;
    let mut history = history_file(s);
    load_history(&mut editor, history.as_ref());
    banner(s);
    let mut initial = String::new();
    loop {
        if let Some(h) = editor.helper_mut() {
            h.words = Arc::new(s.vocabulary());
        }
        let (raw, past) = s.prompt();
        let styled = s.out.paint(if past { theme::PAST } else { theme::NOW }, &raw).to_string();
        let read = match initial.is_empty() {
            true => editor.readline(&(raw.as_str(), styled.as_str())),
            false => editor.readline_with_initial(&(raw.as_str(), styled.as_str()), (&initial, "")),
        };
        initial.clear();
        let text = match read {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(Failure::refused("shell/terminal", e.to_string())),
        };
        if editor.helper().is_some_and(|h| h.given_up.swap(false, Ordering::Relaxed)) {
            continue;
        }
        let asked = editor.helper().is_some_and(|h| h.edit.swap(false, Ordering::Relaxed));
        if asked {
            match files::edit(&text) {
                Ok(edited) => initial = edited.trim_end().to_owned(),
                Err(f) => complain(s, &f),
            }
            continue;
        }
        if text.trim().is_empty() {
            continue;
        }
        remember(&mut editor, &text, history.as_ref());
        let before = s.path.clone();
        match run_text(s, &text) {
            Flow::Go => {}
            Flow::Edit(edited) => initial = edited,
            Flow::Quit => break,
        }
        if s.path != before {
            save_history(&mut editor, history.as_ref());
            history = history_file(s);
            let _ = editor.clear_history();
            load_history(&mut editor, history.as_ref());
        }
    }
    save_history(&mut editor, history.as_ref());
    Ok(())
}

/// Runs every item of what was typed; a failure is shown and ends the rest of it.
fn run_text(s: &mut Session, text: &str) -> Flow {
    for item in script::items(text) {
        match run_item(s, &item) {
            Ok(Flow::Go) => {}
            Ok(flow) => return flow,
            Err(f) => {
                complain(s, &f);
                break;
            }
        }
    }
    Flow::Go
}

fn run_item(s: &mut Session, item: &Item) -> Outcome<Flow> {
    dispatch::item(s, item)
}

/// Shows a failure on standard error.
pub fn complain(s: &Session, f: &Failure) {
    if !f.closed_pipe {
        eprint!("{}", diagnose::failure(f, &s.err));
    }
}

fn banner(s: &Session) {
    if s.quiet {
        return;
    }
    let t = s.conn.db().map_or(0, |db| db.basis_t().0);
    let version = env!("CARGO_PKG_VERSION");
    let what = match (s.conn.url(), &s.path, t) {
        (Some(url), _, t) => format!("{url}, at t{t}"),
        (None, None, _) => "in memory: it goes when you leave".to_owned(),
        (None, Some(p), 0) => format!("{}, new", p.display()),
        (None, Some(p), t) => format!("{}, at t{t}", p.display()),
    };
    eprintln!("{} {version} · {what}", s.err.paint(theme::HEAD, "annals"));
    let hint = if t == 0 && s.conn.url().is_none() {
        ":help for help, :demo for a tour, :quit to leave"
    } else {
        ":help for help, :schema to look around, :quit to leave"
    };
    eprintln!("{}", s.err.paint(theme::DIM, hint));
}

fn editor(s: &Session) -> Outcome<Line> {
    let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    let config = Config::builder()
        .history_ignore_space(true)
        .max_history_size(10_000)
        .and_then(|b| b.history_ignore_dups(true))
        .map_err(terminal)?
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .completion_prompt_limit(200)
        .color_mode(if s.out.color { ColorMode::Enabled } else { ColorMode::Disabled })
        .bracketed_paste(!dumb)
        .behavior(Behavior::Stdio)
        .auto_add_history(false)
        .tab_stop(2)
        .build();
    let mut editor: Line = Editor::with_config(config).map_err(terminal)?;
    let helper = ShellHelper::new(s.out.clone());
    let (edit, given_up) = (helper.edit.clone(), helper.given_up.clone());
    editor.set_helper(Some(helper));
    let on = |k: KeyEvent, h: Box<dyn rustyline::ConditionalEventHandler>| (k, EventHandler::Conditional(h));
    let mut keys = vec![
        on(KeyEvent(KeyCode::Enter, Modifiers::ALT), Box::new(NewLine)),
        on(KeyEvent(KeyCode::Tab, Modifiers::NONE), Box::new(Tab)),
        on(KeyEvent::ctrl('C'), Box::new(GiveUp(given_up))),
    ];
    if s.settings.indent {
        keys.push(on(KeyEvent(KeyCode::Enter, Modifiers::NONE), Box::new(Enter)));
    }
    for (key, handler) in keys {
        editor.bind_sequence(key, handler);
    }
    editor.bind_sequence(
        rustyline::Event::KeySeq(vec![KeyEvent::ctrl('X'), KeyEvent::ctrl('E')]),
        EventHandler::Conditional(Box::new(AskEditor(edit))),
    );
    Ok(editor)
}

fn terminal(e: ReadlineError) -> Failure {
    Failure::refused("shell/terminal", e.to_string())
}

/// One history a database, out of its folder, readable by its owner only.
fn history_file(s: &Session) -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state")))?;
    let dir = state.join("annals");
    std::fs::create_dir_all(&dir).ok()?;
    let name = match (s.conn.url(), &s.path) {
        (Some(url), _) => {
            let mut h = DefaultHasher::new();
            url.hash(&mut h);
            format!("history-{}-{:08x}", s.name.replace(['/', '\\', ':'], "_"), h.finish() as u32)
        }
        (None, None) => "history".to_owned(),
        (None, Some(p)) => {
            let full = p.canonicalize().unwrap_or_else(|_| p.clone());
            let mut h = DefaultHasher::new();
            full.hash(&mut h);
            format!("history-{}-{:08x}", s.name.replace(['/', '\\'], "_"), h.finish() as u32)
        }
    };
    Some(dir.join(name))
}

fn load_history(editor: &mut Line, file: Option<&PathBuf>) {
    if let Some(f) = file {
        // There is none the first time.
        let _ = editor.load_history(f);
    }
}

fn save_history(editor: &mut Line, file: Option<&PathBuf>) {
    if let Some(f) = file
        && editor.history().len() > 0
        && let Err(e) = editor.save_history(f)
    {
        eprintln!("the history was not saved to {}: {e}", f.display());
    }
}

/// Keeps a line, unless it is huge or looks like it holds a secret.
fn remember(editor: &mut Line, text: &str, file: Option<&PathBuf>) {
    let lower = text.to_ascii_lowercase();
    let secret = ["password", "secret", "bearer ", "token "].iter().any(|w| lower.contains(w));
    if text.len() > MAX_HISTORY_ENTRY || secret {
        return;
    }
    if editor.add_history_entry(text).unwrap_or(false)
        && let Some(f) = file
    {
        // Saved as one goes: a shell may be killed.
        let _ = editor.append_history(f);
    }
}
