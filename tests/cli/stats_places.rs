//! The sockets of `quicwrap stats`: where they lie, and who may ask.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::unistd::Uid;

use crate::common::net::free_port;
use crate::common::{Sandbox, Wrapped, command::QUICWRAP, set_mode, tools, wait_until};
use crate::stats::{document, instance, json, sockets, stats};
use crate::{echo_server, script};

#[test]
fn the_runtime_directory_comes_first() {
    wrapped_only!();
    let (sandbox, runtime) = (Sandbox::new(), "runtime");
    fs::create_dir(sandbox.path(runtime)).expect("a directory");
    set_mode(&sandbox.path(runtime), 0o700);
    let here = |command: Wrapped| command.env("XDG_RUNTIME_DIR", sandbox.path(runtime));
    let _there = echo_server(here(script(&sandbox, "echo.py")), free_port());
    let directory = sandbox.path("runtime/quicwrap");
    wait_until("the socket", || sockets(&directory).len() == 1);
    assert!(sockets(&sandbox.path("state/run")).is_empty());
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode(&directory), mode(&sockets(&directory)[0])),
        (0o700, 0o600)
    );

    // Both places are looked at, whatever the variables were when the programs were started.
    let _elsewhere = echo_server(script(&sandbox, "echo.py"), free_port());
    wait_until("the other socket", || {
        sockets(&sandbox.path("state/run")).len() == 1
    });
    let both = document(here(stats(&sandbox, "state").arg("--json")).run());
    assert_eq!(both["instances"].as_array().map(Vec::len), Some(2));
    let by_variable = sandbox.plain(QUICWRAP).args(["stats", "--json"]);
    let by_variable = by_variable
        .env("QUICWRAP_STATE_DIR", sandbox.path("state"))
        .run();
    assert_eq!(
        document(by_variable)["instances"].as_array().map(Vec::len),
        Some(1)
    );
}

/// Without a place for the socket a program runs all the same, and nothing is said.
#[test]
fn no_place_for_a_socket() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    sandbox.file("state/run", "a file");
    let command = sandbox.wrap(tools::need("echo")).arg("well");
    let done = command
        .env("XDG_RUNTIME_DIR", sandbox.path("missing"))
        .run()
        .success();
    assert_eq!((done.text().as_str(), done.stderr.as_str()), ("well\n", ""));
    assert!(!sandbox.path("missing").exists());
    stats(&sandbox, "state").run().success();
}

/// A directory whose name does not fit into a socket's address, unix(7).
#[test]
fn a_long_path() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let state = sandbox.path(&["long"; 40].join("/"));
    let server = echo_server(script(&sandbox, "echo.py").state(&state), free_port());
    let asked = || {
        sandbox
            .plain(QUICWRAP)
            .args(["stats", "--json", "--state-dir"])
            .arg(&state)
    };
    wait_until("the server", || {
        let report = document(asked().run());
        report["instances"][0]["front_pid"] == server.pid().as_raw()
    });
}

/// Connects to SOCKET as `nobody` and prints what it is told.
const ASK: &str = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(100))";

/// Whose sockets they are counts, not who can reach them.
#[test]
fn another_users_are_neither_read_nor_told() {
    wrapped_only!();
    if !Uid::effective().is_root() {
        eprintln!("one user alone: nothing to prove");
        return;
    }
    let sandbox = Sandbox::new();
    let server = echo_server(script(&sandbox, "echo.py"), free_port());
    let theirs = echo_server(script(&sandbox, "echo.py").user(), free_port());
    let nobodys = |state: &str| {
        let copy = sandbox.path("quicwrap-for-user");
        let command = sandbox
            .plain(copy)
            .user()
            .args(["stats", "--json", "--state-dir"]);
        command.arg(sandbox.path(state))
    };
    wait_until("the other user's own", || {
        let report = document(nobodys("state-nobody").run());
        report["instances"][0]["front_pid"] == theirs.pid().as_raw()
    });
    instance(&sandbox, server.pid(), "the server", |_| true);
    assert_eq!(
        json(&sandbox)["instances"].as_array().map(Vec::len),
        Some(1),
        "no other user's"
    );

    // Out of reach; and if not, refused.
    nobodys("state")
        .run()
        .exits(125)
        .stderr_has("Permission denied");
    for open in ["state", "state/run"] {
        set_mode(&sandbox.path(open), 0o755);
    }
    nobodys("state")
        .run()
        .exits(125)
        .stderr_has("it belongs to user 0");
    let socket = &sockets(&sandbox.path("state/run"))[0];
    set_mode(socket, 0o666);
    let ask = |socket: &Path| sandbox.plain(tools::python()).args(["-c", ASK]).arg(socket);
    assert_eq!(ask(socket).user().run().success().text(), "b''\n");
    assert!(ask(socket).run().success().text().starts_with("b'{"));

    // One that somebody has put among one's own.
    let planted = sandbox.path("state-nobody/run/1.sock");
    let _listener = UnixListener::bind(&planted).expect("root writes everywhere");
    set_mode(&planted, 0o666);
    let done = nobodys("state-nobody").run().success();
    done.stderr_has("state-nobody/run/1.sock gives no answer: user 0 listens there");
    assert_eq!(
        document(done)["instances"].as_array().map(Vec::len),
        Some(1)
    );
}
