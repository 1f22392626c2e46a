//! TLS with certificates of an authority made here: who is trusted, which versions
//! are spoken, what a wrong file is told, and a new certificate without a restart.

use crate::common::Running;
use annals_server::{
    Config, ConfigError,
    client::{ConnectOptions, connect_with},
    listen::Tls,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// An authority, and a folder to put files into.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// A certificate for a name with its key, as files.
    fn issue(&self, name: &str, cert: &str, key: &str) {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        fs::write(self.file(cert), certificate.pem()).unwrap();
        fs::write(self.file(key), pair.serialize_pem()).unwrap();
    }
    fn config(&self) -> Config {
        Config {
            tls_cert: Some(self.file("cert.pem")),
            tls_key: Some(self.file("key.pem")),
            ..Config::default()
        }
    }
    fn trusting(&self, address: SocketAddr) -> Result<u64, String> {
        let options =
            ConnectOptions { root_certificates: Some(self.file("ca.pem")), ..ConnectOptions::default() };
        let url = format!("https://localhost:{}/v1/db/orders", address.port());
        let conn = connect_with(&url, options).map_err(|e| format!("{}: {e}", e.code()))?;
        Ok(conn.db().map_err(|e| e.to_string())?.t().0)
    }
}

#[test]
fn those_who_trust_the_authority_are_served_and_others_refuse() {
    let authority = Authority::new();
    authority.issue("localhost", "cert.pem", "key.pem");
    let s = Running::with(authority.config());
    assert_eq!(authority.trusting(s.address), Ok(1));
    let stranger = Authority::new().trusting(s.address).unwrap_err();
    assert!(stranger.starts_with("client/unreachable") && stranger.contains("certificate"), "{stranger}");
    // The name in the certificate is not that of the address.
    let options =
        ConnectOptions { root_certificates: Some(authority.file("ca.pem")), ..ConnectOptions::default() };
    let e =
        connect_with(&format!("https://127.0.0.1:{}/v1/db/orders", s.address.port()), options).unwrap_err();
    assert!(e.to_string().contains("not valid for"), "{e}");
    // Plain HTTP is not answered on this port.
    let mut plain = s.connect();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&bytes));
    // A client's own file of authorities that is none.
    fs::write(authority.file("empty.pem"), "").unwrap();
    let options =
        ConnectOptions { root_certificates: Some(authority.file("empty.pem")), ..ConnectOptions::default() };
    assert_eq!(
        connect_with("https://localhost/v1/db/orders", options).unwrap_err().code(),
        "client/certificates"
    );
}

#[test]
fn what_is_older_than_1_2_is_not_spoken() {
    let authority = Authority::new();
    authority.issue("localhost", "cert.pem", "key.pem");
    let s = Running::with(authority.config());
    for (name, version) in [("SSL 3.0", [3, 0]), ("TLS 1.0", [3, 1]), ("TLS 1.1", [3, 2])] {
        let mut hello = version.to_vec();
        hello.extend([7; 32]); // random
        hello.push(0); // no session
        hello.extend([0, 4, 0x00, 0x2f, 0x00, 0x35]); // RSA with AES-128 and AES-256
        hello.extend([1, 0]); // no compression
        let mut record = vec![22, version[0], version[1]];
        record.extend(u16::try_from(hello.len() + 4).unwrap().to_be_bytes());
        record.extend([1, 0]);
        record.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
        record.extend(hello);
        let mut stream = s.connect();
        stream.write_all(&record).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        // An alert, fatal; no ServerHello.
        assert!(answer.len() >= 7 && answer[0] == 21 && answer[5] == 2, "{name}: {answer:?}");
    }
    assert_eq!(authority.trusting(s.address), Ok(1));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    authority.issue("localhost", "cert.pem", "key.pem");
    authority.issue("localhost", "other.pem", "other-key.pem");
    fs::write(authority.file("junk.pem"), "hello").unwrap();
    fs::write(authority.file("empty.pem"), "").unwrap();
    let told = |cert: &str, key: &str| {
        let config = Config {
            tls_cert: Some(authority.file(cert)),
            tls_key: Some(authority.file(key)),
            ..Config::default()
        };
        match Tls::read(&config).map(|_| ()) {
            Err(ConfigError::File { what, path, message }) => {
                assert!(!message.is_empty());
                (what, path.file_name().and_then(|n| n.to_str()).unwrap().to_owned(), message)
            }
            other => panic!("{other:?}"),
        }
    };
    for (cert, key, what, file) in [
        ("none.pem", "key.pem", "certificate", "none.pem"),
        ("junk.pem", "key.pem", "certificate", "junk.pem"),
        ("empty.pem", "key.pem", "certificate", "empty.pem"),
        ("key.pem", "key.pem", "certificate", "key.pem"),
        ("cert.pem", "none.pem", "key", "none.pem"),
        ("cert.pem", "junk.pem", "key", "junk.pem"),
        ("cert.pem", "cert.pem", "key", "cert.pem"),
    ] {
        let (named, path, _) = told(cert, key);
        assert_eq!((named, path.as_str()), (what, file), "{cert} {key}");
    }
    let (what, file, why) = told("cert.pem", "other-key.pem");
    assert_eq!(
        (what, file.as_str(), why.as_str()),
        ("key", "other-key.pem", "it is not the key of the certificate")
    );
    let half = Config { tls_cert: Some(authority.file("cert.pem")), ..Config::default() };
    assert!(matches!(half.check(), Err(ConfigError::HalfTls)));
}

#[test]
fn a_new_certificate_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let (old, new) = (Authority::new(), Authority::new());
    old.issue("localhost", "cert.pem", "key.pem");
    let s = Running::with(old.config());
    assert_eq!(old.trusting(s.address), Ok(1));
    new.issue("localhost", "cert.pem", "key.pem");
    let copy = |from: &Path, name: &str| {
        fs::copy(from, old.file(name)).unwrap();
    };
    copy(&new.file("cert.pem"), "cert.pem");
    copy(&new.file("key.pem"), "key.pem");
    s.server.reload();
    let until = Instant::now() + Duration::from_secs(10);
    while new.trusting(s.address) != Ok(1) {
        assert!(Instant::now() < until, "{:?}", new.trusting(s.address));
    }
    assert!(old.trusting(s.address).is_err());
    fs::write(old.file("key.pem"), "hello").unwrap();
    s.server.reload();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(new.trusting(s.address), Ok(1));
}
