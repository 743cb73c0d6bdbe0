//! git's daemon ↔ git: clone, push, fetch.

use std::path::Path;

use crate::common::{Done, Running, Sandbox, Wrapped, net::free_port, tools};
use crate::trees;

struct Git {
    sandbox: Sandbox,
    port: u16,
}

impl Git {
    /// A bare repository with one commit, and the daemon that serves it.
    fn new() -> (Self, Running) {
        let sandbox = Sandbox::new();
        let git = Git {
            sandbox,
            port: free_port(),
        };
        for name in ["base", "first"] {
            std::fs::create_dir(git.sandbox.path(name)).expect("a directory");
        }
        git.local(
            "",
            &["init", "-q", "--bare", "-b", "main", "base/project.git"],
        );
        git.local("", &["init", "-q", "-b", "main", "first"]);
        trees::plant(&git.sandbox.path("first"), 51, 200);
        git.commit("first");
        let url = git.url();
        git.local("first", &["remote", "add", "origin", &url]);
        let daemon = git.command(true).args([
            "daemon",
            "--export-all",
            "--enable=receive-pack",
            "--informative-errors",
            "--verbose",
            "--reuseaddr",
            "--listen=127.0.0.1",
        ]);
        let base = git.sandbox.path("base").display().to_string();
        let daemon = daemon.args([
            format!("--port={}", git.port),
            format!("--base-path={base}"),
        ]);
        let mut daemon = daemon.arg(base).spawn();
        daemon.wait_stderr("Ready to rumble");
        (git, daemon)
    }

    fn url(&self) -> String {
        format!("git://127.0.0.1:{}/project.git", self.port)
    }

    /// git with nobody's configuration.
    fn command(&self, wrapped: bool) -> Wrapped {
        let git = tools::need("git");
        let command = if wrapped {
            self.sandbox.wrap(git)
        } else {
            self.sandbox.plain(git)
        };
        let command = command
            .env("HOME", self.sandbox.path(""))
            .env("GIT_CONFIG_NOSYSTEM", "1");
        ["AUTHOR", "COMMITTER"]
            .iter()
            .fold(command, |command, role| {
                command
                    .env(&format!("GIT_{role}_NAME"), "A Tester")
                    .env(&format!("GIT_{role}_EMAIL"), "tester@example.org")
            })
    }

    fn in_dir(&self, command: Wrapped, dir: &str, args: &[&str]) -> Done {
        command
            .arg("-C")
            .arg(self.sandbox.path(dir))
            .args(args)
            .run()
    }

    fn local(&self, dir: &str, args: &[&str]) -> Done {
        self.in_dir(self.command(false), dir, args).success()
    }

    fn remote(&self, dir: &str, args: &[&str]) -> Done {
        self.in_dir(self.command(true), dir, args)
    }

    fn commit(&self, dir: &str) {
        self.local(dir, &["add", "-A"]);
        self.local(dir, &["commit", "-q", "-m", "a change"]);
    }

    fn head(&self, dir: &str) -> String {
        self.local(dir, &["rev-parse", "HEAD"]).text()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.sandbox.path(name)
    }
}

#[test]
fn push_clone_and_fetch() {
    let (git, _daemon) = Git::new();
    git.remote("first", &["push", "-q", "origin", "main"])
        .success();
    assert_eq!(git.head("first"), git.head("base/project.git"));

    git.remote("", &["clone", "-q", &git.url(), "second"])
        .success();
    trees::assert_same(&git.path("first"), &git.path("second"));
    git.local("second", &["fsck", "--full", "--strict"]);

    // A change by the second, fetched by the first.
    let file = git.path("second/dir-1/new");
    tools::random_file(Path::new(&file), 5 << 20, 52);
    git.commit("second");
    git.remote("second", &["push", "-q"]).success();
    git.remote("first", &["pull", "-q", "--ff-only", "origin", "main"])
        .success();
    assert_eq!(git.head("first"), git.head("second"));
    trees::assert_same(&git.path("first"), &git.path("second"));

    // A branch, a tag, and a shallow clone of an older protocol.
    git.local("first", &["tag", "v1"]);
    git.remote("first", &["push", "-q", "origin", "main:side", "v1"])
        .success();
    let refs = git
        .remote("second", &["ls-remote", "--refs"])
        .success()
        .text();
    for name in ["refs/heads/main", "refs/heads/side", "refs/tags/v1"] {
        assert!(refs.contains(name), "{refs}");
    }
    let shallow = [
        "-c",
        "protocol.version=0",
        "clone",
        "-q",
        "--depth",
        "1",
        &git.url(),
        "third",
    ];
    git.remote("", &shallow).success();
    trees::assert_same(&git.path("first"), &git.path("third"));
    assert_eq!(
        git.local("third", &["rev-list", "--count", "HEAD"]).text(),
        "1\n"
    );
}

#[test]
fn refusals() {
    let (git, daemon) = Git::new();
    let missing = git.url().replace("project", "missing");
    git.remote("", &["clone", "-q", &missing, "nothing"])
        .exits(128)
        .stderr_has("no such repository");
    // A push that is not a fast-forward is refused by the server's side of the protocol.
    git.remote("first", &["push", "-q", "origin", "main"])
        .success();
    git.local("first", &["commit", "-q", "--amend", "-m", "another"]);
    git.remote("first", &["push", "-q", "origin", "main"])
        .exits(1)
        .stderr_has("[rejected]");
    daemon.stop();
    git.remote("", &["clone", "-q", &git.url(), "nothing"])
        .exits(128)
        .stderr_has("Connection refused");
}
