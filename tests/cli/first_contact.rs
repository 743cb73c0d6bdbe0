//! What a user's programs remember of themselves and of others: made once, kept whole, whoever comes at the same time
//! and whoever is killed in between.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};

use crate::common::{PATIENCE, Running, Sandbox, command::QUICWRAP, net::free_port, tools};
use crate::script;

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    metadata.mode() & 0o7777
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The fingerprints that a known_hosts holds, each line whole.
fn keys(known_hosts: &Path) -> Vec<(String, String)> {
    let text = read(known_hosts);
    assert!(text.ends_with('\n'), "a torn end: {text}");
    let parse = |line: &str| {
        let (host, key) = line
            .split_once(' ')
            .unwrap_or_else(|| panic!("a torn line: {line}"));
        // sha256: and the 44 characters of 32 bytes.
        assert!(
            key.starts_with("sha256:") && key.len() == 51,
            "a torn line: {line}"
        );
        (host.to_owned(), key.to_owned())
    };
    text.lines().map(parse).collect()
}

/// Ten programs start at once in a directory that is not there yet: one identity, its owner's alone.
#[test]
fn ten_first_programs() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let state = sandbox.path("deep/state");
    let ports: Vec<_> = (0..10).map(|_| free_port()).collect();
    // Written once: a program that starts must not find it half copied.
    let file = sandbox.file("ten.py", tools_script("echo.py"));
    let start = |port: &u16| {
        let command = sandbox.wrap(tools::python()).state(&state).arg("-u");
        command.arg(&file).arg(port.to_string()).spawn()
    };
    let mut servers: Vec<Running> = ports.iter().map(start).collect();
    for server in &mut servers {
        server.wait_stdout("listening");
    }
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("identity.pem")), 0o600);
    assert_eq!(
        read(&state.join("identity.pem"))
            .matches("BEGIN PRIVATE KEY")
            .count(),
        1
    );
    for port in &ports {
        script(&sandbox, "connect.py")
            .arg(port.to_string())
            .run()
            .success();
    }
    let seen = keys(&sandbox.path("state/known_hosts"));
    let different: HashSet<_> = seen.iter().map(|(_, key)| key).collect();
    assert_eq!((seen.len(), different.len()), (10, 1), "{seen:?}");
}

/// Two users by their home directories, as ssh(1) tells them apart.
#[test]
fn two_users_two_identities() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let at_home = |user: &str, name: &str, words: &[&str]| {
        let script = sandbox.file(name, tools_script(name));
        let home = sandbox.path(user);
        std::fs::create_dir_all(&home).expect("a home");
        // Not through Sandbox::wrap, which names a state directory.
        let plain = sandbox
            .plain(QUICWRAP)
            .env("HOME", home)
            .env("XDG_STATE_HOME", "");
        plain
            .arg("--")
            .arg(tools::python())
            .arg("-u")
            .arg(script)
            .args(words)
    };
    let ports = [free_port(), free_port()];
    let _servers = [("alice", ports[0]), ("bob", ports[1])].map(|(user, port)| {
        let mut server = at_home(user, "echo.py", &[&port.to_string()]).spawn();
        server.wait_stdout("listening");
        server
    });
    for port in ports {
        let port = port.to_string();
        let first = at_home("alice", "connect.py", &[&port]).run().success();
        assert_eq!(first.stderr.lines().count(), 1, "{}", first.stderr);
        assert_eq!(
            at_home("alice", "connect.py", &[&port])
                .run()
                .success()
                .stderr,
            ""
        );
        // What alice knows is not what bob knows.
        at_home("bob", "connect.py", &[&port])
            .run()
            .success()
            .stderr_has("first contact");
    }
    let state = |user: &str| sandbox.path(user).join(".local/state/quicwrap");
    for user in ["alice", "bob"] {
        assert_eq!(mode(&state(user)), 0o700);
        assert_eq!(mode(&state(user).join("identity.pem")), 0o600);
        let seen = keys(&state(user).join("known_hosts"));
        assert_eq!(seen.len(), 2);
        assert_ne!(seen[0].1, seen[1].1, "two users share an identity");
    }
    let identity = |user| read(&state(user).join("identity.pem"));
    assert_ne!(identity("alice"), identity("bob"));
}

fn tools_script(name: &str) -> &'static str {
    match name {
        "echo.py" => include_str!("py/echo.py"),
        _ => include_str!("py/connect.py"),
    }
}

/// A server that listens on all these ports.
fn server_of_many(sandbox: &Sandbox, ports: &[u16]) -> Running {
    let program = "import socket, sys, threading\n\
        def serve(s):\n    while True:\n        c = s.accept()[0]\n        c.sendall(c.recv(100)); c.close()\n\
        for port in sys.argv[1:]:\n    s = socket.socket(); s.bind(('127.0.0.1', int(port))); s.listen()\n    \
        threading.Thread(target=serve, args=(s,)).start()\n\
        print('listening')\n";
    let file = sandbox.file("many.py", program);
    let command = sandbox.wrap(tools::python()).arg("-u").arg(file);
    let mut server = command.args(ports.iter().map(u16::to_string)).spawn();
    server.wait_stdout("listening");
    server
}

/// Twenty programs meet twenty peers at once: every line is there, once and whole.
#[test]
fn twenty_programs_meet_twenty_peers_at_once() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let ports: Vec<_> = (0..20).map(|_| free_port()).collect();
    let _server = server_of_many(&sandbox, &ports);
    let state = sandbox.path("met");
    // Written once: a program that starts must not find it half copied.
    let file = sandbox.file("twenty.py", tools_script("connect.py"));
    let start = |port: &u16| {
        let command = sandbox.wrap(tools::python()).state(&state);
        command.arg(&file).arg(port.to_string()).spawn()
    };
    let clients: Vec<_> = ports.iter().map(start).collect();
    for client in clients {
        let done = client.finish().success();
        assert_eq!(
            done.stderr.matches("first contact").count(),
            1,
            "{}\n{}",
            done.stderr,
            read(&state.join("known_hosts"))
        );
    }
    let seen = keys(&state.join("known_hosts"));
    let met: HashSet<_> = seen.iter().map(|(host, _)| host.clone()).collect();
    let expected: HashSet<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    assert_eq!((seen.len(), met), (20, expected));
}

/// Programs are killed at any moment of their first contact, the writing included: what is there is whole, nothing they
/// leave behind stands in the way, and the lock is free.
#[test]
fn killed_while_writing() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let ports: Vec<_> = (0..24).map(|_| free_port()).collect();
    let _server = server_of_many(&sandbox, &ports);
    let state = sandbox.path("killed");
    let lock = state.join("known_hosts.lock");
    std::fs::create_dir(&state).expect("a directory");
    crate::common::set_mode(&state, 0o700);
    // A large file takes long enough to write to be caught at it.
    let padding = "# padding\n".repeat(400_000);
    let known_hosts = state.join("known_hosts");
    std::fs::write(&known_hosts, &padding).expect("known_hosts");
    let new: PathBuf = state.join("known_hosts.new");
    let mut caught = 0;
    for port in &ports {
        let command = script(&sandbox, "connect.py").state(&state);
        let mut client = command.arg(port.to_string()).spawn();
        // Without a pause: the moment is short.
        let deadline = Instant::now() + PATIENCE;
        while std::fs::metadata(&new).map_or(0, |metadata| metadata.len()) == 0 && !client.ended() {
            assert!(Instant::now() < deadline, "it neither writes nor ends");
            std::thread::yield_now();
        }
        kill_wrapped(&client);
        caught += u32::from(new.exists());
    }
    eprintln!("{caught} of {} were killed while they wrote", ports.len());
    assert!(
        caught > 0,
        "none was caught while it wrote, of {}",
        ports.len()
    );
    assert!(lock.exists(), "no lock was taken");
    let text = read(&known_hosts);
    let added = text.strip_prefix(&padding).expect("the file is whole");
    assert!(added.is_empty() || added.ends_with('\n'), "torn: {added}");
    std::fs::write(&known_hosts, added).expect("known_hosts");
    if !added.is_empty() {
        keys(&known_hosts);
    }
    // All of them can be met now.
    for port in &ports {
        let command = script(&sandbox, "connect.py").state(&state);
        command.arg(port.to_string()).run().success();
    }
    assert_eq!(keys(&known_hosts).len(), ports.len());
    assert!(!new.exists());
}

/// SIGKILL to the front, the supervisor (in a session of its own) and the program.
fn kill_wrapped(client: &Running) {
    for supervisor in crate::common::running::children(client.pid()) {
        let _ = nix::sys::signal::kill(supervisor, Signal::SIGKILL);
    }
    let _ = killpg(client.pid(), Signal::SIGKILL);
}
