//! The differential harness: native Linux TCP is the oracle.
//!
//! Every `*.c` beside this file is a small program about one behaviour that prints a transcript. It runs once
//! natively and once under quicwrap; the transcripts and the exit statuses must be equal. Marks in a probe's
//! first comment lines (see `marks.rs`) name known gaps and special ways to build and run it.

#[path = "../common/mod.rs"]
mod common;
mod marks;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Done, Sandbox, Wrapped, command::options_for_all, native, tools};
use libtest_mimic::{Arguments, Failed, Trial};
use marks::{Agreement, Marks};

/// A probe that takes longer has hung: natively none needs more than a few seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Gives a network namespace a loopback with a link-local address, and 10.9.9.0/24, where nobody answers and
/// nothing is refused: packets leave through lo, come back, are for no local address, and are dropped without
/// a word. The kernel adds an IPv6 address's route by and by.
const SILENT_NET: &str = "ip link set lo up && ip addr add 10.9.9.1/32 dev lo \
    && ip addr add fe80::1/64 dev lo nodad \
    && ip route add 10.9.9.0/24 dev lo src 10.9.9.1 \
    && until ip -6 route show table local | grep -q fe80::1; do sleep 0.01; done \
    && exec \"$@\"";

fn main() {
    let mut arguments = Arguments::from_args();
    // Probes mostly wait: more of them at a time than there are processors.
    arguments.test_threads.get_or_insert(4);
    let trials = sources().into_iter().map(|source| {
        let name = stem(&source);
        Trial::test(name, move || {
            Probe::new(&source).check().map_err(Failed::from)
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn directory() -> PathBuf {
    // Where this file is, as the compiler was told; relative paths start at the crate's root, as for cargo test.
    Path::new(file!())
        .parent()
        .expect("a directory")
        .canonicalize()
        .expect("the probes' sources")
}

fn sources() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory()).expect("the probes' sources");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .collect();
    found.sort();
    found
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

struct Probe {
    source: PathBuf,
    marks: Marks,
    sandbox: Sandbox,
    program: PathBuf,
}

impl Probe {
    fn new(source: &Path) -> Self {
        let sandbox = Sandbox::new();
        let program = sandbox.path("probe");
        let text = std::fs::read_to_string(source).expect("the probe's source");
        Probe {
            source: source.to_owned(),
            marks: Marks::parse(&text),
            sandbox,
            program,
        }
    }

    /// Ok when the probe shows what its marks promise, else a report for the reader.
    fn check(&self) -> Result<(), String> {
        self.compile()?;
        let plain = transcript(self.command(self.sandbox.plain(&self.program)).run());
        must_succeed(&plain)?;
        let wrapped = transcript(self.command(self.sandbox.wrap(&self.program)).run());
        match &self.marks.agreement {
            Agreement::Equal => self.must_equal(&plain.0, &wrapped),
            // Unwrapped twice, a gap cannot show: the probe must at least be deterministic.
            Agreement::Gap(_) if native() => self.must_equal(&plain.0, &wrapped),
            // Other carriers have fewer of them.
            Agreement::Gap(_) if !options_for_all().is_empty() => Ok(()),
            Agreement::Gap(heading) => gap(heading, &plain.0, &wrapped.0),
            Agreement::Expect(_) if native() => Ok(()),
            Agreement::Expect(file) => {
                let path = directory().join(file);
                let expected = std::fs::read_to_string(&path)
                    .map_err(|e| format!("{}: {e}", path.display()))?;
                self.must_equal(&expected, &wrapped)
            }
        }
    }

    fn compile(&self) -> Result<(), String> {
        let mut cc = Command::new(tools::need("cc"));
        cc.args(["-O1", "-Wall", "-Werror", "-pthread", "-I"])
            .arg(directory());
        cc.args(&self.marks.compiler_flags)
            .arg("-o")
            .arg(&self.program)
            .arg(&self.source);
        let result = cc.output().map_err(|e| format!("cc: {e}"))?;
        let report = String::from_utf8_lossy(&result.stderr);
        if result.status.success() {
            Ok(())
        } else {
            Err(format!("does not compile:\n{report}"))
        }
    }

    fn command(&self, command: Wrapped) -> Wrapped {
        let mut command = command.args(&self.marks.args).timeout(LIMIT);
        if self.marks.silent_net {
            tools::need("ip");
            command = command.through(["unshare", "-n", "sh", "-c", SILENT_NET, "sh"]);
        }
        if self.marks.as_user {
            command.user()
        } else {
            command
        }
    }

    fn must_equal(&self, expected: &str, (got, stderr): &(String, String)) -> Result<(), String> {
        if expected == got {
            return Ok(());
        }
        let (a, b) = (
            self.sandbox.file("native", expected),
            self.sandbox.file("wrapped", got),
        );
        let diff = Command::new(tools::need("diff"))
            .args(["-u", "--label", "native", "--label", "wrapped"])
            .args([a, b])
            .output();
        let diff = diff.map_err(|e| format!("diff: {e}"))?;
        let text = String::from_utf8_lossy(&diff.stdout);
        Err(format!(
            "the transcripts differ:\n{text}--- standard error, wrapped\n{stderr}"
        ))
    }
}

/// Standard output with the exit status as last line, and standard error.
fn transcript(done: Done) -> (String, String) {
    (
        format!("{}[exit status {}]\n", done.text(), done.shell_status()),
        done.stderr,
    )
}

/// The oracle itself must be sound: the probe came to its end, and nothing it waited for failed to happen.
fn must_succeed((text, stderr): &(String, String)) -> Result<(), String> {
    let fine = text.ends_with("[exit status 0]\n") && !text.contains("never became");
    if fine {
        Ok(())
    } else {
        Err(format!("failed natively:\n{text}{stderr}"))
    }
}

/// A known gap must be described, and must still be there.
fn gap(heading: &str, native: &str, wrapped: &str) -> Result<(), String> {
    let page = directory().join("../../docs/limitations.md");
    let text = std::fs::read_to_string(&page).map_err(|e| format!("docs/limitations.md: {e}"))?;
    let described = text
        .lines()
        .any(|l| l.starts_with('#') && l.trim_start_matches('#').trim() == heading);
    if !described {
        return Err(format!(
            "docs/limitations.md has no heading {heading:?}, which this probe names as its gap"
        ));
    }
    if native == wrapped {
        return Err(format!(
            "the known gap {heading:?} now agrees: remove the mark and the page's entry"
        ));
    }
    Ok(())
}
