//! `quicwrap keygen`: files, modes, what is refused, and the three commands of the README.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Done, Sandbox, Wrapped, command::QUICWRAP, net::free_port, tools::need};
use crate::identity::{Authority, Identity};
use crate::{echo_server, script};

fn keygen(sandbox: &Sandbox, words: &[&str]) -> Done {
    sandbox.plain(QUICWRAP).arg("keygen").args(words).run()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").mode() & 0o7777
}

/// What `openssl x509` prints of a certificate.
fn shown(path: &Path, what: &[&str]) -> String {
    let mut openssl = Command::new(need("openssl"));
    openssl.args(["x509", "-noout", "-in"]).arg(path).args(what);
    let done = openssl.output().expect("openssl runs");
    assert!(done.status.success(), "{path:?}");
    String::from_utf8(done.stdout).expect("text")
}

#[test]
fn what_is_made() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let ca = keygen(&sandbox, &["ca", "--name", "our fleet"]).success();
    assert!(ca.text().contains("our fleet") && ca.text().contains("ca.key"));
    assert_eq!(ca.stderr, "");
    let host = keygen(&sandbox, &["host", "web1.example", "10.0.0.5", "fd00::5"]).success();
    assert!(host.text().contains("web1.example.pem"), "{}", host.text());

    let [ca, ca_key, cert, key] =
        ["ca.pem", "ca.key", "web1.example.pem", "web1.example.key"].map(|name| sandbox.path(name));
    assert_eq!([&ca_key, &key].map(|path| mode(path)), [0o600, 0o600]);
    assert_eq!([&ca, &cert].map(|path| mode(path)), [0o644, 0o644]);
    let text = shown(&ca, &["-subject", "-ext", "basicConstraints,keyUsage"]);
    for words in ["our fleet", "CA:TRUE", "Certificate Sign"] {
        assert!(text.contains(words), "{text}");
    }
    let extensions = "subjectAltName,extendedKeyUsage";
    let text = shown(&cert, &["-issuer", "-ext", extensions, "-text"]);
    for words in [
        "our fleet",
        "DNS:web1.example",
        "IP Address:10.0.0.5",
        "IP Address:FD00:0:0:0:0:0:0:5",
        "TLS Web Server Authentication",
        "TLS Web Client Authentication",
        "P-256",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let verified = Command::new(need("openssl"))
        .arg("verify")
        .arg("-CAfile")
        .arg(&ca)
        .arg(&cert)
        .output()
        .expect("openssl runs");
    assert!(verified.status.success());
    // About a year and ten, begun a little ago: in 360 days still, in 370 no more.
    let lives = |path: &Path, days: i64| {
        let seconds = (days * 86_400).to_string();
        let mut openssl = Command::new(need("openssl"));
        openssl.args(["x509", "-noout", "-in"]).arg(path);
        let done = openssl.args(["-checkend", &seconds]).output();
        done.expect("openssl runs").status.success()
    };
    assert_eq!([lives(&cert, 360), lives(&cert, 370)], [true, false]);
    assert_eq!([lives(&ca, 3640), lives(&ca, 3660)], [true, false]);
    // Nothing half written is left behind.
    let names = std::fs::read_dir(sandbox.path(".")).expect("the directory");
    let left = names.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().starts_with(".tmp")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn nothing_is_overwritten_unasked() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    keygen(&sandbox, &["ca"]).success();
    keygen(&sandbox, &["host", "web1"]).success();
    let read = |name: &str| std::fs::read(sandbox.path(name)).expect("a file");
    let names = ["ca.pem", "ca.key", "web1.pem", "web1.key"];
    let before = names.map(read);
    for words in [&["ca"][..], &["host", "web1"]] {
        let done = keygen(&sandbox, words).exits(125);
        done.stderr_has("is there already");
        done.stderr_has("--force");
    }
    // A certificate without its key is not overwritten either.
    std::fs::remove_file(sandbox.path("web1.key")).expect("a key");
    keygen(&sandbox, &["host", "web1"]).exits(125);
    assert_eq!(read("web1.pem"), before[2]);
    keygen(&sandbox, &["host", "--force", "web1"]).success();
    assert_ne!(read("web1.pem"), before[2]);
    assert_eq!([read("ca.pem"), read("ca.key")], before[..2]);
    keygen(&sandbox, &["ca", "--force"]).success();
    assert_ne!(read("ca.key"), before[1]);
    assert_eq!(mode(&sandbox.path("ca.key")), 0o600);
}

#[test]
fn where_and_with_which_ca() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    for dir in ["ca", "hosts"] {
        std::fs::create_dir(sandbox.path(dir)).expect("a directory");
    }
    keygen(&sandbox, &["ca", "--out", "ca"]).success();
    let named = ["--ca", "ca/ca.pem", "--ca-key", "ca/ca.key"];
    for (name, options) in [("a", &named[..]), ("b", &named[..2])] {
        let words = [&["host", name, "--out", "hosts", "--days", "7"], options].concat();
        keygen(&sandbox, &words).success();
        assert!(sandbox.path(&format!("hosts/{name}.key")).is_file());
    }
    // No longer than the CA lives.
    keygen(&sandbox, &["ca", "--days", "3", "--name", "short"]).success();
    keygen(&sandbox, &["host", "c"]).success();
    let [ca, host] = ["ca.pem", "c.pem"].map(|name| shown(&sandbox.path(name), &["-enddate"]));
    assert_eq!(ca, host);
}

/// What cannot be used is named, with the way out, and nothing is written.
#[test]
fn refusals() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let no_ca = Identity::new(&sandbox, "selfmade");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (cert, key) = (text(&no_ca.cert), text(&no_ca.key));
    let ca = text(&Authority::new(&sandbox, "fleet").cert);
    std::fs::create_dir(sandbox.path("real")).expect("a directory");
    keygen(&sandbox, &["ca", "--out", "real"]).success();
    for (words, expected) in [
        (&["host", "web1"][..], &["no CA", "quicwrap keygen ca"][..]),
        (&["host", "we b"], &["\"we b\"", "DNS name"]),
        (&["host", "../web1"], &["../web1", "DNS name"]),
        (
            &["host", "web1", "--ca", &cert, "--ca-key", &key],
            &["not a CA"],
        ),
        (
            &["host", "web1", "--ca", &ca],
            &["fleet.ca.key", "No such file"],
        ),
        (
            &["host", "web1", "--ca", &ca, "--ca-key", &key],
            &["does not belong"],
        ),
        (&["ca", "--out", "nowhere"], &["nowhere", "--out"]),
        (&["host"], &["NAME"]),
    ] {
        let done = keygen(&sandbox, words).exits(125);
        expected.iter().for_each(|word| done.stderr_has(word));
        assert_eq!(done.text(), "");
    }
    keygen(&sandbox, &["ca"]).success();
    let before = std::fs::read(sandbox.path("ca.key")).expect("a key");
    let done = keygen(&sandbox, &["host", "--force", "ca"]).exits(125);
    done.stderr_has("would replace the CA");
    assert_eq!(
        std::fs::read(sandbox.path("ca.key")).expect("a key"),
        before
    );
    assert!(!sandbox.path("web1.pem").exists() && !sandbox.path("web1.key").exists());
}

/// The commands of the README: the block that begins with `quicwrap keygen ca`.
fn readme_commands() -> String {
    let readme = include_str!("../../README.md");
    let lines = readme
        .lines()
        .skip_while(|line| *line != "    quicwrap keygen ca")
        .take_while(|line| line.starts_with("    "));
    let commands: Vec<_> = lines.map(|line| &line[4..]).collect();
    assert!(commands.len() >= 3, "the README lacks its example");
    commands.join("\n")
}

/// As written there, and then a server and clients of the fleet, and strangers of both kinds.
#[test]
fn the_three_commands_of_the_readme() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = Path::new(QUICWRAP).parent().expect("a directory").display();
    let in_fleet = |command: Wrapped| {
        let commands = format!(
            "{}\nexec {}",
            readme_commands_once(&sandbox),
            command.shell_line()
        );
        let shell = sandbox
            .plain(need("sh"))
            .env("PATH", format!("{bin}:{path}"));
        shell.args(["-e", "-c", &commands])
    };
    let port = free_port();
    let number = port.to_string();
    let mut server = in_fleet(script(&sandbox, "echo.py").arg(&number)).spawn();
    server.wait_stdout("listening");
    let client = || script(&sandbox, "connect.py").arg(&number);
    let done = in_fleet(client()).run().success();
    assert!(done.text().ends_with("echoed\n"), "{}", done.text());
    assert_eq!((done.stderr.as_str(), server.stderr().as_str()), ("", ""));

    // A client without a certificate, and one that knows the CA and has none of its certificates.
    let stranger = client().option("--insecure").run().exits(1);
    stranger.stderr_has("--client-cert");
    // A server that the fleet's clients meet.
    let other = free_port();
    let _other = echo_server(script(&sandbox, "echo.py"), other);
    let done = in_fleet(script(&sandbox, "connect.py").arg(other.to_string()));
    let done = done.run().exits(1);
    assert!(done.text().ends_with("EACCES\n"), "{}", done.text());
    done.stderr_has("--ca");
}

/// All the commands the first time; then, in the same directory, those that are not `keygen`.
fn readme_commands_once(sandbox: &Sandbox) -> String {
    let commands = readme_commands();
    if !sandbox.path("ca.pem").exists() {
        return commands;
    }
    let rest = commands.lines().filter(|line| !line.contains("keygen"));
    rest.collect::<Vec<_>>().join("\n")
}
