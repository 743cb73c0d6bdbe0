//! The configuration file: its places, what wins over it, and what is wrong with it.

use std::fs;

use crate::common::{Done, Sandbox, command::QUICWRAP, tools::need};
use crate::identity::Identity;
use crate::{echo_server, plain, script};

/// quicwrap with these arguments, variables, and file.
fn with_file(text: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    let sandbox = Sandbox::new();
    sandbox.file("c.toml", text);
    let arguments = [&["--config", "c.toml"], arguments].concat();
    plain(&sandbox, &arguments, variables)
}

/// What `--explain` says of the carrier, without the address.
fn explained(done: Done) -> String {
    let done = done.success();
    assert_eq!(done.stderr, "");
    let text = done.text();
    let (_, carrier) = text.trim_end().split_once("80: ").expect("an answer");
    carrier.to_owned()
}

const TARGET: [&str; 2] = ["--explain", "10.0.0.1:80"];

#[test]
fn flags_win_over_environment_over_file() {
    wrapped_only!();
    let file = "# rules\ntcp = [\"10.0.0.0/8\", \":22\"]\n";
    let from_file = explained(with_file(file, &TARGET, &[]));
    assert!(
        from_file.starts_with("TCP: --tcp 10.0.0.0/8, from /"),
        "{from_file}"
    );
    assert!(from_file.ends_with("/c.toml:2"), "{from_file}");
    let variables = [("QUICWRAP_TCP", "10.0.0.0/16")];
    assert_eq!(
        explained(with_file(file, &TARGET, &variables)),
        "TCP: --tcp 10.0.0.0/16, from QUICWRAP_TCP"
    );
    let flags = [&["--tcp", "10.0.0.0/24"][..], &TARGET].concat();
    assert_eq!(
        explained(with_file(file, &flags, &variables)),
        "TCP: --tcp 10.0.0.0/24, from the command line"
    );
    // Another option is the file's still.
    let flags = [&["--quic", ":443"][..], &TARGET].concat();
    let still = explained(with_file(file, &flags, &[]));
    assert!(still.ends_with("/c.toml:2"), "{still}");
}

/// The user's file, and only without one the host's.
#[test]
fn both_places() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let (host, own) = (sandbox.path("etc"), sandbox.path("own"));
    for (directory, rule) in [
        (host.join("quicwrap"), "10.0.0.0/8"),
        (own.join("quicwrap"), ":80"),
    ] {
        fs::create_dir_all(&directory).expect("a directory");
        let text = format!("tcp = \"{rule}\"\n");
        fs::write(directory.join("config.toml"), text).expect("a file");
    }
    need("unshare");
    let explain = |variable: &str, value: &std::path::Path| {
        let inner = "mount --bind \"$1\" /etc; shift; exec \"$@\"";
        let unshare = if nix::unistd::Uid::effective().is_root() {
            "-m"
        } else {
            "-rm"
        };
        let command = sandbox
            .plain("unshare")
            .args([unshare, "sh", "-c", inner, "sh"])
            .arg(&host)
            .arg("env")
            .args(["-u", "QUICWRAP_CONFIG", "-u", "XDG_CONFIG_HOME"])
            .arg(format!("{variable}={}", value.display()))
            .arg(QUICWRAP)
            .args(TARGET);
        explained(command.run())
    };
    let of_host = "TCP: --tcp 10.0.0.0/8, from /etc/quicwrap/config.toml:1";
    let of_user = format!(
        "TCP: --tcp :80, from {}/quicwrap/config.toml:1",
        own.display()
    );
    assert_eq!(explain("XDG_CONFIG_HOME", &own), of_user);
    assert_eq!(explain("XDG_CONFIG_HOME", &sandbox.path("none")), of_host);
    assert_eq!(explain("HOME", &sandbox.path("none")), of_host);
    // A relative one does not count, XDG base directory specification.
    assert_eq!(
        explain("XDG_CONFIG_HOME", std::path::Path::new("own")),
        of_host
    );
    fs::rename(&own, sandbox.path(".config")).expect("renamed");
    let home = sandbox.path(".config");
    let of_user = of_user.replace("/own/", "/.config/");
    assert_eq!(explain("HOME", home.parent().expect("a parent")), of_user);
}

/// setpriv(1) and s6-setuidgid change the user and leave HOME.
#[test]
fn another_users_home() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let home = ["env", "-u", "QUICWRAP_CONFIG", "HOME=/root"];
    let done = sandbox.wrap("true").user().through(home).run().success();
    assert_eq!(done.stderr, "");
}

#[test]
fn no_file_at_all() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let empty = [("XDG_CONFIG_HOME", "/no/such/directory")];
    let done = plain(&sandbox, &TARGET, &empty);
    assert_eq!(
        explained(done),
        "QUIC: no rule matches, and QUIC is the default"
    );
    // A file that is named must be there.
    let done = plain(&sandbox, &TARGET, &[("QUICWRAP_CONFIG", "missing.toml")]).exits(125);
    ["missing.toml", "No such file", "--config"]
        .iter()
        .for_each(|word| done.stderr_has(word));
    let done = with_file("", &["--config", ".", "--explain", "10.0.0.1:80"], &[]).exits(125);
    done.stderr_has("cannot be used multiple times");
    let done = plain(&sandbox, &["--config", ".", "--", "true"], &[]).exits(125);
    done.stderr_has("Is a directory");
}

/// Options that need one another may be in different places; paths are relative to the file.
#[test]
fn a_certificate_of_the_file() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox, "fleet");
    let below = sandbox.path("below");
    fs::create_dir(&below).expect("a directory");
    let name = |path: &std::path::Path| path.file_name().expect("a name").to_owned();
    let (cert, key) = (name(&identity.cert), name(&identity.key));
    let both = format!(
        "server-cert = \"../{}\"\nserver-key = \"../{}\"\nidle-timeout = 60\n",
        cert.display(),
        key.display()
    );
    let both_file = below.join("both.toml");
    fs::write(&both_file, both).expect("a file");
    let cert_file = below.join("cert.toml");
    fs::write(
        &cert_file,
        format!("server-cert = \"../{}\"\n", cert.display()),
    )
    .expect("a file");

    let port = crate::common::net::free_port();
    let server = script(&sandbox, "echo.py")
        .option("--config")
        .option(&cert_file);
    let server = server.option("--server-key").option(&identity.key);
    let _server = echo_server(server, port);
    let client = script(&sandbox, "connect.py")
        .option("--config")
        .option(&both_file);
    let done = client.arg(port.to_string()).run().success();
    assert_eq!(
        (done.text().as_str(), done.stderr.as_str()),
        ("echoed\n", "")
    );
}

#[test]
fn switches() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let said = |text: &str, variable: Option<&str>| {
        let file = sandbox.file("switch.toml", text);
        let mut command = sandbox.wrap(need("true")).env("QUICWRAP_CONFIG", file);
        if let Some(value) = variable {
            command = command.env("QUICWRAP_INSECURE", value);
        }
        command.run().success().stderr
    };
    assert!(said("insecure = true", None).contains("--insecure"));
    assert_eq!(said("insecure = false", None), "");
    assert_eq!(said("insecure = true", Some("0")), "");
    assert!(said("insecure = false", Some("1")).contains("--insecure"));
}

/// What is wrong is said before the program runs, with the file and the line.
#[test]
fn bad_files() {
    wrapped_only!();
    for (text, words) in [
        (
            "\nlinter = 5",
            &[
                "c.toml:2: there is no option \"linter\"",
                "did you mean linger?",
            ][..],
        ),
        (
            "idle-timeout = \"60\"",
            &["c.toml:1: idle-timeout must be an integer, not a string"],
        ),
        (
            "idle-timeout = 0",
            &["c.toml:1: invalid value '0'", "--idle-timeout"],
        ),
        (
            "tcp = [\n\":22\",\n\"db\"]",
            &["c.toml:3: invalid value 'db'", "not an IP address"],
        ),
        (
            "insecure = 1",
            &["c.toml:1: insecure must be true or false, not an integer"],
        ),
        ("log = ", &["c.toml:1: this is not TOML"]),
        (
            "explain = \"x:1\"",
            &["c.toml:1: \"explain\" is an option of the command line alone"],
        ),
        ("demo = true", &["c.toml:1: there is no option \"demo\""]),
        (
            "program = \"x\"",
            &["c.toml:1: there is no option \"program\""],
        ),
        (
            "tcp = \":22\"\nquic = \":22\"",
            &["--tcp :22 and --quic :22"],
        ),
        (
            "server-key = \"k\"",
            &[
                "--server-cert",
                "quicwrap: these are from /",
                "c.toml: --server-key (line 1)",
            ],
        ),
    ] {
        let done = with_file(text, &["--", "echo", "it ran"], &[]).exits(125);
        assert_eq!(done.text(), "", "the program ran");
        words.iter().for_each(|word| done.stderr_has(word));
    }
    let sandbox = Sandbox::new();
    let file = sandbox.file("c.toml", b"log = \"\xff\"");
    let file = file.to_str().expect("UTF-8");
    let done = plain(&sandbox, &["--config", file, "--", "true"], &[]).exits(125);
    done.stderr_has("c.toml: stream did not contain valid UTF-8");
}

/// Help needs no file, and commands have none of these options.
#[test]
fn what_reads_no_file() {
    wrapped_only!();
    with_file("nonsense", &["--help"], &[]).success();
    let sandbox = Sandbox::new();
    let file = sandbox.file("c.toml", "nonsense");
    let variables = [("QUICWRAP_CONFIG", file.to_str().expect("UTF-8"))];
    plain(&sandbox, &["doctor"], &variables).success();
}
