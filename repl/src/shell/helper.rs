//! What the line editor asks while one types: is it complete, how does it look,
//! how might it go on.

use super::{
    complete::{complete, innermost_head},
    highlight,
    topics::{self, Sort},
    vocabulary::Vocabulary,
};
use crate::{
    lexer::{self, Nesting},
    script::is_command,
    term::{Screen, theme},
};
use rustyline::{
    Cmd, ConditionalEventHandler, Context, Event, EventContext, Helper, RepeatCount,
    completion::{Candidate, Completer, FilenameCompleter},
    highlight::{CmdKind, Highlighter},
    hint::{Hint, Hinter},
    history::SearchDirection,
    validate::{ValidationContext, ValidationResult, Validator},
};
use std::{
    borrow::Cow,
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Notes stand beside completions when there are no more than this many.
const NOTED: usize = 16;

/// The helper of the shell's line editor.
pub struct ShellHelper {
    /// The words of the moment.
    pub words: Arc<Vocabulary>,
    /// The screen the editor draws on.
    pub screen: Screen,
    /// The editor was asked for: accept the line as it is.
    pub edit: Arc<AtomicBool>,
    /// Ctrl-C was pressed: the line is to be passed over.
    pub given_up: Arc<AtomicBool>,
    /// Brackets to show as a pair.
    pair: Cell<Option<(usize, usize)>>,
    files: FilenameCompleter,
}

impl ShellHelper {
    /// A helper that knows no words yet.
    pub fn new(screen: Screen) -> ShellHelper {
        ShellHelper {
            words: Arc::default(),
            screen,
            edit: Arc::default(),
            given_up: Arc::default(),
            pair: Cell::new(None),
            files: FilenameCompleter::new(),
        }
    }
}

impl Helper for ShellHelper {}

/// Must more be typed before this can run? Two empty lines run it as it is, so
/// that nobody is ever stuck behind a bracket.
pub fn wants_more(input: &str) -> bool {
    let blank_end = input.rsplit('\n').take_while(|l| l.trim().is_empty()).count();
    if blank_end >= 2 && !input.trim().is_empty() {
        return false;
    }
    match lexer::nesting(input) {
        Nesting::Closed | Nesting::Mismatch { .. } => false,
        // A lone quote in a command is an apostrophe, not a string of many lines.
        Nesting::Open { brackets, .. } if is_command(input.trim_start()) => !brackets.is_empty(),
        Nesting::Open { .. } => true,
    }
}

impl Validator for ShellHelper {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let complete = self.edit.load(Ordering::Relaxed) || !wants_more(ctx.input());
        Ok(if complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// A completion with its note.
pub struct Choice {
    shown: String,
    text: String,
}

impl Candidate for Choice {
    fn display(&self) -> &str {
        &self.shown
    }
    fn replacement(&self) -> &str {
        &self.text
    }
}

impl Completer for ShellHelper {
    type Candidate = Choice;

    fn complete(&self, line: &str, pos: usize, ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Choice>)> {
        let found = complete(line, pos, &self.words);
        if found.files {
            let (start, files) = self.files.complete(line, pos, ctx)?;
            let choice = |p: rustyline::completion::Pair| Choice { shown: p.display, text: p.replacement };
            return Ok((start, files.into_iter().map(choice).collect()));
        }
        let noted = found.words.len() <= NOTED;
        let longest = found.words.iter().map(|w| w.text.chars().count()).max().unwrap_or(0);
        let room = self.screen.width().saturating_sub(longest + 4);
        let choices = found.words.into_iter().map(|w| {
            let note: String = w.note.chars().take(room).collect();
            let shown = if noted && !note.is_empty() {
                format!("{:longest$}  {note}", w.text)
            } else {
                w.text.clone()
            };
            Choice { shown, text: w.text }
        });
        Ok((found.start, choices.collect()))
    }
}

/// The grey text behind the cursor.
pub struct GreyHint {
    shown: String,
    insert: Option<String>,
}

impl Hint for GreyHint {
    fn display(&self) -> &str {
        &self.shown
    }
    fn completion(&self) -> Option<&str> {
        self.insert.as_deref()
    }
}

impl Hinter for ShellHelper {
    type Hint = GreyHint;

    fn hint(&self, line: &str, pos: usize, ctx: &Context<'_>) -> Option<GreyHint> {
        if line.trim().is_empty() || pos < line.len() {
            return None;
        }
        let from = ctx.history_index().min(ctx.history().len().saturating_sub(1));
        if let Ok(Some(hit)) = ctx.history().starts_with(line, from, SearchDirection::Reverse)
            && hit.entry != line
            && !hit.entry.contains('\n')
        {
            let rest = hit.entry[pos..].to_owned();
            return Some(GreyHint { shown: rest.clone(), insert: Some(rest) });
        }
        let room = self.screen.width().saturating_sub(2);
        let column = line.rsplit('\n').next().map_or(0, |l| l.chars().count());
        let shown = open_hint(line)?;
        // A hint that would wrap pushes the input around: better none.
        (column + shown.chars().count() + 12 < room).then_some(GreyHint { shown, insert: None })
    }
}

/// What is open at the end of the text: the form of the function one is in, and the brackets to close.
fn open_hint(line: &str) -> Option<String> {
    let Nesting::Open { brackets, string, .. } = lexer::nesting(line) else { return None };
    let closers: String = brackets.iter().rev().map(|(_, c)| *c).collect();
    if string.is_some() {
        return Some(format!("\"{closers}  in a string"));
    }
    if brackets.is_empty() {
        return None;
    }
    let usage = innermost_head(line)
        .and_then(topics::find)
        .filter(|t| {
            matches!(
                t.sort,
                Sort::Function | Sort::Predicate | Sort::Aggregate | Sort::Clause | Sort::Transaction
            )
        })
        .filter(|t| !matches!(t.name, "find" | "where"))
        .map(|t| format!("  {}", t.usage));
    Some(format!("{}  {closers} {} open", usage.unwrap_or_default(), brackets.len()))
}

impl Highlighter for ShellHelper {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        if !self.screen.color {
            return Cow::Borrowed(line);
        }
        Cow::Owned(highlight::paint(line, Some(&self.words), self.pair.get(), &self.screen))
    }
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(self.screen.paint(theme::DIM, hint).to_string())
    }
    fn highlight_char(&self, line: &str, pos: usize, kind: CmdKind) -> bool {
        if !self.screen.color {
            return false;
        }
        let before = self.pair.get();
        self.pair.set(match kind {
            CmdKind::ForcedRefresh => None,
            _ => lexer::matching(line, pos),
        });
        kind == CmdKind::Other || before != self.pair.get()
    }
}

/// Enter: runs what is complete, else starts a line that is indented.
pub struct Enter;

impl ConditionalEventHandler for Enter {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        let (line, pos) = (ctx.line(), ctx.pos());
        if pos < line.trim_end().len() || !wants_more(line) {
            return None;
        }
        Some(new_line(line, pos))
    }
}

/// Alt-Enter: always a new line.
pub struct NewLine;

impl ConditionalEventHandler for NewLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        Some(new_line(ctx.line(), ctx.pos()))
    }
}

fn new_line(line: &str, pos: usize) -> Cmd {
    Cmd::Insert(1, format!("\n{}", " ".repeat(lexer::indentation(&line[..pos]))))
}

/// Tab: indents where only blanks stand before it, else completes.
pub struct Tab;

impl ConditionalEventHandler for Tab {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        let before = &ctx.line()[..ctx.pos()];
        let start = before.rfind('\n')? + 1;
        if !before[start..].chars().all(|c| c == ' ') {
            return None;
        }
        let want = lexer::indentation(&before[..start - 1]).saturating_sub(before.len() - start);
        (want > 0).then(|| Cmd::Insert(1, " ".repeat(want)))
    }
}

/// Ctrl-X Ctrl-E: accepts the line as it is and asks for the editor.
pub struct AskEditor(pub Arc<AtomicBool>);

impl ConditionalEventHandler for AskEditor {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(true, Ordering::Relaxed);
        Some(Cmd::AcceptLine)
    }
}

/// Ctrl-C: gives the line up. The line editor's own way of doing so drops the keys it has
/// read behind it (it answers an error, and its buffer goes with the reader); this one accepts
/// the line, and the shell passes it over.
pub struct GiveUp(pub Arc<AtomicBool>);

impl ConditionalEventHandler for GiveUp {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(true, Ordering::Relaxed);
        Some(Cmd::AcceptLine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_knows_what_is_complete() {
        for (text, more) in [
            ("[:find ?x", true),
            ("[:find ?x]", false),
            ("[\"x)y\"]", false),
            ("[\"x", true),
            (":echo it\"s", false),
            (":explain [:find", true),
            ("[1)", false),
            ("[1\n\n", false),
            ("[1\n  \n  ", false),
            ("[1\n ", true),
            ("#inst", true),
            ("", false),
        ] {
            assert_eq!(wants_more(text), more, "{text:?}");
        }
    }

    #[test]
    fn hints_show_what_is_open_and_the_form_of_the_function() {
        assert_eq!(open_hint("[:find [?x").unwrap(), "  ]] 2 open");
        assert_eq!(open_hint("[:find (count").unwrap(), "  (count ?x)  )] 2 open");
        assert_eq!(open_hint("[1]"), None);
    }
}
