//! The programs the tests use, and small files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Programs and the Debian package each comes from, as `tests/install-packages.sh` installs them.
const PACKAGES: &str = include_str!("../packages.txt");

/// Path of a program, or a failure that says what to install. A test is never skipped for want of a program.
pub(crate) fn need(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(system)
        .map(|d| d.join(program))
        .find(|p| p.is_file());
    found.unwrap_or_else(|| {
        let package = PACKAGES
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == program)
            .map_or("?", |(_, package)| package);
        panic!("{program} is not installed: apt-get install {package} (or run tests/install-packages.sh tests/packages.txt)")
    })
}

/// A program of the newest PostgreSQL that is installed; Debian keeps the servers of several versions out of PATH.
pub(crate) fn postgresql(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let path = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{program}"));
            path.is_file().then_some((version, path))
        })
        .max();
    let (_, path) = newest.unwrap_or_else(|| {
        panic!("{program} is not installed: apt-get install postgresql (or run tests/install-packages.sh tests/packages.txt)")
    });
    path
}

/// The Python interpreter itself rather than a version manager's script of that name.
pub(crate) fn python() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let system = PathBuf::from("/usr/bin/python3");
        if system.is_file() {
            return system;
        }
        let asked = Command::new(need("python3"))
            .args(["-c", "import sys; print(sys.executable)"])
            .output();
        let text = String::from_utf8(asked.expect("python3 runs").stdout).expect("a path");
        PathBuf::from(text.trim())
    })
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(file: &Path) -> String {
    let sum = Command::new(need("sha256sum"))
        .arg(file)
        .output()
        .expect("sha256sum runs");
    assert!(
        sum.status.success(),
        "sha256sum {}: {}",
        file.display(),
        String::from_utf8_lossy(&sum.stderr)
    );
    let text = String::from_utf8(sum.stdout).expect("hex");
    text.split_whitespace().next().expect("a sum").to_owned()
}

/// Fills a file with `size` bytes that do not repeat and do not compress, the same ones for the same seed.
pub(crate) fn random_file(path: &Path, size: usize, seed: u64) {
    std::fs::write(path, random_bytes(size, seed))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// xorshift64*: reproducible, and fast enough for 200 MB in an unoptimised build.
pub(crate) fn random_bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
