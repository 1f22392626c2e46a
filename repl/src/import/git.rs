//! The history of a git repository as events: a stream a path, a transaction a commit.
//!
//! Along first parents, oldest first: what a commit changed against its first
//! parent are the events of one transaction at the committer's time, `FileAdded`, `FileModified`,
//! `FileDeleted`, each with `path`, `blob` (its id) and the commit's id, author, subject.
//!
//! Event ids derive from commit and path, so importing again adds nothing, and after
//! new commits only those.

use super::{
    events::{Incoming, Sink, install, read_projections, report, report_rejected, stream_name},
    rejects::Rejects,
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
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Memory for objects read from the repository.
const OBJECT_CACHE_BYTES: usize = 64 << 20;

/// `import git`. A change to a path that no stream can be named after (too long, or with control
/// characters) is set aside, where there is a file for such.
pub fn run(
    s: &mut Session,
    path: &Path,
    rev: &str,
    projections: &[PathBuf],
    rejects: Option<&Path>,
) -> Outcome {
    let wrong =
        |e: &dyn std::fmt::Display| Failure::refused("import/git", format!("{}: {e}", path.display()));
    let mut repo =
        gix::open(path).map_err(|e| wrong(&e).help("the folder of a git repository, or its .git"))?;
    // Trees of neighbouring commits are deltas of each other in a pack.
    repo.object_cache_size_if_unset(OBJECT_CACHE_BYTES);
    let head = repo.rev_parse_single(rev).map_err(|e| wrong(&format!("{rev}: {e}")))?.detach();
    let texts = read_projections(projections)?;
    let mut rejects = Rejects::open(rejects)?;
    let commits = first_parents(&repo, head).map_err(|e| wrong(&e))?;
    let source = Source::of_bytes(&path.display().to_string(), b"");
    let mut sink = Sink::new(s, Some(commits.len() as u64));
    let mut trees = Trees { repo: &repo, known: HashMap::new() };
    let mut before = None;
    for (i, id) in commits.iter().enumerate() {
        let commit = repo.find_commit(*id).map_err(|e| wrong(&e))?;
        let after = commit.tree_id().map_err(|e| wrong(&e))?.detach();
        let changes = trees.changes(before, after).map_err(|e| wrong(&e))?;
        for e in events(&commit, &changes).map_err(|e| wrong(&e))? {
            match e {
                Ok(e) => sink.push(e, i as u64, &source)?,
                Err((path, why)) => {
                    rejects.put(&format!("{} {id}", source.name), i as u64 + 1, &why, &path)?
                }
            }
        }
        before = Some(after);
    }
    let done = sink.finish(&source)?;
    let rejected = rejects.finish()?;
    install(s, &texts)?;
    report(s, done);
    report_rejected(s, rejected, "change");
    Ok(())
}

/// A change as an event, or the path that cannot be one, and why.
type Told = Result<Incoming, (String, String)>;

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

/// What a commit did to one path.
struct Change {
    path: Vec<u8>,
    ty: &'static str,
    file: Option<File>,
}

/// A file of a tree: blob and mode.
type File = (ObjectId, u16);

/// One folder: its entries by name.
type Folder = BTreeMap<Vec<u8>, Entry>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(File),
    Folder(ObjectId),
}

/// Compares trees folder by folder, and reads only those that differ.
struct Trees<'r> {
    repo: &'r Repository,
    known: HashMap<ObjectId, Arc<Folder>>,
}

/// Folders kept.
const KEPT: usize = 20_000;
/// Deepest folder.
const DEEPEST: usize = 128;

impl Trees<'_> {
    /// Files added and changed, then files deleted, each by path.
    fn changes(&mut self, before: Option<ObjectId>, after: ObjectId) -> Result<Vec<Change>, String> {
        let mut out = Vec::new();
        self.compare(before, Some(after), &mut Vec::new(), &mut out, 0)?;
        out.sort_by(|a, b| (a.file.is_none(), &a.path).cmp(&(b.file.is_none(), &b.path)));
        Ok(out)
    }

    fn compare(
        &mut self,
        before: Option<ObjectId>,
        after: Option<ObjectId>,
        path: &mut Vec<u8>,
        out: &mut Vec<Change>,
        depth: usize,
    ) -> Result<(), String> {
        if before == after {
            return Ok(());
        }
        if depth > DEEPEST {
            return Err(format!("folders are nested deeper than {DEEPEST}"));
        }
        let old = before.map(|id| self.folder(id)).transpose()?.unwrap_or_default();
        let new = after.map(|id| self.folder(id)).transpose()?.unwrap_or_default();
        let names: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (was, is) = (old.get(name).copied(), new.get(name).copied());
            if was == is {
                continue;
            }
            let len = path.len();
            path.extend_from_slice(name);
            let folder = |e: Option<Entry>| match e {
                Some(Entry::Folder(id)) => Some(id),
                _ => None,
            };
            let file = |e: Option<Entry>| match e {
                Some(Entry::File(f)) => Some(f),
                _ => None,
            };
            match (file(was), file(is)) {
                (None, Some(f)) => out.push(Change { path: path.clone(), ty: "FileAdded", file: Some(f) }),
                (Some(_), Some(f)) => {
                    out.push(Change { path: path.clone(), ty: "FileModified", file: Some(f) })
                }
                (Some(_), None) => out.push(Change { path: path.clone(), ty: "FileDeleted", file: None }),
                (None, None) => {}
            }
            if folder(was).is_some() || folder(is).is_some() {
                path.push(b'/');
                self.compare(folder(was), folder(is), path, out, depth + 1)?;
            }
            path.truncate(len);
        }
        Ok(())
    }

    fn folder(&mut self, id: ObjectId) -> Result<Arc<Folder>, String> {
        if let Some(f) = self.known.get(&id) {
            return Ok(f.clone());
        }
        let object = self.repo.find_tree(id).map_err(|e| e.to_string())?;
        let mut folder = Folder::new();
        for e in object.iter() {
            let e = e.map_err(|e| e.to_string())?;
            let entry = match e.mode().is_tree() {
                true => Entry::Folder(e.object_id()),
                false => Entry::File((e.object_id(), e.mode().value())),
            };
            folder.insert(e.filename().to_vec(), entry);
        }
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let folder = Arc::new(folder);
        self.known.insert(id, folder.clone());
        Ok(folder)
    }
}

/// What a commit did to the files.
fn events(commit: &gix::Commit<'_>, changes: &[Change]) -> Result<Vec<Told>, String> {
    let id = commit.id.to_string();
    let author = commit.author().map_err(|e| e.to_string())?;
    let seconds = commit.time().map_err(|e| e.to_string())?.seconds;
    let time = seconds.checked_mul(1_000_000).map(Instant);
    let subject = commit.message().map_err(|e| e.to_string())?.summary().to_str_lossy().into_owned();
    let meta =
        [("commit", id.clone()), ("subject", subject), ("author", author.name.to_str_lossy().into_owned())];
    let mut out = Vec::new();
    let mut push = |ty: &str, path: &[u8], file: Option<&File>| -> Result<(), String> {
        let path = path.to_str_lossy().into_owned();
        let stream = match stream_name(format!("file-{path}")) {
            Ok(stream) => stream,
            Err(why) => {
                out.push(Err((path, why)));
                return Ok(());
            }
        };
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
        out.push(Ok(Incoming { stream, event: e, time, group: Some(id.clone()) }));
        Ok(())
    };
    for c in changes {
        push(c.ty, &c.path, c.file.as_ref())?;
    }
    Ok(out)
}
