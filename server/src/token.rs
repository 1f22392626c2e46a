//! Access tokens: who may do what to which database.
//!
//! 1. A token is `annals_<id>_<secret>`; the secret is 256 random bits and leaves
//!    [`Token::create`] once. The file holds its SHA-256 alone (a slow hash adds
//!    nothing to a secret nobody can guess).
//! 2. The id finds the entry, the hash is compared in constant time.
//! 3. Revoking or expiring takes effect with the next request after the file was
//!    re-read, at most [`RELOAD_EVERY`] after it changed.
//! 4. A token file that others may write, or read, is refused.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use subtle::ConstantTimeEq;

/// How often the file is looked at.
pub const RELOAD_EVERY: Duration = Duration::from_millis(400);

/// What a token lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Queries, pulls, the log, subscriptions.
    Read,
    /// Transactions that leave the schema alone, appends, commands.
    Write,
    /// Transactions that touch the schema.
    Schema,
    /// Everything, and backups, projections, tombstones, erasure.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Schema => "schema",
            Scope::Admin => "admin",
        })
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        [Scope::Read, Scope::Write, Scope::Schema, Scope::Admin]
            .into_iter()
            .find(|s| s.to_string() == text)
            .ok_or_else(|| format!("{text:?} is none of read, write, schema, admin"))
    }
}

/// One line of the token file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Public part; appears in logs and as `:tx/principal`.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// Hex of the SHA-256 of the secret.
    pub sha256: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// On which databases; `*` is all.
    pub databases: Vec<String>,
    /// Seconds since the epoch.
    pub created: u64,
    /// Seconds since the epoch; never, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Seconds since the epoch; not revoked, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
}

impl Token {
    /// A new token and the text to hand to its owner, which cannot be had again.
    pub fn create(
        name: &str,
        scopes: Vec<Scope>,
        databases: Vec<String>,
        lifetime: Option<Duration>,
    ) -> (Token, String) {
        let id = hex(&rand::random::<[u8; 6]>());
        let secret = hex(&rand::random::<[u8; 32]>());
        let created = now();
        let token = Token {
            sha256: hex(&Sha256::digest(secret.as_bytes())),
            name: name.to_owned(),
            scopes,
            databases,
            created,
            expires: lifetime.map(|d| created + d.as_secs()),
            revoked: None,
            id,
        };
        let text = format!("annals_{}_{secret}", token.id);
        (token, text)
    }

    fn live(&self, now: u64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|at| now < at)
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Token id with its name, or `local` where no tokens are configured. Holds no control
    /// characters: it is shown in logs and terminals.
    pub name: Arc<str>,
    scopes: Arc<[Scope]>,
    databases: Arc<[String]>,
}

impl Principal {
    /// Whoever can connect, on a server without tokens.
    pub fn local() -> Principal {
        Principal { name: "local".into(), scopes: [Scope::Admin].into(), databases: ["*".to_owned()].into() }
    }

    /// May this principal know that the database exists?
    pub fn sees(&self, database: &str) -> bool {
        self.databases.iter().any(|d| d == "*" || d == database)
    }

    /// Does it hold the scope? Admin holds all.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|s| *s == scope || *s == Scope::Admin)
    }
}

/// Why a bearer was turned away. All of them look alike from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No `Authorization: Bearer …`.
    Missing,
    /// Not a token of ours, wrong secret, expired or revoked.
    Invalid,
}

/// The tokens of a file.
#[derive(Debug, Default)]
pub struct Tokens {
    by_id: HashMap<String, Token>,
}

impl Tokens {
    /// Reads a token file. A missing file is an error: it would lock everyone out silently.
    pub fn read(path: &Path) -> io::Result<Tokens> {
        private(path)?;
        let text = std::fs::read_to_string(path)?;
        let mut by_id = HashMap::new();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let token: Token = serde_json::from_str(line).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {}: not a token entry: {e}", n + 1))
            })?;
            by_id.insert(token.id.clone(), token);
        }
        Ok(Tokens { by_id })
    }

    /// Who bears this `Authorization` header.
    pub fn principal(&self, authorization: Option<&str>) -> Result<Principal, Denied> {
        let bearer = authorization
            .and_then(|h| h.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Denied::Missing)?;
        let (id, secret) =
            bearer.strip_prefix("annals_").and_then(|rest| rest.split_once('_')).ok_or(Denied::Invalid)?;
        // An unknown id costs the same hash and comparison as a known one.
        let given = hex(&Sha256::digest(secret.as_bytes()));
        let token = self.by_id.get(id);
        let stored = token.map_or(NO_HASH, |t| t.sha256.as_str());
        let same: bool = given.as_bytes().ct_eq(stored.as_bytes()).into();
        match token {
            Some(t) if same && t.live(now()) => Ok(Principal {
                name: format!("{}:{}", t.id, t.name.replace(char::is_control, "")).into(),
                scopes: t.scopes.clone().into(),
                databases: t.databases.clone().into(),
            }),
            _ => Err(Denied::Invalid),
        }
    }
}

const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A token file kept open for business: appended to, revoked in, re-read.
#[derive(Debug)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> TokenFile {
        TokenFile(path.into())
    }

    /// When the file was last changed; None when it cannot be seen.
    pub fn stamp(&self) -> Option<(SystemTime, u64)> {
        let meta = std::fs::metadata(&self.0).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    }

    /// All entries, in order.
    pub fn list(&self) -> io::Result<Vec<Token>> {
        if !self.0.exists() {
            return Ok(Vec::new());
        }
        let mut all: Vec<Token> = Tokens::read(&self.0)?.by_id.into_values().collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(all)
    }

    /// Adds an entry.
    pub fn add(&self, token: Token) -> io::Result<()> {
        let mut all = self.list()?;
        all.push(token);
        self.write(&all)
    }

    /// Revokes the entry with this id or name. False when there is none.
    pub fn revoke(&self, id: &str) -> io::Result<bool> {
        let mut all = self.list()?;
        let mut found = false;
        for t in all.iter_mut().filter(|t| t.id == id || t.name == id) {
            t.revoked.get_or_insert_with(now);
            found = true;
        }
        self.write(&all)?;
        Ok(found)
    }

    /// Replaces the file in one step, readable by its owner alone.
    fn write(&self, all: &[Token]) -> io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let fresh = self.0.with_extension("new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        for t in all {
            serde_json::to_writer(&mut file, t)?;
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        std::fs::rename(&fresh, &self.0)
    }
}

fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("its permissions are {:o}: others may read it (chmod 600)", mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[(b >> 4) as usize] as char, DIGITS[(b & 15) as usize] as char])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, TokenFile, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        (dir, TokenFile::new(&path), path)
    }

    #[test]
    fn a_token_opens_what_it_names_and_nothing_else() {
        let (_dir, file, path) = file();
        let (token, text) = Token::create("ci", vec![Scope::Read], vec!["sales".into()], None);
        file.add(token).unwrap();
        let tokens = Tokens::read(&path).unwrap();
        let p = tokens.principal(Some(&format!("Bearer {text}"))).unwrap();
        assert!(p.sees("sales") && !p.sees("hr") && p.has(Scope::Read) && !p.has(Scope::Write));
        assert!(!std::fs::read_to_string(&path).unwrap().contains(text.rsplit('_').next().unwrap()));
        for bad in [&text[..text.len() - 1], "annals_x_y", "", "annals_"] {
            assert_eq!(
                tokens.principal(Some(&format!("Bearer {bad}"))).unwrap_err(),
                Denied::Invalid,
                "{bad}"
            );
        }
        assert_eq!(tokens.principal(None).unwrap_err(), Denied::Missing);
        assert_eq!(tokens.principal(Some("Basic x")).unwrap_err(), Denied::Missing);
    }

    #[test]
    fn revoked_and_expired_tokens_are_dead() {
        let (_dir, file, path) = file();
        let (a, a_text) = Token::create("a", vec![Scope::Admin], vec!["*".into()], None);
        let (b, b_text) = Token::create("b", vec![Scope::Admin], vec!["*".into()], Some(Duration::ZERO));
        let id = a.id.clone();
        file.add(a).unwrap();
        file.add(b).unwrap();
        let read = |text: &str| Tokens::read(&path).unwrap().principal(Some(&format!("bearer {text}")));
        assert!(read(&a_text).is_ok());
        assert_eq!(read(&b_text).unwrap_err(), Denied::Invalid);
        assert!(file.revoke(&id).unwrap());
        assert_eq!(read(&a_text).unwrap_err(), Denied::Invalid);
    }

    /// Welch's t of two samples, without the slowest tenth of each: what the machine did meanwhile.
    fn welch(a: &mut Vec<f64>, b: &mut Vec<f64>) -> f64 {
        let moments = |v: &mut Vec<f64>| {
            v.sort_by(f64::total_cmp);
            v.truncate(v.len() * 9 / 10);
            let n = v.len() as f64;
            let mean = v.iter().sum::<f64>() / n;
            (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
        };
        let ((ma, va), (mb, vb)) = (moments(a), moments(b));
        (ma - mb) / (va + vb).sqrt().max(f64::MIN_POSITIVE)
    }

    /// How much of the secret is right does not show in the time of the refusal: 10,000
    /// samples each of a secret wrong in its first and in its last digit.
    #[test]
    fn a_refusal_takes_as_long_whatever_is_wrong() {
        let (_dir, file, path) = file();
        let (token, text) = Token::create("ci", vec![Scope::Read], vec!["*".into()], None);
        file.add(token).unwrap();
        let tokens = Tokens::read(&path).unwrap();
        let (head, secret) = text.rsplit_once('_').unwrap();
        let turned = |i: usize| {
            let mut bytes = secret.as_bytes().to_vec();
            bytes[i] = if bytes[i] == b'0' { b'1' } else { b'0' };
            format!("Bearer {head}_{}", String::from_utf8(bytes).unwrap())
        };
        let (first, last) = (turned(0), turned(secret.len() - 1));
        // Both are read from one place: where a text lies in memory shows in its time too.
        let mut place = first.clone().into_bytes();
        let mut time = |header: &str| {
            place.copy_from_slice(header.as_bytes());
            let header = std::str::from_utf8(&place).unwrap();
            let began = std::time::Instant::now();
            assert!(std::hint::black_box(tokens.principal(Some(header))).is_err());
            began.elapsed().as_nanos() as f64
        };
        // A signal is there every time; a busy machine may look like one once.
        let ts: Vec<f64> = (0..5)
            .map(|_| {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                for i in 0..10_000 {
                    let mut sample = |first_goes: bool| match first_goes {
                        true => a.push(time(&first)),
                        false => b.push(time(&last)),
                    };
                    sample(i % 2 == 0);
                    sample(i % 2 != 0);
                }
                welch(&mut a, &mut b)
            })
            .collect();
        assert!(ts.iter().any(|t| t.abs() < 4.5), "{ts:?}");
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_dir, file, path) = file();
        file.add(Token::create("a", vec![], vec![], None).0).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Tokens::read(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
