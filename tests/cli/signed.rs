//! Certificates that CAs have signed: servers, clients, chains, kinds of keys, and every way to be refused, said on the
//! side that can mend it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use rcgen::ExtendedKeyUsagePurpose;

use crate::common::{Done, Running, Sandbox, net::free_port, tools::need};
use crate::identity::{Authority, Identity, Request};
use crate::{echo_server, script};

/// Options of quicwrap with their values.
type Options<'a> = [(&'a str, &'a OsStr)];

fn serve(sandbox: &Sandbox, options: &Options, port: u16) -> Running {
    let command = options
        .iter()
        .fold(script(sandbox, "echo.py"), |command, (option, value)| {
            command.option(option).option(value)
        });
    echo_server(command, port)
}

fn connect(sandbox: &Sandbox, options: &Options, port: u16) -> Done {
    let command = options
        .iter()
        .fold(script(sandbox, "connect.py"), |command, (option, value)| {
            command.option(option).option(value)
        });
    command.arg(port.to_string()).run()
}

fn presenting(identity: &Identity) -> [(&'static str, &OsStr); 2] {
    [
        ("--server-cert", identity.cert.as_os_str()),
        ("--server-key", identity.key.as_os_str()),
    ]
}

fn accepting(ca: &Path) -> [(&'static str, &OsStr); 1] {
    [("--ca", ca.as_os_str())]
}

/// The connection works, and nobody says a word.
#[track_caller]
fn echoes(done: Done, server: &Running) {
    let done = done.success();
    assert_eq!(
        (done.text().as_str(), done.stderr.as_str()),
        ("echoed\n", "")
    );
    assert_eq!(server.stderr(), "");
}

/// connect(2) fails with EACCES, and one line on standard error holds all `words`.
#[track_caller]
fn refused(done: Done, words: &[&str]) {
    let done = done.exits(1);
    assert_eq!(done.text(), "EACCES\n", "{}", done.stderr);
    one_line(&done.stderr, words);
}

#[track_caller]
fn one_line(text: &str, words: &[&str]) {
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

/// The one line that the server says about it.
#[track_caller]
fn server_says(server: &mut Running, words: &[&str]) {
    server.wait_stderr("\n");
    one_line(&server.stderr(), words);
}

#[test]
fn a_server_that_a_ca_has_signed() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (ca, other) = (
        Authority::new(&sandbox, "fleet"),
        Authority::new(&sandbox, "other"),
    );
    let port = free_port();
    let web = ca.sign(&sandbox, &Request::new("web"));
    let server = serve(&sandbox, &presenting(&web), port);
    echoes(connect(&sandbox, &accepting(&ca.cert), port), &server);
    // A file may hold several CAs.
    let both = [&other.cert, &ca.cert].map(|path| std::fs::read(path).expect("a certificate"));
    let bundle = sandbox.file("bundle.pem", both.concat());
    echoes(connect(&sandbox, &accepting(&bundle), port), &server);
    // So does the environment.
    let done = script(&sandbox, "connect.py")
        .env("QUICWRAP_CA", &ca.cert)
        .arg(port.to_string())
        .run();
    echoes(done, &server);
    assert!(
        !sandbox.path("state/known_hosts").exists(),
        "nothing to record"
    );
}

#[test]
fn the_name_that_is_expected() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (ca, port) = (Authority::new(&sandbox, "fleet"), free_port());
    let mut request = Request::new("web");
    request.names = &["web.example", "192.0.2.7"];
    let mut server = serve(&sandbox, &presenting(&ca.sign(&sandbox, &request)), port);
    let named = |name: &'static str| {
        let name = ("--server-name", OsStr::new(name));
        connect(&sandbox, &[accepting(&ca.cert)[0], name], port)
    };
    echoes(named("web.example"), &server);
    echoes(named("192.0.2.7"), &server);
    let by_environment = script(&sandbox, "connect.py")
        .env("QUICWRAP_CA", &ca.cert)
        .env("QUICWRAP_SERVER_NAME", "web.example")
        .arg(port.to_string());
    echoes(by_environment.run(), &server);
    let names = "web.example, 192.0.2.7";
    refused(
        connect(&sandbox, &accepting(&ca.cert), port),
        &["CN=web", names, "not for 127.0.0.1", "--server-name"],
    );
    server_says(&mut server, &["web.cert.pem", names]);
    refused(named("db.example"), &["not for db.example"]);
}

#[test]
fn a_server_of_another_ca() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (ca, other) = (
        Authority::new(&sandbox, "fleet"),
        Authority::new(&sandbox, "other"),
    );
    let port = free_port();
    let web = other.sign(&sandbox, &Request::new("web"));
    let mut server = serve(&sandbox, &presenting(&web), port);
    refused(
        connect(&sandbox, &accepting(&ca.cert), port),
        &["CN=web", "CN=other", "fleet.ca.pem", "--ca"],
    );
    server_says(&mut server, &["web.cert.pem", "CN=other", "--ca"]);
}

#[test]
fn a_server_whose_certificate_is_not_of_this_time() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let ca = Authority::new(&sandbox, "fleet");
    for (days, clients, servers) in [
        ((-9, -2), "has expired", "has expired"),
        ((2, 9), "not valid yet", "outside its time"),
    ] {
        let port = free_port();
        let mut request = Request::new("web");
        request.days = days;
        let web = ca.sign(&sandbox, &request);
        let mut server = serve(&sandbox, &presenting(&web), port);
        refused(
            connect(&sandbox, &accepting(&ca.cert), port),
            &["CN=web", "CN=fleet", clients],
        );
        server_says(&mut server, &["web.cert.pem", servers, "renew"]);
    }
}

#[test]
fn a_server_whose_certificate_is_for_clients() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (ca, port) = (Authority::new(&sandbox, "fleet"), free_port());
    let mut request = Request::new("web");
    request.usages = &[ExtendedKeyUsagePurpose::ClientAuth];
    let mut server = serve(&sandbox, &presenting(&ca.sign(&sandbox, &request)), port);
    refused(
        connect(&sandbox, &accepting(&ca.cert), port),
        &["CN=web", "not for servers"],
    );
    server_says(&mut server, &["web.cert.pem", "serverAuth"]);
}

/// A server that asks for a client certificate, and a client's options.
struct Mutual {
    sandbox: Sandbox,
    ca: Authority,
    server: Running,
    port: u16,
}

impl Mutual {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (ca, port) = (Authority::new(&sandbox, "fleet"), free_port());
        let web = ca.sign(&sandbox, &Request::new("web"));
        let [cert, key] = presenting(&web);
        let server = serve(
            &sandbox,
            &[cert, key, ("--client-ca", ca.cert.as_os_str())],
            port,
        );
        Mutual {
            sandbox,
            ca,
            server,
            port,
        }
    }

    fn connect(&self, client: Option<&Identity>) -> Done {
        let mut options = accepting(&self.ca.cert).to_vec();
        if let Some(client) = client {
            options.push(("--client-cert", client.cert.as_os_str()));
            options.push(("--client-key", client.key.as_os_str()));
        }
        connect(&self.sandbox, &options, self.port)
    }
}

#[test]
fn a_client_that_a_ca_has_signed() {
    wrapped_only!();
    let fleet = Mutual::new();
    let client = fleet.ca.sign(&fleet.sandbox, &Request::new("client"));
    echoes(fleet.connect(Some(&client)), &fleet.server);
    // One that needs no name at all.
    let mut nameless = Request::new("nameless");
    nameless.names = &[];
    let client = fleet.ca.sign(&fleet.sandbox, &nameless);
    echoes(fleet.connect(Some(&client)), &fleet.server);
}

/// The handshake is complete for the client before the server has looked at its certificate; connect(2) must fail all
/// the same.
#[test]
fn a_client_without_a_certificate() {
    wrapped_only!();
    let mut fleet = Mutual::new();
    let peer = format!("127.0.0.1:{}", fleet.port);
    refused(
        fleet.connect(None),
        &[&peer, "--client-cert", "--client-key"],
    );
    server_says(&mut fleet.server, &["no certificate", "--client-ca"]);
}

#[test]
fn a_client_of_another_ca() {
    wrapped_only!();
    let mut fleet = Mutual::new();
    let other = Authority::new(&fleet.sandbox, "other");
    let client = other.sign(&fleet.sandbox, &Request::new("client"));
    refused(
        fleet.connect(Some(&client)),
        &["client.cert.pem", "CN=client", "CN=other", "--client-ca"],
    );
    server_says(
        &mut fleet.server,
        &["CN=client", "CN=other", "fleet.ca.pem", "--client-ca"],
    );
}

#[test]
fn a_client_whose_certificate_is_not_of_this_time() {
    wrapped_only!();
    for (days, clients, servers) in [
        ((-9, -2), "has expired", "has expired"),
        ((2, 9), "outside its time", "not valid yet"),
    ] {
        let mut fleet = Mutual::new();
        let mut request = Request::new("client");
        request.days = days;
        let client = fleet.ca.sign(&fleet.sandbox, &request);
        refused(
            fleet.connect(Some(&client)),
            &["client.cert.pem", "CN=client", clients, "renew"],
        );
        server_says(&mut fleet.server, &["CN=client", servers]);
    }
}

#[test]
fn a_client_whose_certificate_is_for_servers() {
    wrapped_only!();
    let mut fleet = Mutual::new();
    let mut request = Request::new("client");
    request.usages = &[ExtendedKeyUsagePurpose::ServerAuth];
    let client = fleet.ca.sign(&fleet.sandbox, &request);
    refused(
        fleet.connect(Some(&client)),
        &["client.cert.pem", "clientAuth"],
    );
    server_says(&mut fleet.server, &["CN=client", "not for clients"]);
}

/// The root alone is known on the other side; the CAs in between come with the certificate.
#[test]
fn chains() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (root, port) = (Authority::new(&sandbox, "root"), free_port());
    let between = root.intermediate(&sandbox, "between");
    let deeper = between.intermediate(&sandbox, "deeper");
    let web = deeper.sign(&sandbox, &Request::new("web"));
    let client = between.sign(&sandbox, &Request::new("client"));
    let [cert, key] = presenting(&web);
    let client_ca = ("--client-ca", root.cert.as_os_str());
    let server = serve(&sandbox, &[cert, key, client_ca], port);
    let options = [
        accepting(&root.cert)[0],
        ("--client-cert", client.cert.as_os_str()),
        ("--client-key", client.key.as_os_str()),
    ];
    echoes(connect(&sandbox, &options, port), &server);
}

/// Every kind and form of key that openssl(1) writes, on both sides of a handshake.
#[test]
fn kinds_and_forms_of_keys() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let ec = |curve| format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve}");
    for (name, commands) in [
        ("p256", vec![ec("P-256")]),
        ("p384", vec![ec("P-384")]),
        ("p521", vec![ec("P-521")]),
        ("sec1", vec!["ecparam -name prime256v1 -genkey".to_owned()]),
        ("ed25519", vec!["genpkey -algorithm ed25519".to_owned()]),
        (
            "rsa",
            vec!["genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048".to_owned()],
        ),
        ("pkcs1", vec!["genrsa -traditional 2048".to_owned()]),
    ] {
        let identity = with_openssl(&sandbox, name, &commands[0]);
        let port = free_port();
        let [cert, key] = presenting(&identity);
        let client_ca = ("--client-ca", identity.cert.as_os_str());
        let server = serve(&sandbox, &[cert, key, client_ca], port);
        let options = [
            accepting(&identity.cert)[0],
            ("--client-cert", identity.cert.as_os_str()),
            ("--client-key", identity.key.as_os_str()),
        ];
        echoes(connect(&sandbox, &options, port), &server);
        let form = std::fs::read_to_string(&identity.key).expect("a key");
        let expected = match name {
            "sec1" => "BEGIN EC PRIVATE KEY",
            "pkcs1" => "BEGIN RSA PRIVATE KEY",
            _ => "BEGIN PRIVATE KEY",
        };
        assert!(form.contains(expected), "{name}: {form}");
    }
}

/// A key that `command` writes, and a certificate of its own.
fn with_openssl(sandbox: &Sandbox, name: &str, command: &str) -> Identity {
    let key = sandbox.path(&format!("{name}.key.pem"));
    let cert = sandbox.path(&format!("{name}.cert.pem"));
    let openssl = |words: &mut dyn Iterator<Item = &str>| {
        let done = Command::new(need("openssl")).args(words).output();
        let done = done.expect("openssl runs");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    let key_path = key.to_str().expect("UTF-8");
    openssl(
        &mut command
            .split(' ')
            .take(1)
            .chain(["-out", key_path])
            .chain(command.split(' ').skip(1)),
    );
    let subject = format!("/CN={name}");
    let words = [
        "req",
        "-x509",
        "-new",
        "-key",
        key_path,
        "-days",
        "2",
        "-subj",
        &subject,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-out",
        cert.to_str().expect("UTF-8"),
    ];
    openssl(&mut words.into_iter());
    Identity { cert, key }
}

/// What contradicts itself, or cannot be used, is said before the program starts.
#[test]
fn contradictions() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let ca = Authority::new(&sandbox, "fleet");
    let (a, b) = (Identity::new(&sandbox, "a"), Identity::new(&sandbox, "b"));
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (ca, cert, key, other) = (path(&ca.cert), path(&a.cert), path(&a.key), path(&b.key));
    let nonsense = path(&sandbox.file("nonsense.pem", "no CA in here\n"));
    for (options, words) in [
        (
            &["--ca", &ca, "--insecure"][..],
            &["--insecure", "--ca"][..],
        ),
        (&["--server-name", "web"], &["--server-name web", "--ca"]),
        (
            &["--ca", &ca, "--server-name", "a b"],
            &["\"a b\"", "DNS name"],
        ),
        (
            &["--ca", &ca, "--known-hosts", "hosts"],
            &["--known-hosts", "--ca"],
        ),
        (&["--client-cert", &cert], &["a.cert.pem", "--client-key"]),
        (&["--client-key", &key], &["a.key.pem", "--client-cert"]),
        (
            &["--client-cert", &cert, "--client-key", &other],
            &["a.cert.pem", "b.key.pem", "does not belong"],
        ),
        (
            &["--ca", "missing.pem"],
            &["--ca", "missing.pem", "No such file"],
        ),
        (&["--ca", &nonsense], &["nonsense.pem", "no certificate"]),
        (&["--client-ca", &key], &["a.key.pem", "no certificate"]),
        (
            &["--client-ca", "missing.pem"],
            &["--client-ca", "missing.pem"],
        ),
    ] {
        let command = sandbox.wrap(need("echo")).arg("it ran");
        let command = options
            .iter()
            .fold(command, |command, word| command.option(word));
        let done = command.run().exits(125);
        assert_eq!(done.text(), "", "the program ran");
        one_line(&done.stderr, words);
    }
}
