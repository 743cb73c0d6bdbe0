//! aioquic, as client and as server.

use std::path::PathBuf;

use crate::common::{Sandbox, Wrapped, net::free_port};
use crate::identity::Identity;
use crate::{WORDS, all_well, wrapped_client, wrapped_server};

/// The interpreter that `tests/install-aioquic.sh` has prepared, beside the directory of the test's own profile.
fn python() -> PathBuf {
    let test = std::env::current_exe().expect("this program");
    let target = test.ancestors().nth(3).expect("the target directory");
    let python = target.join("aioquic/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run tests/install-aioquic.sh",
        python.display()
    );
    python
}

fn peer(sandbox: &Sandbox) -> Wrapped {
    let script = sandbox.file("aioquic_peer.py", include_str!("aioquic_peer.py"));
    sandbox.plain(python()).arg(script)
}

#[test]
fn as_a_server() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let mut server = peer(&sandbox)
        .args(["serve", &port.to_string()])
        .args([&identity.cert, &identity.key])
        .spawn();
    server.wait_stdout("listening");
    all_well(wrapped_client(&sandbox, &identity, port));
}

#[test]
fn as_a_client() {
    let (sandbox, port) = (Sandbox::new(), free_port());
    let identity = Identity::new(&sandbox, "test");
    let _server = wrapped_server(&sandbox, &identity, port);
    let client = peer(&sandbox)
        .args(["call", &port.to_string()])
        .arg(&identity.cert)
        .args(WORDS);
    all_well(client.run());
}
