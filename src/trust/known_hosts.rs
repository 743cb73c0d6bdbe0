//! The keys of the peers this user has met, pinned at first contact as ssh does.
//!
//! One line a peer: `10.0.0.5:443 sha256:BASE64`, the SHA-256 of the SubjectPublicKeyInfo of the
//! certificate it showed (the form of RFC 7469 section 2.4: the key is pinned, so a renewed
//! certificate of the same key is not a stranger). A host that has shown its key at one port is no
//! stranger with that key at a port that the system may have chosen for it: that is recorded without
//! a word, and not for ever, so that FTP's data connections and their like fill neither the terminal
//! nor the file. IPv6 is written `[2001:db8::5]:443`. Blank lines
//! and lines that start with `#` are kept as they are. Two lines for one peer mean either key.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::state_dir::FileLock;

/// Why known_hosts cannot say whether a peer is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KnownHostsError {
    /// The file is there and cannot be read.
    #[error(
        "cannot read {}: {source}; check its permissions, or name another file with --known-hosts",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// A key that was met cannot be recorded, so the next contact would be a first contact again.
    #[error(
        "cannot record the key of {peer} in {}: {source}; make the file and its directory writable, \
         name another file with --known-hosts, or give the peer's certificate with --server-cert",
        path.display()
    )]
    Write {
        /// Whose key it is.
        peer: SocketAddr,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// A line about the peer that was asked for cannot be understood.
    #[error(
        "{}:{line}: the line for {peer} is not `HOST:PORT sha256:BASE64`; correct it, or remove it \
         to record the key again at the next contact",
        path.display()
    )]
    Garbled {
        /// The peer it is about.
        peer: SocketAddr,
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
}

/// The SHA-256 of a public key or a certificate, written `sha256:BASE64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes DER bytes.
    pub(crate) fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }
}

/// Written with padding, as base64(1) does; read with or without it, as ssh(1) prints it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", BASE64.encode(self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let encoded = text.strip_prefix("sha256:").ok_or(())?;
        let bytes = BASE64.decode(encoded).map_err(drop)?;
        bytes.try_into().map(Self).map_err(drop)
    }
}

/// First port that Linux chooses by itself (ip(7), ip_local_port_range).
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// Lines with one key for one host after which its other ephemeral ports get none.
const LINES_OF_HOST: usize = 64;

/// What the file says about the key a peer showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This key is recorded for this peer; or so often for its host, at ephemeral ports as this one is,
    /// that another line would say nothing.
    Known,
    /// No key is recorded for this peer.
    Absent,
    /// Nor is any, but this one is for its host, and the port is an ephemeral one.
    Familiar,
    /// Another key is recorded for this peer.
    Changed {
        /// The recorded key.
        recorded: Fingerprint,
        /// The line it is on, from 1.
        line: usize,
    },
}

/// A known_hosts file, which need not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct KnownHosts {
    path: PathBuf,
}

impl KnownHosts {
    /// Names the file; nothing is read or made.
    pub(crate) fn new(path: PathBuf) -> Self {
        // The lock lies beside the file and rename(2) replaces a symbolic link, not its target:
        // programs that reach one file by several names have to meet.
        let path = fs::canonicalize(&path).unwrap_or(path);
        Self { path }
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file can be read, if it is there.
    pub(crate) fn check(&self) -> Result<(), KnownHostsError> {
        self.read().map(drop)
    }

    /// What is recorded for `peer`, compared with the key it shows now. Takes no lock: the file is
    /// only ever replaced whole.
    pub(crate) fn lookup(
        &self,
        peer: SocketAddr,
        key: &Fingerprint,
    ) -> Result<Verdict, KnownHostsError> {
        self.judge(&self.read()?.0, peer, key)
    }

    /// Records the key of a peer that is not in the file, and returns what the file said before:
    /// after `Absent` and `Familiar` the line has been added, otherwise nothing was written. The answer may differ
    /// from an earlier `lookup`, when another process met the same peer in between.
    pub(crate) fn record(
        &self,
        peer: SocketAddr,
        key: &Fingerprint,
    ) -> Result<Verdict, KnownHostsError> {
        let refused = |source| {
            let path = self.path.clone();
            KnownHostsError::Write { peer, path, source }
        };
        let lock = FileLock::acquire(&self.path).map_err(refused)?;
        let (mut contents, mode) = self.read()?;
        let verdict = self.judge(&contents, peer, key)?;
        if matches!(verdict, Verdict::Absent | Verdict::Familiar) {
            // Editors leave files without a final newline.
            if contents.last().is_some_and(|&byte| byte != b'\n') {
                contents.push(b'\n');
            }
            contents.extend_from_slice(format!("{} {key}\n", canonical(peer)).as_bytes());
            lock.replace(&contents, mode).map_err(refused)?;
        }
        Ok(verdict)
    }

    /// The contents and the mode. Only a regular file will do: replacing `/dev/null` would break
    /// the machine.
    fn read(&self) -> Result<(Vec<u8>, u32), KnownHostsError> {
        let read = || match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => {
                Ok((fs::read(&self.path)?, metadata.mode() & 0o777))
            }
            Ok(_) => Err(io::Error::other("not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((Vec::new(), 0o600)),
            Err(error) => Err(error),
        };
        read().map_err(|source| {
            let path = self.path.clone();
            KnownHostsError::Read { path, source }
        })
    }

    /// What `contents` say, instead of the file's.
    ///
    /// # Errors
    /// A line about the peer cannot be understood.
    pub(crate) fn judge(
        &self,
        contents: &[u8],
        peer: SocketAddr,
        key: &Fingerprint,
    ) -> Result<Verdict, KnownHostsError> {
        let peer = canonical(peer);
        let wanted = peer.to_string();
        let mut lines_of_host = 0;
        let mut verdict = Verdict::Absent;
        for (number, line) in contents.split(|&byte| byte == b'\n').enumerate() {
            let line_number = number + 1;
            match parse(&String::from_utf8_lossy(line)) {
                Line::Nothing => {}
                Line::Pin(host, recorded) if host == wanted => {
                    if recorded == *key {
                        return Ok(Verdict::Known);
                    }
                    if verdict == Verdict::Absent {
                        verdict = Verdict::Changed {
                            recorded,
                            line: line_number,
                        };
                    }
                }
                Line::Pin(host, recorded) => {
                    let same_host = |other: SocketAddr| other.ip() == peer.ip();
                    let counts = recorded == *key && host.parse().is_ok_and(same_host);
                    lines_of_host += usize::from(counts);
                }
                Line::Garbled(host) if host == wanted => {
                    let path = self.path.clone();
                    return Err(KnownHostsError::Garbled {
                        peer,
                        path,
                        line: line_number,
                    });
                }
                Line::Garbled(_) => tracing::warn!(
                    "{}:{line_number}: not `HOST:PORT sha256:BASE64`, ignored; correct or remove it",
                    self.path.display()
                ),
            }
        }
        let ephemeral = peer.port() >= FIRST_EPHEMERAL_PORT;
        Ok(match (verdict, lines_of_host) {
            (Verdict::Absent, 1..LINES_OF_HOST) if ephemeral => Verdict::Familiar,
            (Verdict::Absent, LINES_OF_HOST..) if ephemeral => Verdict::Known,
            (verdict, _) => verdict,
        })
    }
}

/// One line, with the host in its canonical spelling.
enum Line {
    Nothing,
    Pin(String, Fingerprint),
    Garbled(String),
}

fn parse(line: &str) -> Line {
    let mut words = line.split_whitespace();
    let host = match words.next() {
        None => return Line::Nothing,
        Some(word) if word.starts_with('#') => return Line::Nothing,
        Some(word) => host_name(word),
    };
    let key = words.next().map(Fingerprint::from_str);
    let trailing = words.next().is_some_and(|word| !word.starts_with('#'));
    match (host, key) {
        (Ok(host), Some(Ok(key))) if !trailing => Line::Pin(host, key),
        (Ok(host) | Err(host), _) => Line::Garbled(host),
    }
}

/// The canonical spelling of `HOST:PORT`: the one `SocketAddr` prints, where it is an address.
/// `Err` holds what is not `HOST:PORT` at all.
fn host_name(word: &str) -> Result<String, String> {
    if let Ok(address) = word.parse::<SocketAddr>() {
        return Ok(canonical(address).to_string());
    }
    let well_formed = word
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if well_formed {
        Ok(word.to_lowercase())
    } else {
        Err(word.to_owned())
    }
}

/// A v4-mapped address names the same peer as the IPv4 address in it (RFC 4291 section 2.5.5.2).
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(peer.ip().to_canonical(), peer.port())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn file_with(contents: &str) -> (tempfile::TempDir, KnownHosts) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("known_hosts");
        fs::write(&path, contents).unwrap();
        (root, KnownHosts::new(path))
    }

    #[test]
    fn fingerprint_as_base64_prints_it() {
        // printf '' | openssl dgst -sha256 -binary | base64
        let text = "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(Fingerprint::of(b"").to_string(), text);
        assert_eq!(text.parse(), Ok(Fingerprint::of(b"")));
        assert_eq!(text.trim_end_matches('=').parse(), Ok(Fingerprint::of(b"")));
        for wrong in ["", "sha256:", "sha256:AAAA", "md5:47DE", "sha256:****"] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_met_at_one_port_is_no_stranger_at_an_ephemeral_one() {
        let (_root, hosts) = file_with("");
        let (mine, other) = (Fingerprint::of(b"mine"), Fingerprint::of(b"other"));
        hosts.record(addr("10.0.0.5:21"), &mine).unwrap();
        let lookup = |peer, key| hosts.lookup(addr(peer), key).unwrap();
        assert_eq!(lookup("10.0.0.5:50000", &mine), Verdict::Familiar);
        assert_eq!(lookup("10.0.0.5:50000", &other), Verdict::Absent);
        assert_eq!(lookup("10.0.0.6:50000", &mine), Verdict::Absent);
        assert_eq!(lookup("10.0.0.5:80", &mine), Verdict::Absent);
        hosts.record(addr("10.0.0.5:50000"), &mine).unwrap();
        let changed = lookup("10.0.0.5:50000", &other);
        assert!(matches!(changed, Verdict::Changed { .. }));
        for port in 40_000..40_100 {
            hosts
                .record(SocketAddr::new(addr("10.0.0.5:0").ip(), port), &mine)
                .unwrap();
        }
        let text = fs::read_to_string(hosts.path()).unwrap();
        assert_eq!(text.lines().count(), LINES_OF_HOST);
    }

    #[test]
    fn records_once_and_then_knows() {
        let root = tempfile::tempdir().unwrap();
        let hosts = KnownHosts::new(root.path().join("known_hosts"));
        let (peer, key, other) = (
            addr("10.0.0.5:443"),
            Fingerprint::of(b"a"),
            Fingerprint::of(b"b"),
        );
        assert_eq!(hosts.lookup(peer, &key).unwrap(), Verdict::Absent);
        assert!(!hosts.path().exists());
        assert_eq!(hosts.record(peer, &key).unwrap(), Verdict::Absent);
        assert_eq!(hosts.record(peer, &key).unwrap(), Verdict::Known);
        let changed = Verdict::Changed {
            recorded: key,
            line: 1,
        };
        assert_eq!(hosts.lookup(peer, &other).unwrap(), changed);
        assert_eq!(hosts.record(peer, &other).unwrap(), changed);
        assert_eq!(
            hosts.lookup(addr("10.0.0.5:444"), &other).unwrap(),
            Verdict::Absent
        );
        let text = fs::read_to_string(hosts.path()).unwrap();
        assert_eq!(text, format!("10.0.0.5:443 {key}\n"));
        assert_eq!(fs::metadata(hosts.path()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn spellings_of_one_peer() {
        let key = Fingerprint::of(b"a");
        let (_root, hosts) = file_with(&format!("[2001:db8:0::5]:443 {key}\n10.0.0.5:443 {key}"));
        for peer in ["[2001:db8::5]:443", "10.0.0.5:443", "[::ffff:10.0.0.5]:443"] {
            assert_eq!(
                hosts.lookup(addr(peer), &key).unwrap(),
                Verdict::Known,
                "{peer}"
            );
        }
        hosts.record(addr("[::1]:8"), &key).unwrap();
        let text = fs::read_to_string(hosts.path()).unwrap();
        assert!(
            text.ends_with(&format!("10.0.0.5:443 {key}\n[::1]:8 {key}\n")),
            "{text}"
        );
    }

    #[test]
    fn keeps_comments_blanks_mode_and_takes_either_of_two_keys() {
        let (a, b) = (Fingerprint::of(b"a"), Fingerprint::of(b"b"));
        let before =
            format!("# mine\n\n  \n1.2.3.4:5 {a}\n1.2.3.4:5 {b} # next year's\nhost:1 {a}\n");
        let (_root, hosts) = file_with(&before);
        fs::set_permissions(
            hosts.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .unwrap();
        assert_eq!(hosts.lookup(addr("1.2.3.4:5"), &b).unwrap(), Verdict::Known);
        let changed = Verdict::Changed {
            recorded: a,
            line: 4,
        };
        assert_eq!(
            hosts
                .lookup(addr("1.2.3.4:5"), &Fingerprint::of(b"c"))
                .unwrap(),
            changed
        );
        hosts.record(addr("1.2.3.4:6"), &a).unwrap();
        let after = fs::read_to_string(hosts.path()).unwrap();
        assert_eq!(after, format!("{before}1.2.3.4:6 {a}\n"));
        assert_eq!(fs::metadata(hosts.path()).unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_garbled_line_stops_only_its_own_host() {
        let key = Fingerprint::of(b"a");
        let (_root, hosts) = file_with(&format!(
            "1.1.1.1:1 sha256:half\nnonsense\n2.2.2.2:2\n3.3.3.3:3 {key} x\n4.4.4.4:4 {key}\n"
        ));
        assert_eq!(
            hosts.lookup(addr("4.4.4.4:4"), &key).unwrap(),
            Verdict::Known
        );
        for (peer, line) in [("1.1.1.1:1", 1), ("2.2.2.2:2", 3), ("3.3.3.3:3", 4)] {
            let error = hosts.lookup(addr(peer), &key).unwrap_err().to_string();
            assert!(error.contains(&format!("known_hosts:{line}: ")), "{error}");
            assert!(hosts.record(addr(peer), &key).is_err());
        }
        let (_root, hosts) = file_with("");
        fs::write(hosts.path(), b"\xff\xfe\x00\n").unwrap();
        hosts.record(addr("1.1.1.1:1"), &key).unwrap();
        assert!(
            fs::read(hosts.path())
                .unwrap()
                .starts_with(b"\xff\xfe\x00\n1.1.1.1:1 ")
        );
    }

    #[test]
    fn concurrent_writers_lose_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("known_hosts");
        std::thread::scope(|scope| {
            for writer in 0..8u16 {
                let path = path.clone();
                scope.spawn(move || {
                    for n in 0..10 {
                        // Every port is met by two writers.
                        let port = (writer / 2) * 10 + n + 1;
                        let peer = SocketAddr::from(([127, 0, 0, 1], port));
                        KnownHosts::new(path.clone())
                            .record(peer, &Fingerprint::of(b"a"))
                            .unwrap();
                    }
                });
            }
        });
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 40, "{text}");
        for port in 1..=40 {
            let line = format!("127.0.0.1:{port} {}", Fingerprint::of(b"a"));
            assert_eq!(text.lines().filter(|l| **l == line).count(), 1, "{line}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_file_and_follows_links() {
        let hosts = KnownHosts::new("/dev/null".into());
        assert!(
            hosts
                .check()
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
        let (root, hosts) = file_with("");
        let link = root.path().join("link");
        std::os::unix::fs::symlink(hosts.path(), &link).unwrap();
        let key = Fingerprint::of(b"a");
        KnownHosts::new(link.clone())
            .record(addr("1.1.1.1:1"), &key)
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            hosts.lookup(addr("1.1.1.1:1"), &key).unwrap(),
            Verdict::Known
        );
    }
}
