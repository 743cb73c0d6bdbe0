//! Who trusts whom: certificates by option, first contact, changed keys, and messages that name file and cause.

use std::path::Path;

use crate::common::{Done, Running, Sandbox, Wrapped, net::free_port, set_mode, tools::need};
use crate::identity::Identity;
use crate::{echo_server, script};

fn server_with(sandbox: &Sandbox, identity: &Identity, port: u16) -> Running {
    let command = script(sandbox, "echo.py")
        .option("--server-cert")
        .option(&identity.cert);
    echo_server(command.option("--server-key").option(&identity.key), port)
}

fn client(sandbox: &Sandbox, port: u16, prepare: impl Fn(Wrapped) -> Wrapped) -> Done {
    prepare(script(sandbox, "connect.py").arg(port.to_string())).run()
}

#[test]
fn the_certificate_that_was_named() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (identity, port) = (Identity::new(&sandbox, "fleet"), free_port());
    let _server = server_with(&sandbox, &identity, port);
    let done = client(&sandbox, port, |c| {
        c.option("--server-cert").option(&identity.cert)
    })
    .success();
    assert_eq!(
        (done.text().as_str(), done.stderr.as_str()),
        ("echoed\n", "")
    );
}

#[test]
fn another_certificate_than_the_one_named() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (right, wrong, port) = (
        Identity::new(&sandbox, "right"),
        Identity::new(&sandbox, "wrong"),
        free_port(),
    );
    let _server = server_with(&sandbox, &right, port);
    let done = client(&sandbox, port, |c| {
        c.option("--server-cert").option(&wrong.cert)
    })
    .exits(1);
    assert_eq!(done.text(), "EACCES\n");
    done.stderr_has("certificate");
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    done.stderr_has(&format!("127.0.0.1:{port}"));
}

#[test]
fn insecure() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (identity, port) = (Identity::new(&sandbox, "any"), free_port());
    let _server = server_with(&sandbox, &identity, port);
    let done = client(&sandbox, port, |c| c.option("--insecure")).success();
    assert_eq!(done.text(), "echoed\n");
    done.stderr_has("--insecure");
}

/// The first contact is one line; the second none; a changed key is refused, naming what to remove.
#[test]
fn first_contact_and_changed_key() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let [old, new, own] = ["old", "new", "own"].map(|name| sandbox.path(name));
    let port = free_port();
    let connect = || client(&sandbox, port, |c| c.state(&own));

    let server = echo_server(script(&sandbox, "echo.py").state(&old), port);
    let first = connect().success();
    assert_eq!(first.stderr.lines().count(), 1, "{}", first.stderr);
    first.stderr_has(&format!("127.0.0.1:{port}"));
    let second = connect().success();
    assert_eq!(
        (second.text().as_str(), second.stderr.as_str()),
        ("echoed\n", "")
    );
    drop(server);

    let _server = echo_server(script(&sandbox, "echo.py").state(&new), port);
    let changed = connect().exits(1);
    assert_eq!(changed.text(), "EACCES\n");
    let known_hosts = own.join("known_hosts");
    changed.stderr_has(known_hosts.to_str().expect("utf-8"));
    changed.stderr_has("remove line 1 of that file");
    assert_eq!(changed.stderr.lines().count(), 1, "{}", changed.stderr);
    assert_eq!(
        std::fs::read_to_string(&known_hosts)
            .expect("known_hosts")
            .lines()
            .count(),
        1
    );

    // What the message asks for helps.
    std::fs::write(&known_hosts, "").expect("known_hosts");
    connect().success();
}

/// The identity is made once, for its owner only, and serves all programs of the user.
#[test]
fn the_identity_is_kept() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (first, second) = (free_port(), free_port());
    let _first = echo_server(script(&sandbox, "echo.py"), first);
    let _second = echo_server(script(&sandbox, "echo.py"), second);
    assert_eq!(client(&sandbox, first, |c| c).success().text(), "echoed\n");
    assert_eq!(client(&sandbox, second, |c| c).success().text(), "echoed\n");
    for path in files(&sandbox.path("state")) {
        use std::os::unix::fs::PermissionsExt;
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mode = std::fs::metadata(&path)
            .expect("metadata")
            .permissions()
            .mode();
        assert!(
            !text.contains("PRIVATE KEY") || mode & 0o077 == 0,
            "{}: {mode:o}",
            path.display()
        );
    }
    assert!(
        files(&sandbox.path("state")).len() >= 2,
        "no identity, or no known_hosts"
    );
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the state directory");
    entries
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.is_file())
        .collect()
}

/// Bad files are found at the start, before the program runs, and named with the cause.
#[test]
fn bad_certificate_files() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (a, b) = (Identity::new(&sandbox, "a"), Identity::new(&sandbox, "b"));
    let nonsense = sandbox.file("nonsense.pem", "no certificate in here\n");
    let missing = sandbox.path("missing.pem");
    let fails = |cert: &Path, key: Option<&Path>, words: &[&str]| {
        let mut command = sandbox
            .wrap(need("echo"))
            .arg("it ran")
            .option("--server-cert")
            .option(cert);
        if let Some(key) = key {
            command = command.option("--server-key").option(key);
        }
        let done = command.run().exits(125);
        assert_eq!(done.text(), "", "the program ran");
        words.iter().for_each(|word| done.stderr_has(word));
    };
    fails(&missing, None, &["missing.pem", "No such file"]);
    fails(&nonsense, None, &["nonsense.pem"]);
    fails(&a.cert, Some(&missing), &["missing.pem", "No such file"]);
    fails(&a.cert, Some(&nonsense), &["nonsense.pem"]);
    fails(&a.cert, Some(&b.key), &["b.key.pem", "a.cert.pem"]);
    fails(&a.key, Some(&a.key), &["a.key.pem"]);
}

#[test]
fn an_unreadable_key() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox, "secret");
    set_mode(&identity.key, 0o000);
    let command = sandbox
        .wrap(need("true"))
        .user()
        .option("--server-cert")
        .option(&identity.cert);
    let done = command
        .option("--server-key")
        .option(&identity.key)
        .run()
        .exits(125);
    done.stderr_has("secret.key.pem");
    done.stderr_has("Permission denied");
}

/// A key without its certificate has no use.
#[test]
fn a_key_alone() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox, "alone");
    let done = sandbox
        .wrap(need("true"))
        .option("--server-key")
        .option(&identity.key)
        .run()
        .exits(125);
    done.stderr_has("--server-cert");
}

/// SSLKEYLOGFILE works as everywhere, on either side.
#[test]
fn the_key_log_of_the_environment() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let port = free_port();
    let (servers, clients) = (sandbox.path("servers.keys"), sandbox.path("clients.keys"));
    let server = script(&sandbox, "echo.py").env("SSLKEYLOGFILE", &servers);
    let _server = echo_server(server, port);
    script(&sandbox, "connect.py")
        .env("SSLKEYLOGFILE", &clients)
        .args([&port.to_string(), "1"])
        .run()
        .success();
    let secrets = |file| std::fs::read_to_string(file).expect("a key log");
    assert!(secrets(&clients).contains("CLIENT_TRAFFIC_SECRET_0 "));
    assert_eq!(secrets(&clients), secrets(&servers));
}
