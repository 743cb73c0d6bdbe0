//! rsync's daemon ↔ rsync, both directions.

use std::path::Path;

use crate::common::{Done, Running, Sandbox, net::free_port, tools};
use crate::trees;

struct Rsync {
    sandbox: Sandbox,
    port: u16,
}

impl Rsync {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let port = free_port();
        let dir = sandbox.path("").display().to_string();
        for name in ["module", "local"] {
            std::fs::create_dir(sandbox.path(name)).expect("a directory");
        }
        sandbox.file(
            "rsyncd.conf",
            format!(
                "use chroot = no\nmunge symlinks = no\nport = {port}\naddress = 127.0.0.1\nlog file = {dir}/rsyncd.log\n\
                 pid file = {dir}/rsyncd.pid\n[module]\npath = {dir}/module\nread only = no\n\
                 uid = {uid}\nlist = yes\ncomment = a module\n[closed]\npath = {dir}/module\nhosts deny = *\n",
                uid = nix::unistd::Uid::effective()
            ),
        );
        Rsync { sandbox, port }
    }

    fn start(&self) -> Running {
        let rsync = self.sandbox.wrap(tools::need("rsync"));
        let conf = self.sandbox.path("rsyncd.conf");
        let rsync = rsync
            .args(["--daemon", "--no-detach", "--config"])
            .arg(conf);
        let mut server = rsync.spawn();
        server.wait_listening(self.port);
        crate::wait_accepting(&self.sandbox, self.port);
        server
    }

    fn url(&self, path: &str) -> String {
        format!("rsync://127.0.0.1:{}/{path}", self.port)
    }

    fn rsync(&self, args: &[&str]) -> Done {
        let rsync = self.sandbox.wrap(tools::need("rsync"));
        rsync.args(args).run()
    }

    fn local(&self) -> String {
        // With the slash rsync means what is in the directory.
        format!("{}/", self.sandbox.path("local").display())
    }
}

#[test]
fn list_of_modules() {
    let rsync = Rsync::new();
    let _server = rsync.start();
    let list = rsync.rsync(&[&rsync.url("")]).success().text();
    assert!(
        list.contains("module") && list.contains("a module"),
        "{list}"
    );
    rsync
        .rsync(&["-r", &rsync.url("closed/"), &rsync.local()])
        .exits(5)
        .stderr_has("access denied to closed from localhost (127.0.0.1)");
}

/// Up, changed and up again, then down: the second time rsync sends differences alone.
#[test]
fn there_and_back() {
    let rsync = Rsync::new();
    let _server = rsync.start();
    let [local, module, back] = ["local", "module", "back"].map(|d| rsync.sandbox.path(d));
    trees::plant(&local, 31, 200);
    let up = [
        "-a",
        "--delete",
        "--stats",
        &rsync.local(),
        &rsync.url("module/"),
    ];
    rsync.rsync(&up).success();
    trees::assert_same(&local, &module);

    let large = local.join("dir-0/deep/file 3000000");
    let mut bytes = std::fs::read(&large).expect("the large file");
    bytes[1_500_000..1_500_010].fill(0);
    std::fs::write(&large, bytes).expect("the large file");
    std::fs::remove_file(local.join("dir-0/small-3")).expect("a small file");
    // Whatever the clock's grain: by contents.
    let again = rsync.rsync(&[&up[..], &["--checksum"]].concat()).success();
    trees::assert_same(&local, &module);
    let matched = figure(&again.text(), "Matched data:");
    assert!(matched > 2_900_000, "{}", again.text());

    let back_path = back.display().to_string();
    rsync
        .rsync(&["-a", "-z", &rsync.url("module/"), &back_path])
        .success();
    trees::assert_same(&local, &back);
    let idle = rsync.rsync(&["-a", "--itemize-changes", &rsync.url("module/"), &back_path]);
    assert_eq!(idle.success().text(), "");
}

fn figure(report: &str, name: &str) -> u64 {
    let line = report.lines().find_map(|l| l.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name:?} in {report}"));
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Several clients at once: the daemon forks for each.
#[test]
fn several_at_once() {
    let rsync = Rsync::new();
    let _server = rsync.start();
    trees::plant(&rsync.sandbox.path("module"), 41, 200);
    let to = |i: usize| rsync.sandbox.path(&format!("to-{i}"));
    let start = |i: usize| {
        let client = rsync.sandbox.wrap(tools::need("rsync"));
        client
            .args(["-a", &rsync.url("module/")])
            .arg(to(i))
            .spawn()
    };
    let clients: Vec<Running> = (0..4).map(start).collect();
    for (i, client) in clients.into_iter().enumerate() {
        client.finish().success();
        trees::assert_same(&rsync.sandbox.path("module"), Path::new(&to(i)));
    }
}
