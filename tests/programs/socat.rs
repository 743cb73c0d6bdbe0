//! socat in many of its modes, at both ends.

use std::path::PathBuf;
use std::process::Command;

use crate::common::{Done, Running, Sandbox, net::free_port, tools, wait_until};

const SIZE: usize = 5 << 20;

struct Socat {
    sandbox: Sandbox,
    port: u16,
    input: PathBuf,
}

impl Socat {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let input = sandbox.path("input");
        tools::random_file(&input, SIZE, 71);
        Socat {
            sandbox,
            port: free_port(),
            input,
        }
    }

    /// PORT and DIR in an address become this test's.
    fn address(&self, address: &str) -> String {
        let dir = self.sandbox.path("").display().to_string();
        address
            .replace("PORT", &self.port.to_string())
            .replace("DIR", dir.trim_end_matches('/'))
    }

    fn spawn(&self, options: &[&str], left: &str, right: &str) -> Running {
        let socat = self.sandbox.wrap(tools::need("socat")).args(options);
        let socat = socat.args([self.address(left), self.address(right)]);
        socat.input(&self.input).spawn()
    }

    fn server(&self, options: &[&str], listen: &str, target: &str) -> Running {
        let options = [options, &["-d", "-d"]].concat();
        let mut server = self.spawn(&options, listen, target);
        server.wait_stderr("listening on");
        server
    }

    /// A client that waits as long as it takes for the other side once its own has ended.
    fn client(&self, address: &str) -> Done {
        self.spawn(&["-t60"], "-", address).finish().success()
    }

    /// The input goes through the server and comes back whole, `times` times at once.
    #[track_caller]
    fn comes_back(&self, address: &str, times: usize) {
        let start = |_| self.spawn(&["-t60"], "-", address);
        let clients: Vec<Running> = (0..times).map(start).collect();
        let expected = std::fs::read(&self.input).expect("the input");
        for client in clients {
            let back = client.finish().success().stdout;
            assert!(
                back == expected,
                "{address}: {} bytes came back",
                back.len()
            );
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.sandbox.path(name)).unwrap_or_default()
    }
}

const FORK: &str = "TCP4-LISTEN:PORT,bind=127.0.0.1,reuseaddr,fork";

/// A child for each connection, and a program behind it: on a socket pair, and on the connection itself.
#[test]
fn fork_and_exec() {
    for exec in ["EXEC:cat", "EXEC:cat,nofork", "SYSTEM:cat | cat"] {
        let socat = Socat::new();
        let _server = socat.server(&["-t60"], FORK, exec);
        socat.comes_back("TCP4:127.0.0.1:PORT,nodelay", 3);
    }
}

/// On pipes socat 1.7 does not pass the end of file on in both directions, so each goes by itself.
#[test]
fn exec_on_pipes() {
    let socat = Socat::new();
    let server = socat.server(
        &["-u"],
        "TCP4-LISTEN:PORT,reuseaddr",
        "SYSTEM:cat > DIR/got,pipes",
    );
    socat
        .spawn(&["-u"], "-", "TCP4:127.0.0.1:PORT")
        .finish()
        .success();
    server.finish().success();
    let arrived = || socat.read("got") == socat.read("input");
    wait_until("cat has written all", arrived);

    let server = socat.server(
        &["-U"],
        "TCP4-LISTEN:PORT,reuseaddr",
        "EXEC:cat DIR/input,pipes",
    );
    let got = socat
        .spawn(&["-u"], "TCP4:127.0.0.1:PORT", "-")
        .finish()
        .success();
    server.finish().success();
    assert!(
        got.stdout == socat.read("input"),
        "{} bytes",
        got.stdout.len()
    );
}

#[test]
fn exec_on_a_terminal() {
    let socat = Socat::new();
    let shell = "EXEC:sh -i,pty,stderr,setsid,ctty,sane";
    let _server = socat.server(&["-t60"], FORK, shell);
    let address = socat.address("TCP4:127.0.0.1:PORT");
    let client = socat
        .sandbox
        .wrap(tools::need("socat"))
        .args(["-t60", "-", &address]);
    let mut client = client.env("PS1", "ready-").piped().spawn();
    client.send("echo $((6 * 7)); tty\n");
    client.wait_stdout("42");
    client.wait_stdout("/dev/pts/");
    client.send("exit\n");
    client.finish().success();
}

#[test]
fn ipv6() {
    let socat = Socat::new();
    let _server = socat.server(
        &["-t60"],
        "TCP6-LISTEN:PORT,reuseaddr,fork,ipv6only=0",
        "EXEC:cat",
    );
    socat.comes_back("TCP6:[::1]:PORT", 2);
    socat.comes_back("TCP4:127.0.0.1:PORT", 2);
    socat.comes_back("TCP:localhost:PORT", 1);
}

/// What the connection's child is told of the addresses; the client chooses its own port.
#[test]
fn names() {
    let socat = Socat::new();
    let echo = "echo $SOCAT_PEERADDR $SOCAT_PEERPORT $SOCAT_SOCKADDR $SOCAT_SOCKPORT";
    socat.sandbox.file("names.sh", echo);
    let listen = format!("{FORK},range=127.0.0.1/32");
    let _server = socat.server(&[], &listen, "EXEC:sh DIR/names.sh");
    let own = free_port();
    let address = format!("TCP4:127.0.0.1:PORT,sourceport={own},reuseaddr");
    let text = socat
        .spawn(&["-u"], &address, "-")
        .finish()
        .success()
        .text();
    assert_eq!(text, format!("127.0.0.1 {own} 127.0.0.1 {}\n", socat.port));
}

/// Peers out of range are turned away after accept.
#[test]
fn out_of_range() {
    let socat = Socat::new();
    let mut server = socat.server(&[], &format!("{FORK},range=10.0.0.0/8"), "EXEC:cat");
    let client = socat.spawn(&["-u"], "TCP4:127.0.0.1:PORT", "-").finish();
    assert_eq!(client.text(), "");
    server.wait_stderr("refusing connection from");
}

/// UNIX socket → TCP → UNIX socket, each relay a wrapped socat of its own.
#[test]
fn unix_relays() {
    let socat = Socat::new();
    let listen = |name: &str| format!("UNIX-LISTEN:DIR/{name},fork");
    let end = socat.server(&["-t60"], &listen("end"), "EXEC:cat");
    let _server = socat.server(&["-t60"], FORK, "UNIX-CONNECT:DIR/end");
    let start = socat.server(&["-t60"], &listen("start"), "TCP4:127.0.0.1:PORT");
    socat.comes_back("UNIX-CONNECT:DIR/start", 3);
    drop((start, end));
}

/// Another file each way at the same time, every direction ending by itself.
#[test]
fn both_ways_at_once() {
    let socat = Socat::new();
    let [up, down] = ["up", "down"].map(|f| socat.sandbox.path(f));
    tools::random_file(&up, 40 << 20, 72);
    tools::random_file(&down, 50 << 20, 73);
    let files = |from: &str, to: &str| format!("OPEN:DIR/{from},rdonly!!CREATE:DIR/{to}");
    let options = ["-t60", "-b", "100000"];
    let server = socat.server(
        &options,
        "TCP4-LISTEN:PORT,reuseaddr",
        &files("down", "got-up"),
    );
    let client = socat.spawn(&options, "TCP4:127.0.0.1:PORT", &files("up", "got-down"));
    client.finish().success();
    server.finish().success();
    for (sent, got) in [(up, "got-up"), (down, "got-down")] {
        assert_eq!(
            tools::sha256(&socat.sandbox.path(got)),
            tools::sha256(&sent),
            "{got}"
        );
    }
}

/// The client's end of sending reaches the server, whose answer comes on the other half.
#[test]
fn half_close() {
    let socat = Socat::new();
    let _server = socat.server(&["-t60"], FORK, "EXEC:sha256sum");
    let sum = format!("{}  -\n", tools::sha256(&socat.input));
    for shut in ["", ",shut-down"] {
        assert_eq!(
            socat.client(&format!("TCP4:127.0.0.1:PORT{shut}")).text(),
            sum,
            "{shut:?}"
        );
    }
}

/// Without a shutdown the server sees the end when the client gives up waiting, and nothing is lost.
#[test]
fn no_half_close() {
    let socat = Socat::new();
    let server = socat.server(&["-u"], "TCP4-LISTEN:PORT", "CREATE:DIR/got");
    socat
        .spawn(&["-t0.2"], "-", "TCP4:127.0.0.1:PORT,shut-none")
        .finish()
        .success();
    server.finish().success();
    assert_eq!(
        tools::sha256(&socat.sandbox.path("got")),
        tools::sha256(&socat.input)
    );
}

/// Server after server on one port, with the addresses of the connection before still warm.
#[test]
fn one_port_again_and_again() {
    let socat = Socat::new();
    for _ in 0..5 {
        let server = socat.server(&["-t60"], "TCP4-LISTEN:PORT,reuseaddr", "EXEC:cat");
        socat.comes_back("TCP4:127.0.0.1:PORT", 1);
        server.finish().success();
    }
}

/// The client is refused until there is a server.
#[test]
fn retry() {
    let socat = Socat::new();
    let address = "TCP4:127.0.0.1:PORT,retry=1000,interval=0.05";
    let mut client = socat.spawn(&["-t60", "-d", "-d", "-d"], "-", address);
    client.wait_stderr("Connection refused");
    let _server = socat.server(&["-t60"], FORK, "EXEC:cat");
    let back = client.finish().success().stdout;
    assert!(
        back == socat.read("input"),
        "{} bytes came back",
        back.len()
    );
}

#[test]
fn crnl() {
    let socat = Socat::new();
    socat.sandbox.file("input", "one\ntwo\n\nthree\n");
    let server = socat.server(&["-u"], "TCP4-LISTEN:PORT", "CREATE:DIR/raw");
    socat.client("TCP4:127.0.0.1:PORT,crnl");
    server.finish().success();
    assert_eq!(socat.read("raw"), b"one\r\ntwo\r\n\r\nthree\r\n");
}

/// TLS over QUIC's: the certificates of both sides are checked.
#[test]
fn openssl() {
    let socat = Socat::new();
    for name in ["server", "client"] {
        certificate(&socat, name);
    }
    let listen = "OPENSSL-LISTEN:PORT,reuseaddr,fork,cert=DIR/server.pem,cafile=DIR/client.pem";
    let _server = socat.server(&["-t60"], listen, "EXEC:cat");
    let address = "OPENSSL:localhost:PORT,pf=ip4,cert=DIR/client.pem,cafile=DIR/server.pem";
    socat.comes_back(address, 3);
    // Without a certificate the server ends the handshake.
    let stranger = socat.spawn(
        &["-t60"],
        "-",
        "OPENSSL:localhost:PORT,pf=ip4,cafile=DIR/server.pem",
    );
    assert_eq!(stranger.finish().text(), "");
}

/// NAME.pem: a self-signed certificate for localhost and its key.
fn certificate(socat: &Socat, name: &str) {
    let path = |ending: &str| socat.sandbox.path(&format!("{name}.{ending}"));
    let mut openssl = Command::new(tools::need("openssl"));
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-days",
        "2",
    ]);
    openssl
        .arg("-keyout")
        .arg(path("key"))
        .arg("-out")
        .arg(path("crt"));
    let made = openssl.output().expect("openssl runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let both = [path("crt"), path("key")].map(|p| std::fs::read_to_string(p).expect("a file"));
    socat.sandbox.file(&format!("{name}.pem"), both.concat());
}
