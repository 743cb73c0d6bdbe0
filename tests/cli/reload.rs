//! Certificates, keys and CAs that are replaced while the programs run.

use std::path::Path;

use crate::common::{Done, Running, Sandbox, net::free_port, tools::need};
use crate::identity::{Authority, Identity, Request};
use crate::{echo_server, script};

/// A server with a pair of files that are replaced, and the CAs of old and new.
struct Server {
    sandbox: Sandbox,
    old: Authority,
    new: Authority,
    files: Identity,
    running: Running,
    port: u16,
}

impl Server {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let [old, new] = ["old", "new"].map(|name| Authority::new(&sandbox, name));
        let port = free_port();
        let files = old.sign(&sandbox, &Request::new("web"));
        // Named by relative paths: the working directory is the sandbox.
        let command = script(&sandbox, "echo.py")
            .option("--server-cert")
            .option("web.cert.pem")
            .option("--server-key")
            .option("web.key.pem");
        let running = echo_server(command, port);
        Server {
            sandbox,
            old,
            new,
            files,
            running,
            port,
        }
    }

    fn connect(&self, ca: &Path) -> Done {
        script(&self.sandbox, "connect.py")
            .option("--ca")
            .option(ca)
            .arg(self.port.to_string())
            .run()
    }

    /// Who accepts the server now.
    #[track_caller]
    fn presents(&self, is: &Authority, is_not: &Authority) {
        assert_eq!(self.connect(&is.cert).success().text(), "echoed\n");
        assert_eq!(self.connect(&is_not.cert).exits(1).text(), "EACCES\n");
    }
}

fn replace(file: &Path, with: &[u8]) {
    let new = file.with_extension("new");
    std::fs::write(&new, with).expect("a file");
    std::fs::rename(&new, file).expect("a file");
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).expect("a file")
}

/// A running connection goes on, new ones meet the new certificate.
#[test]
fn an_identity_is_replaced() {
    wrapped_only!();
    let server = Server::new();
    let netcat = server.sandbox.wrap(need("nc.openbsd"));
    let mut running = netcat
        .option("--ca")
        .option(&server.old.cert)
        .args(["127.0.0.1", &server.port.to_string()])
        .piped()
        .spawn();
    running.send("before\n");
    running.wait_stdout("before\n");
    server.presents(&server.old, &server.new);

    let renewed = server.new.sign(&server.sandbox, &Request::new("renewed"));
    replace(&server.files.cert, &read(&renewed.cert));
    replace(&server.files.key, &read(&renewed.key));
    server.presents(&server.new, &server.old);

    running.send("after\n");
    running.wait_stdout("after\n");
}

/// Half a file, or a certificate whose key has not come yet: the pair before stays, and it is said once.
#[test]
fn a_pair_is_switched_when_both_files_match() {
    wrapped_only!();
    let mut server = Server::new();
    let renewed = server.new.sign(&server.sandbox, &Request::new("renewed"));
    let cert = read(&renewed.cert);
    let warnings = |server: &Server| {
        let text = server.running.stderr();
        text.matches("cannot be used as it is now").count()
    };

    // Written in place, as cp(1) does.
    std::fs::write(&server.files.cert, &cert[..cert.len() / 2]).expect("half a file");
    for _ in 0..3 {
        assert_eq!(
            server.connect(&server.old.cert).success().text(),
            "echoed\n"
        );
    }
    server.running.wait_stderr("web.cert.pem");
    assert_eq!(warnings(&server), 1, "{}", server.running.stderr());

    std::fs::write(&server.files.cert, &cert).expect("a certificate");
    for _ in 0..3 {
        assert_eq!(
            server.connect(&server.old.cert).success().text(),
            "echoed\n"
        );
    }
    server.running.wait_stderr("does not belong");
    assert_eq!(warnings(&server), 2, "{}", server.running.stderr());

    replace(&server.files.key, &read(&renewed.key));
    assert_eq!(
        server.connect(&server.new.cert).success().text(),
        "echoed\n"
    );
    assert_eq!(warnings(&server), 2, "{}", server.running.stderr());
}

/// So are the CAs of a server, and the CAs and the identity of a client that goes on running.
#[test]
fn authorities_are_replaced() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let [old, new] = ["old", "new"].map(|name| Authority::new(&sandbox, name));
    let web = old.sign(&sandbox, &Request::new("web"));
    let port = free_port();
    let clients = sandbox.file("clients.pem", read(&old.cert));
    let server = script(&sandbox, "echo.py")
        .option("--server-cert")
        .option(&web.cert)
        .option("--server-key")
        .option(&web.key)
        .option("--client-ca")
        .option(&clients);
    let _server = echo_server(server, port);
    let client = |identity: &Identity| {
        script(&sandbox, "connect.py")
            .option("--ca")
            .option(&old.cert)
            .option("--client-cert")
            .option(&identity.cert)
            .option("--client-key")
            .option(&identity.key)
            .arg(port.to_string())
            .run()
    };
    let [mine, theirs] =
        [(&old, "mine"), (&new, "theirs")].map(|(ca, name)| ca.sign(&sandbox, &Request::new(name)));
    assert_eq!(client(&mine).success().text(), "echoed\n");
    assert_eq!(client(&theirs).exits(1).text(), "EACCES\n");
    replace(&clients, &read(&new.cert));
    assert_eq!(client(&theirs).success().text(), "echoed\n");
    assert_eq!(client(&mine).exits(1).text(), "EACCES\n");
}

/// A client that runs on takes up a new CA, and a new certificate of its own, with its next QUIC connection.
#[test]
fn a_client_reads_its_files_again() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let [old, new] = ["old", "new"].map(|name| Authority::new(&sandbox, name));
    let servers = [&old, &new].map(|ca| {
        let name = if std::ptr::eq(ca, &old) {
            "web-old"
        } else {
            "web-new"
        };
        let (web, port) = (ca.sign(&sandbox, &Request::new(name)), free_port());
        let command = script(&sandbox, "echo.py")
            .option("--server-cert")
            .option(&web.cert)
            .option("--server-key")
            .option(&web.key)
            .option("--client-ca")
            .option(&ca.cert);
        (echo_server(command, port), port)
    });
    let trusted = sandbox.file("trusted.pem", read(&old.cert));
    let own = old.sign(&sandbox, &Request::new("own"));
    let renewed = new.sign(&sandbox, &Request::new("renewed"));
    // One program, two peers; the files change in between.
    let words = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{} && echo one >&3 && head -n 1 <&3 && read go && exec 4<>/dev/tcp/127.0.0.1/{} && echo two >&4 && head -n 1 <&4 && echo three >&3 && head -n 1 <&3",
        servers[0].1, servers[1].1
    );
    let mut client = sandbox
        .wrap(need("bash"))
        .option("--ca")
        .option(&trusted)
        .option("--client-cert")
        .option(&own.cert)
        .option("--client-key")
        .option(&own.key)
        .args(["-c", &words])
        .piped()
        .spawn();
    client.wait_stdout("one\n");
    replace(&trusted, &read(&new.cert));
    replace(&own.cert, &read(&renewed.cert));
    replace(&own.key, &read(&renewed.key));
    client.send("go\n");
    assert_eq!(client.finish().success().text(), "one\ntwo\nthree\n");
}
