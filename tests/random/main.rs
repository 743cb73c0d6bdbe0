//! The random differential test: sequences of socket calls in two processes, natively and wrapped, compared step by
//! step. A difference is shrunk to a minimal program and printed.
//!
//! `QUICWRAP_TEST_RANDOM=N` runs N programs instead of a few dozen. What was found once is kept in `found/`, one
//! program a file, and run every time.

#[path = "../common/mod.rs"]
mod common;
mod program;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Sandbox, tools};
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestRunner};

/// Programs drawn when nothing else is asked for: some ten seconds.
const FEW: u32 = 48;

/// No program waits longer: each step has a deadline of a few seconds, and only a difference uses it up.
const LIMIT: Duration = Duration::from_secs(300);

/// The same few programs for everybody: a failure in CI is a failure at home.
const SEED: u64 = 1;

/// Shrinking ends after so many milliseconds with what it has.
const SHRINK_MS: u32 = 40_000;

/// A place to run programs in.
struct Bench {
    sandbox: Sandbox,
    interpreter: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let interpreter = sandbox.path("interpreter");
        let mut cc = Command::new(tools::need("cc"));
        cc.args(["-O1", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(&interpreter)
            .arg(here().join("interpreter.c"));
        let built = cc.output().expect("cc runs");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        Bench {
            sandbox,
            interpreter,
        }
    }

    /// The transcript on TCP, and the wrapped one, whose waits are led by the first.
    fn both(&self, program: &str) -> (String, String) {
        let source = self.sandbox.file("program", program);
        let native = self
            .sandbox
            .plain(&self.interpreter)
            .arg(&source)
            .timeout(LIMIT)
            .run()
            .success()
            .text();
        let expected = self.sandbox.file("expected", &native);
        let wrapped = self
            .sandbox
            .wrap(&self.interpreter)
            .args([&source, &expected])
            .timeout(LIMIT)
            .run()
            .success()
            .text();
        (native, wrapped)
    }

    /// Ok when the transcripts agree. A difference must show twice: the oracle, too, has its moments under load.
    fn check(&self, program: &str) -> Result<(), String> {
        let (native, wrapped) = self.both(program);
        if native == wrapped {
            return Ok(());
        }
        let (native, wrapped) = self.both(program);
        if native == wrapped {
            return Ok(());
        }
        Err(report(&native, &wrapped))
    }
}

/// The transcripts up to the first difference, and that.
fn report(native: &str, wrapped: &str) -> String {
    let mut text = String::new();
    for (a, b) in native.lines().zip(wrapped.lines()) {
        if a != b {
            let _ = writeln!(text, "native:  {a}\nwrapped: {b}");
            return text;
        }
        let _ = writeln!(text, "         {a}");
    }
    text + "one transcript is longer"
}

fn here() -> PathBuf {
    Path::new(file!())
        .parent()
        .expect("a directory")
        .canonicalize()
        .expect("the test's sources")
}

fn config() -> Config {
    let asked = std::env::var("QUICWRAP_TEST_RANDOM").ok();
    let cases = asked.as_deref().map(|n| n.parse().expect("a number"));
    Config {
        cases: cases.unwrap_or(FEW),
        // A long run is to see new programs; a short one the same for everybody.
        rng_seed: if cases.is_some() {
            RngSeed::Random
        } else {
            RngSeed::Fixed(SEED)
        },
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: None,
        max_shrink_iters: 400,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    }
}

#[test]
fn random_programs_see_the_same() {
    let bench = Bench::new();
    let mut runner = TestRunner::new(config());
    let outcome = runner.run(&program::program(), |program| {
        bench
            .check(&program.to_string())
            .map_err(TestCaseError::fail)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn programs_found_before_see_the_same() {
    let bench = Bench::new();
    let entries = std::fs::read_dir(here().join("found")).expect("programs found before");
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let program = std::fs::read_to_string(&path).expect("a program");
        if let Err(difference) = bench.check(&program) {
            panic!("{}\n{difference}", path.display());
        }
    }
}
