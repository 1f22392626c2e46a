//! Diagnostics drawn with carets under the place they speak of.

use crate::{
    fail::{Failure, Origin},
    output::table::visible,
    term::{Screen, theme},
};
use annals::{Diagnostic, Span};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};
use std::fmt::Write as _;

/// Text around a place is cut to about this many bytes on each side: a form may be
/// ten megabytes on one line.
const AROUND: usize = 2_000;

/// Everything a failure has to say, most telling first.
pub fn failure(f: &Failure, screen: &Screen) -> String {
    let mut out = String::new();
    for d in &f.diagnostics {
        out.push_str(&draw(d, f.origin.as_ref(), screen));
    }
    out
}

/// One diagnostic, with a newline at the end.
pub fn draw(d: &Diagnostic, origin: Option<&Origin>, screen: &Screen) -> String {
    // What users typed stands in messages: it may hold anything.
    let clean = |t: &str| visible(t);
    let d = &Diagnostic { message: clean(&d.message), help: d.help.as_deref().map(clean), ..d.clone() };
    let placed = origin.filter(|o| !o.text.is_empty() && !d.labels.is_empty());
    let Some(origin) = placed else { return bare(d, screen) };
    let first = d.labels[0].span;
    let (from, to) = window(&origin.text, first);
    let text = &origin.text[from..to];
    let line = origin.line.max(1) + origin.text[..from].matches('\n').count();
    let shift = |s: Span| clamp(text, s.start.saturating_sub(from), s.end.saturating_sub(from));
    let mut snippet = Snippet::source(text).line_start(line).path(origin.name.as_str());
    for (i, label) in d.labels.iter().enumerate().filter(|(_, l)| l.span.start >= from && l.span.start <= to)
    {
        let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let range = shift(label.span);
        let annotation = kind.span(range);
        snippet = snippet.annotation(if label.message.is_empty() {
            annotation
        } else {
            annotation.label(label.message.as_str())
        });
    }
    let mut group = Level::ERROR.primary_title(d.message.as_str()).id(d.code).element(snippet);
    if let Some(path) = &d.path {
        group = group.element(Level::NOTE.message(format!("at {path}")));
    }
    if let Some(help) = &d.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if screen.color { Renderer::styled() } else { Renderer::plain() };
    let decor = if screen.unicode { DecorStyle::Unicode } else { DecorStyle::Ascii };
    format!("{}\n", renderer.term_width(screen.width()).decor_style(decor).render(&[group]))
}

fn bare(d: &Diagnostic, screen: &Screen) -> String {
    let mut out = format!(
        "{}: {}\n",
        screen.paint(theme::BAD.bold(), format!("error[{}]", d.code)),
        screen.paint(theme::HEAD, &d.message)
    );
    if let Some(path) = &d.path {
        let _ = writeln!(out, "  {} at {path}", screen.paint(theme::DIM, "="));
    }
    for label in d.labels.iter().filter(|l| !l.message.is_empty()) {
        let _ = writeln!(out, "  {} {}", screen.paint(theme::DIM, "="), label.message);
    }
    if let Some(help) = &d.help {
        let _ = writeln!(
            out,
            "  {} {}: {help}",
            screen.paint(theme::DIM, "="),
            screen.paint(theme::HEAD, "help")
        );
    }
    out
}

/// The part of the text to draw: around the place, at line breaks or character boundaries.
fn window(text: &str, at: Span) -> (usize, usize) {
    let snap = |mut i: usize| {
        while i < text.len() && !text.is_char_boundary(i) {
            i += 1;
        }
        i.min(text.len())
    };
    if text.len() <= 4 * AROUND {
        return (0, text.len());
    }
    let start = at.start.min(text.len());
    let from = snap(start.saturating_sub(AROUND));
    let to = snap(start.saturating_add(AROUND));
    // Whole lines where there are lines.
    let from = text[from..snap(start)].find('\n').map_or(from, |i| from + i + 1);
    (from, to)
}

/// A range that lies in the text, on character boundaries, and covers something if it can.
fn clamp(text: &str, start: usize, end: usize) -> std::ops::Range<usize> {
    let mut start = start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn at(text: &str, line: usize) -> Origin {
        Origin { name: "query".into(), text: Arc::from(text), line }
    }

    #[test]
    fn a_slip_is_shown_where_it_is() {
        let d = Diagnostic::new("query/unknown-attribute", "unknown attribute :person/nmae")
            .at(Span::new(20, 32), "not installed at this basis")
            .help("did you mean :person/name?");
        let text = draw(
            &d,
            Some(&at("[:find ?n :where [_ :person/nmae ?n]]", 1)),
            &Screen { unicode: false, ..Screen::plain(80) },
        );
        for part in [
            "error[query/unknown-attribute]: unknown attribute",
            "query:1:21",
            "^^^^^^^^^^^^ not installed",
            "did you mean",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn places_outside_the_text_and_huge_texts_are_survived() {
        let big = "é".repeat(3_000_000);
        for text in ["é", "", big.as_str()] {
            for span in [
                Span::new(0, 0),
                Span::new(1, 1),
                Span::new(1, 99),
                Span::new(5_000_001, 5_000_002),
                Span::new(usize::MAX, usize::MAX),
            ] {
                let d = Diagnostic::new("x/y", "m").at(span, "here");
                let drawn = draw(&d, Some(&at(text, 3)), &Screen::plain(20));
                assert!(drawn.len() < 100_000);
            }
        }
    }
}
