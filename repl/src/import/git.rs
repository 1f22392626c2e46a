//! The history of a git repository as events: a stream a path, a transaction a commit.
//!
//! Along first parents, oldest first: what a commit changed against its first
//! parent are the events of one transaction at the committer's time, `FileAdded`, `FileModified`,
//! `FileDeleted`, each with `path`, `blob` (its id) and the commit's id, author, subject.
//!
//! Event ids derive from commit and path, so importing again adds nothing, and after
//! new commits only those.

use super::{
    events::{Incoming, Sink, install, read_projections, report},
    source::Source,
};
use crate::{
    fail::{Failure, Outcome},
    session::Session,
};
use annals::{
    Instant,
    event::{EventId, NewEvent, Tag},
};
use gix::{ObjectId, Repository, bstr::ByteSlice as _};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Files of a tree: path to blob id and mode.
type Tree = BTreeMap<Vec<u8>, (ObjectId, u16)>;

/// `import git`.
pub fn run(s: &mut Session, path: &Path, rev: &str, projections: &[PathBuf]) -> Outcome {
    let wrong =
        |e: &dyn std::fmt::Display| Failure::refused("import/git", format!("{}: {e}", path.display()));
    let repo = gix::open(path).map_err(|e| wrong(&e).help("the folder of a git repository, or its .git"))?;
    let head = repo.rev_parse_single(rev).map_err(|e| wrong(&format!("{rev}: {e}")))?.detach();
    let texts = read_projections(projections)?;
    let commits = first_parents(&repo, head).map_err(|e| wrong(&e))?;
    let source = Source::of_bytes(&path.display().to_string(), b"");
    let mut sink = Sink::new(s, Some(commits.len() as u64));
    let mut cache = Trees { repo: &repo, known: BTreeMap::new() };
    let mut before = Tree::new();
    for (i, id) in commits.iter().enumerate() {
        let commit = repo.find_commit(*id).map_err(|e| wrong(&e))?;
        let after = cache.files(commit.tree_id().map_err(|e| wrong(&e))?.detach()).map_err(|e| wrong(&e))?;
        for e in events(&commit, &before, &after).map_err(|e| wrong(&e))? {
            sink.push(e, i as u64, &source)?;
        }
        before = after;
    }
    let done = sink.finish(&source)?;
    install(s, &texts)?;
    report(s, done);
    Ok(())
}

/// The commits along first parents, oldest first.
fn first_parents(repo: &Repository, head: ObjectId) -> Result<Vec<ObjectId>, String> {
    let mut out = Vec::new();
    let mut at = Some(head);
    while let Some(id) = at {
        out.push(id);
        let commit =
            repo.find_object(id).map_err(|e| e.to_string())?.peel_to_commit().map_err(|e| e.to_string())?;
        at = commit.parent_ids().next().map(gix::Id::detach);
    }
    out.reverse();
    Ok(out)
}

/// Reads trees, keeping the files of subtrees that do not change from commit to commit.
struct Trees<'r> {
    repo: &'r Repository,
    known: BTreeMap<ObjectId, std::sync::Arc<Tree>>,
}

/// Subtrees kept.
const KEPT: usize = 20_000;

impl Trees<'_> {
    fn files(&mut self, tree: ObjectId) -> Result<Tree, String> {
        self.read(tree, 0).map(|t| (*t).clone())
    }

    fn read(&mut self, tree: ObjectId, depth: usize) -> Result<std::sync::Arc<Tree>, String> {
        if let Some(t) = self.known.get(&tree) {
            return Ok(t.clone());
        }
        if depth > 128 {
            return Err("folders are nested deeper than 128".into());
        }
        let object = self.repo.find_tree(tree).map_err(|e| e.to_string())?;
        let mut entries = Vec::new();
        for e in object.iter() {
            let e = e.map_err(|e| e.to_string())?;
            entries.push((e.filename().to_vec(), e.object_id(), e.mode()));
        }
        let mut out = Tree::new();
        for (name, id, mode) in entries {
            if mode.is_tree() {
                for (path, file) in self.read(id, depth + 1)?.iter() {
                    let mut full = name.clone();
                    full.push(b'/');
                    full.extend_from_slice(path);
                    out.insert(full, *file);
                }
            } else {
                out.insert(name, (id, mode.value()));
            }
        }
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let out = std::sync::Arc::new(out);
        self.known.insert(tree, out.clone());
        Ok(out)
    }
}

/// What a commit did to the files.
fn events(commit: &gix::Commit<'_>, before: &Tree, after: &Tree) -> Result<Vec<Incoming>, String> {
    let id = commit.id.to_string();
    let author = commit.author().map_err(|e| e.to_string())?;
    let seconds = commit.time().map_err(|e| e.to_string())?.seconds;
    let time = seconds.checked_mul(1_000_000).map(Instant);
    let subject = commit.message().map_err(|e| e.to_string())?.summary().to_str_lossy().into_owned();
    let meta =
        [("commit", id.clone()), ("subject", subject), ("author", author.name.to_str_lossy().into_owned())];
    let mut out = Vec::new();
    let mut push = |ty: &str, path: &[u8], file: Option<&(ObjectId, u16)>| -> Result<(), String> {
        let path = path.to_str_lossy().into_owned();
        let mut data = json!({"path": path});
        if let Some((blob, mode)) = file {
            data["blob"] = json!(blob.to_string());
            data["mode"] = json!(format!("{mode:06o}"));
        }
        let mut e = NewEvent::new(ty, data)
            .map_err(|e| e.to_string())?
            .id(EventId::of_text(&format!("git:{id}:{path}")));
        e = e.correlation(&id).tag(Tag::new(format!("commit:{id}")).map_err(|e| e.to_string())?);
        for (k, v) in &meta {
            e = e.meta(k, v.as_str());
        }
        if let Some(t) = time {
            e = e.occurred_at(t);
        }
        out.push(Incoming { stream: format!("file-{path}"), event: e, time, group: Some(id.clone()) });
        Ok(())
    };
    for (path, file) in after {
        match before.get(path) {
            None => push("FileAdded", path, Some(file))?,
            Some(old) if old != file => push("FileModified", path, Some(file))?,
            Some(_) => {}
        }
    }
    for path in before.keys().filter(|p| !after.contains_key(*p)) {
        push("FileDeleted", path, None)?;
    }
    Ok(out)
}
