//! Completion by position: what can stand where the cursor is.
//!
//! The text before the cursor is lexed into a stack of open brackets; the
//! innermost one, what stands before the cursor in it, and what it stands in
//! decide between attributes, idents, variables, rules, functions, clauses,
//! commands and files. Pure: text and vocabulary in, words out.

use super::{
    spec::{self, Arg},
    topics::{self, Sort, TOPICS},
    vocabulary::Vocabulary,
};
use crate::{
    lexer::{Kind, Token, tokens},
    script::is_command,
};

/// A completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What is inserted.
    pub text: String,
    /// What is said about it.
    pub note: String,
}

/// What can stand at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where the word begins that is being typed.
    pub start: usize,
    /// What it can become, sorted.
    pub words: Vec<Word>,
    /// Files are wanted: the rest is for a file completer.
    pub files: bool,
}

/// An open bracket before the cursor.
struct Frame<'a> {
    close: char,
    /// Elements before the cursor, opening brackets standing for nested ones.
    elements: Vec<&'a str>,
}

impl<'a> Frame<'a> {
    fn head(&self) -> &'a str {
        self.elements.first().copied().unwrap_or("")
    }
    /// The last `:find`, `:where`, … in a query, or key in a map.
    fn section(&self) -> &'a str {
        let of_query = |e: &&&str| CLAUSE_KEYS.contains(*e);
        self.elements.iter().rev().find(of_query).copied().unwrap_or("")
    }
}

/// The keys of a query.
pub const CLAUSE_KEYS: &[&str] = &[
    ":find",
    ":with",
    ":keys",
    ":strs",
    ":syms",
    ":in",
    ":where",
    ":order-by",
    ":limit",
    ":offset",
    ":having",
    ":timeout",
];
const TX_FORMS: &[&str] = &[":db/add", ":db/retract", ":db/retractEntity", ":db/cas"];
const EVENT_KEYS: &[&str] = &[":stream", ":type", ":data", ":id", ":time", ":tags", ":meta", ":expect"];
const LOGIC: &[&str] = &["and", "not", "not-join", "or", "or-join"];

/// What can stand at byte `pos` of `line`.
pub fn complete(line: &str, pos: usize, words: &Vocabulary) -> Found {
    let before = &line[..pos];
    let all = tokens(before);
    let last = all.last().filter(|t| t.span.end == pos);
    let in_string = matches!(last.map(|t| t.kind), Some(Kind::String(_)));
    let (start, typed) = match last {
        Some(t) => match t.kind {
            Kind::Comment => return Found::default(),
            Kind::Open(_)
            | Kind::Close(_)
            | Kind::String(true)
            | Kind::Discard
            | Kind::Prefix
            | Kind::Char => (pos, ""),
            _ => (t.span.start, t.text(before)),
        },
        None => (pos, ""),
    };
    let done: Vec<Token> = all.into_iter().take_while(|t| t.span.end <= start).collect();
    let begin = before.len() - before.trim_start().len();
    if is_command(&before[begin..])
        || before[begin..].chars().count() == 1 && before[begin..].starts_with([':', '\\', '.'])
    {
        return in_command(line, before, begin, pos, start, typed, &done, words);
    }
    if in_string {
        return Found { start, ..Found::default() };
    }
    in_form(line, start, typed, pos, &stack(before, &done), words)
}

#[expect(clippy::too_many_arguments, reason = "one call site; the parts of one position")]
fn in_command(
    line: &str,
    before: &str,
    begin: usize,
    pos: usize,
    start: usize,
    typed: &str,
    done: &[Token],
    words: &Vocabulary,
) -> Found {
    let text = &before[begin..];
    let name_end = text.find(char::is_whitespace);
    let Some(name_end) = name_end else {
        let sigil = &text[..1];
        let list = spec::COMMANDS.iter().map(|c| (format!("{sigil}{}", c.name), c.summary.to_owned()));
        return offer(begin, text, list);
    };
    let name = &text[1..name_end];
    let Some(spec) = spec::find(name) else { return Found { start: pos, ..Found::default() } };
    let rest = begin + name_end;
    let inside: Vec<&Token> = done.iter().filter(|t| t.span.start >= rest).collect();
    let frames = stack(before, &inside.iter().map(|t| (*t).clone()).collect::<Vec<_>>());
    // Blank-separated words before the one being typed, for arguments that are not EDN.
    let arguments =
        before[rest..].split_whitespace().count() - usize::from(!before.ends_with(char::is_whitespace));
    let top = frames.len() == 1;
    let Some(arg) = spec.args.get(arguments.min(spec.args.len().saturating_sub(1))) else {
        return Found { start: pos, ..Found::default() };
    };
    let word_start = before.rfind(char::is_whitespace).map_or(rest, |i| i + 1);
    let bare = &before[word_start..];
    match arg {
        Arg::File => Found { start: word_start, files: true, ..Found::default() },
        Arg::Word(list) if top => {
            offer(word_start, bare, list.iter().map(|w| ((*w).to_owned(), String::new())))
        }
        Arg::Topic => offer(word_start, bare, topic_words()),
        Arg::Stream if top => {
            offer(word_start, bare, words.streams.iter().map(|s| (s.clone(), String::new())))
        }
        Arg::Projection => {
            offer(word_start, bare, words.projections.iter().map(|s| (s.clone(), String::new())))
        }
        Arg::Attribute if top => offer(word_start, bare, attributes(words, false)),
        Arg::Time if top && bare.starts_with(['n', '#']) => {
            offer(word_start, bare, ["now", "#inst \""].map(|w| (w.to_owned(), String::new())).into_iter())
        }
        _ => in_form(line, start, typed, pos, &frames, words),
    }
}

fn in_form(
    line: &str,
    start: usize,
    typed: &str,
    pos: usize,
    frames: &[Frame<'_>],
    words: &Vocabulary,
) -> Found {
    if typed.starts_with('?') {
        return offer(start, typed, variables(line, start..pos, words).into_iter());
    }
    let [.., frame] = frames else { return Found { start, ..Found::default() } };
    let outer = &frames[..frames.len() - 1];
    let n = frame.elements.len();
    let keyword = typed.starts_with(':') || typed.is_empty();
    match frame.close {
        // Top of the text.
        '\0' => {
            let results = ["*1", "*2", "*3"].map(|w| (w.to_owned(), "an earlier answer".to_owned()));
            offer(start, typed, results.into_iter())
        }
        ')' if n == 0 => offer(start, typed, heads(outer, words).into_iter()),
        ')' if keyword && !typed.is_empty() => offer(start, typed, attributes(words, false)),
        '}' => in_map(start, typed, frame, outer, words),
        ']' if is_query(frame)
            || (outer.len() == 1 && n == 0 && ":find".starts_with(typed) && !typed.is_empty()) =>
        {
            if !keyword {
                return Found { start, ..Found::default() };
            }
            let unused = CLAUSE_KEYS.iter().filter(|k| !frame.elements.contains(k));
            let mut list: Vec<(String, String)> = unused.map(|k| ((*k).to_owned(), clause_note(k))).collect();
            if n == 0 {
                list.retain(|(k, _)| k == ":find" || k == ":db/add");
                list.extend(TX_FORMS.iter().map(|f| ((*f).to_owned(), clause_note(f))));
            }
            offer(start, typed, list.into_iter())
        }
        ']' if in_where(outer) => {
            let place = n - usize::from(frame.head().starts_with('$'));
            match place {
                0 if typed.is_empty() => offer(start, typed, variables(line, start..pos, words).into_iter()),
                1 => offer(start, typed, attributes(words, false)),
                2 => offer(start, typed, values(frame.elements[n - 1], words).into_iter()),
                _ => Found { start, ..Found::default() },
            }
        }
        ']' if TX_FORMS.contains(&frame.head()) => match n {
            2 => offer(start, typed, attributes(words, false)),
            3.. => offer(start, typed, values(frame.elements[2], words).into_iter()),
            _ => Found { start, ..Found::default() },
        },
        ']' if n == 0 && outer.len() == 2 && outer[1].close == ']' && !is_query(&outer[1]) => {
            let forms = TX_FORMS.iter().map(|f| ((*f).to_owned(), clause_note(f)));
            offer(start, typed, forms.chain(attributes(words, true)))
        }
        ']' if keyword => offer(start, typed, attributes(words, true)),
        _ => Found { start, ..Found::default() },
    }
}

fn in_map(start: usize, typed: &str, frame: &Frame<'_>, outer: &[Frame<'_>], words: &Vocabulary) -> Found {
    let n = frame.elements.len();
    if n % 2 == 1 {
        return offer(start, typed, values(frame.elements[n - 1], words).into_iter());
    }
    let mut list: Vec<(String, String)> = attributes(words, true).collect();
    let in_pull = outer.iter().any(|f| f.head() == "pull");
    if !in_pull {
        list.push((":db/id".into(), "the entity; a string is a new one".into()));
        if outer.len() == 1 {
            list.extend(EVENT_KEYS.iter().map(|k| ((*k).to_owned(), "event".to_owned())));
            list.extend(CLAUSE_KEYS[..3].iter().map(|k| ((*k).to_owned(), "query".to_owned())));
        }
    }
    offer(start, typed, list.into_iter())
}

/// The open brackets before the cursor, from the text itself inwards.
fn stack<'a>(text: &'a str, done: &[Token]) -> Vec<Frame<'a>> {
    let mut frames = vec![Frame { close: '\0', elements: Vec::new() }];
    for t in done {
        match t.kind {
            Kind::Comment | Kind::Discard | Kind::Prefix | Kind::Tag => {}
            Kind::Open(close) => {
                let opener = t.text(text);
                frames.last_mut().expect("the text itself is never closed").elements.push(opener);
                frames.push(Frame { close, elements: Vec::new() });
            }
            Kind::Close(_) if frames.len() > 1 => drop(frames.pop()),
            Kind::Close(_) => {}
            _ => frames.last_mut().expect("the text itself is never closed").elements.push(t.text(text)),
        }
    }
    frames
}

/// The name at the head of the innermost open bracket.
pub fn innermost_head(text: &str) -> Option<&str> {
    let frames = stack(text, &tokens(text));
    let frame = frames.last()?;
    frame.elements.first().copied()
}

fn is_query(f: &Frame<'_>) -> bool {
    f.head() == ":find"
}

/// Are we among the clauses of a query, a rule, or a logical list?
fn in_where(outer: &[Frame<'_>]) -> bool {
    match outer.last() {
        Some(f) if is_query(f) => f.section() == ":where",
        Some(f) if f.close == ')' => {
            let head =
                if f.head().starts_with('$') { f.elements.get(1).copied().unwrap_or("") } else { f.head() };
            LOGIC.contains(&head)
        }
        // A rule: [(head) clause …] inside a vector of rules.
        Some(f) if f.close == ']' && f.head() == "(" && outer.len() >= 2 => {
            outer[outer.len() - 2].close == ']'
        }
        _ => false,
    }
}

/// What may stand first in a list.
fn heads(outer: &[Frame<'_>], words: &Vocabulary) -> Vec<(String, String)> {
    let of = |sorts: &[Sort]| -> Vec<(String, String)> {
        TOPICS
            .iter()
            .filter(|t| sorts.contains(&t.sort))
            .map(|t| (t.name.to_owned(), t.usage.to_owned()))
            .collect()
    };
    let Some(parent) = outer.last() else { return Vec::new() };
    let clause_place = is_query(parent) && parent.section() == ":where"
        || parent.close == ')' && LOGIC.contains(&parent.head());
    if clause_place {
        let mut list: Vec<_> = LOGIC
            .iter()
            .map(|l| ((*l).to_owned(), topics::find(l).map_or(String::new(), |t| t.usage.to_owned())))
            .collect();
        list.extend(words.rules.iter().map(|r| (r.clone(), "rule".to_owned())));
        return list;
    }
    if parent.close == ']' && parent.elements.len() == 1 && in_where(&outer[..outer.len() - 1]) {
        return of(&[Sort::Predicate, Sort::Function]);
    }
    let finding = outer.iter().rev().take(2).any(|f| is_query(f) && f.section() == ":find");
    if finding {
        let mut list = of(&[Sort::Aggregate]);
        list.push(("pull".into(), "(pull ?e [pattern])".into()));
        return list;
    }
    words.rules.iter().map(|r| (r.clone(), "rule".to_owned())).collect()
}

/// Values that are names: for a reference or keyword attribute the idents, and truth for a boolean.
fn values(attribute: &str, words: &Vocabulary) -> Vec<(String, String)> {
    match words.attribute(attribute).map(|a| a.value_type) {
        Some("boolean") => ["true", "false"].map(|w| (w.to_owned(), String::new())).to_vec(),
        Some("ref" | "keyword") | None => {
            words.idents.iter().map(|i| (i.clone(), "ident".to_owned())).collect()
        }
        Some(_) => Vec::new(),
    }
}

fn attributes(words: &Vocabulary, reverse: bool) -> impl Iterator<Item = (String, String)> + '_ {
    words.attributes.iter().flat_map(move |a| {
        let note = format!("{}{}", a.value_type, if a.many { " many" } else { "" });
        let back = (reverse && a.value_type == "ref")
            .then(|| a.name.rsplit_once('/').map(|(ns, n)| (format!("{ns}/_{n}"), "backwards".to_owned())))
            .flatten();
        std::iter::once((a.name.clone(), note)).chain(back)
    })
}

/// Variables of the whole text, nearest first by name, and parameters.
fn variables(line: &str, except: std::ops::Range<usize>, words: &Vocabulary) -> Vec<(String, String)> {
    let here = tokens(line)
        .into_iter()
        .filter(|t| t.kind == Kind::Variable && t.span != except && t.span.start != except.start)
        .map(|t| (t.text(line).to_owned(), String::new()));
    here.chain(words.parameters.iter().map(|p| (p.clone(), "parameter".to_owned()))).collect()
}

fn topic_words() -> impl Iterator<Item = (String, String)> {
    let commands = spec::COMMANDS.iter().map(|c| (c.name.to_owned(), c.summary.to_owned()));
    commands.chain(TOPICS.iter().map(|t| (t.name.to_owned(), t.usage.to_owned())))
}

fn clause_note(name: &str) -> String {
    topics::find(name).map_or(String::new(), |t| t.usage.to_owned())
}

/// The words that begin as typed; failing that, those that hold what was typed after their slash.
fn offer(start: usize, typed: &str, list: impl Iterator<Item = (String, String)>) -> Found {
    let all: Vec<(String, String)> = list.collect();
    let mut hits: Vec<Word> = pick(&all, |w| w.starts_with(typed));
    if hits.is_empty() && typed.len() > 1 {
        let part = typed.trim_start_matches(':');
        hits = pick(&all, |w| w.contains(part));
    }
    hits.sort_by(|a, b| a.text.cmp(&b.text));
    hits.dedup_by(|a, b| a.text == b.text);
    Found { start, words: hits, files: false }
}

fn pick(all: &[(String, String)], wanted: impl Fn(&str) -> bool) -> Vec<Word> {
    all.iter().filter(|(w, _)| wanted(w)).map(|(w, n)| Word { text: w.clone(), note: n.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::vocabulary::AttributeWord;

    fn vocabulary() -> Vocabulary {
        let word = |name: &str, value_type| AttributeWord { name: name.into(), value_type, many: false };
        Vocabulary {
            attributes: vec![
                word(":order/customer", "ref"),
                word(":order/id", "string"),
                word(":order/paid", "boolean"),
                word(":order/status", "keyword"),
            ],
            idents: vec![":status/placed".into()],
            rules: vec!["reach".into()],
            parameters: vec!["?id".into()],
            streams: vec!["order-A-1".into()],
            event_types: vec![],
            projections: vec!["cases".into()],
        }
    }

    /// Completes at `|` and gives the words.
    fn at(text: &str) -> Vec<String> {
        let pos = text.find('|').expect("a cursor");
        let line = text.replacen('|', "", 1);
        complete(&line, pos, &vocabulary()).words.into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn each_position_offers_its_own_words() {
        for (text, want) in [
            ("[:find ?x :where [?x :order/st|]]", vec![":order/status"]),
            ("[:find ?x :where [?x |", vec![":order/customer", ":order/id", ":order/paid", ":order/status"]),
            ("[:find ?x :where [?x :order/status |", vec![":status/placed"]),
            ("[:find ?x :where [?x :order/paid |", vec!["false", "true"]),
            ("[:find ?x :where ($ not |", vec![]),
            ("[:find ?order :where [?or|", vec!["?order"]),
            ("[:find ?x :in $ ?i|", vec!["?id"]),
            ("[:find ?x :wh|", vec![":where"]),
            ("[:find (coun|", vec!["count", "count-distinct"]),
            ("[:find ?x :where [?x :order/id] (re|", vec!["reach"]),
            ("[:find ?x :where (not-|", vec!["not-join"]),
            ("[:find ?x :where [(starts|", vec!["starts-with?"]),
            ("[:find ?x :where (or [?x :order/i|", vec![":order/id"]),
            ("[:find (pull ?x [:order/_c|", vec![":order/_customer"]),
            ("[{:order/i|", vec![":order/id"]),
            ("[{:order/paid |", vec!["false", "true"]),
            ("[[:db/add 1 :order/i|", vec![":order/id"]),
            ("[[:db/retract|", vec![":db/retract", ":db/retractEntity"]),
            ("[[(reach ?a ?b) [?a :order/c|", vec![":order/customer"]),
            (":sch|", vec![":schema"]),
            ("\\tim|", vec!["\\timeline", "\\timing"]),
            (":timing o|", vec!["off", "on"]),
            (":help get-|", vec!["get-else", "get-some"]),
            (":projections rebuild |", vec!["cases"]),
            (":streams or|", vec!["order-A-1"]),
            (":schema :order/p|", vec![":order/paid"]),
            (":explain [:find ?x :where [?x :order/p|", vec![":order/paid"]),
            (":with [{:order/p|", vec![":order/paid"]),
            ("; comment :or|", vec![]),
            ("[\"str :or|", vec![]),
        ] {
            assert_eq!(at(text), want, "{text}");
        }
    }

    #[test]
    fn a_part_after_the_slash_is_enough() {
        assert_eq!(at("[:find ?x :where [?x :custom|"), vec![":order/customer"]);
    }

    #[test]
    fn files_are_asked_for_by_the_commands_that_take_them() {
        assert!(complete(":run re", 7, &vocabulary()).files);
        assert!(complete(":import csv prod", 16, &vocabulary()).files);
    }

    #[test]
    fn any_text_at_any_place_is_answered() {
        let v = vocabulary();
        for text in [
            "",
            ":",
            "[",
            "]]",
            "(((",
            "{:a",
            "\"",
            "#",
            "é[?",
            ":help ",
            ":as-of n",
            "[:find ?x :where [?x :order/id \"é",
        ] {
            for (i, _) in text.char_indices().chain([(text.len(), ' ')]) {
                let _ = complete(text, i, &v);
            }
        }
    }

    #[test]
    fn two_thousand_attributes_are_quick() {
        let attributes = (0..2000)
            .map(|i| AttributeWord {
                name: format!(":ns{:02}/attribute{i:04}", i % 50),
                value_type: "long",
                many: false,
            })
            .collect::<Vec<_>>();
        let mut v = Vocabulary { attributes, ..Vocabulary::default() };
        v.attributes.sort_by(|a, b| a.name.cmp(&b.name));
        let form = format!("[:find ?x :where {} [?x :ns07/a", "[?x :ns01/attribute0001 ?y] ".repeat(180));
        let start = std::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(complete(&form, form.len(), &v).words.len(), 40);
        }
        assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
    }
}
