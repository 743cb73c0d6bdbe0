//! Network namespaces that a test makes for itself.

use std::process::Command;

use super::{native, tools};

/// Set for the copy of this test program that runs inside the namespace.
const INSIDE: &str = "IN_OWN_NETWORK";

/// Runs `body` in a fresh network namespace with only a loopback, by running the test `name` again in there.
pub(crate) fn in_own_network(name: &str, body: impl FnOnce()) {
    if native() {
        eprintln!("plain TCP: nothing to prove");
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let root = nix::unistd::Uid::effective().is_root();
    tools::need("ip");
    let test = std::env::current_exe().expect("this program");
    let mut again = Command::new(tools::need("unshare"));
    again.arg(if root { "-n" } else { "-rn" }).args([
        "sh",
        "-c",
        "ip link set lo up && exec \"$@\"",
        "sh",
    ]);
    again
        .arg(test)
        .args(["--exact", "--nocapture", name])
        .env(INSIDE, "1");
    let done = again.output().expect("unshare runs");
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && text.contains("1 passed"),
        "inside the namespace:\n{text}"
    );
}
