//! OpenSSH: sshd ↔ ssh and scp.

use std::path::Path;
use std::process::Command;

use crate::common::{Running, Sandbox, Wrapped, net::free_port, tools};

struct Ssh {
    sandbox: Sandbox,
    port: String,
    options: Vec<String>,
}

/// sshd wants /run/sshd; where the machine has none it gets one of its own rather than leaving it behind.
const OWN_RUN: &str = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec \"$@\"";

impl Ssh {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        for key in ["host", "user"] {
            let keygen = tools::need("ssh-keygen");
            let made = Command::new(keygen)
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(sandbox.path(key))
                .status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        let options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "LogLevel=ERROR",
        ];
        let mut options: Vec<String> = options
            .iter()
            .flat_map(|o| ["-o".to_owned(), (*o).to_owned()])
            .collect();
        options.extend([
            "-F".into(),
            "/dev/null".into(),
            "-i".into(),
            sandbox.path("user").display().to_string(),
        ]);
        Ssh {
            sandbox,
            port: free_port().to_string(),
            options,
        }
    }

    fn server(&self) -> Running {
        let path = |name: &str| self.sandbox.path(name).display().to_string();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUseDNS no\n\
             Subsystem sftp internal-sftp\n",
            self.port,
            path("host"),
            path("user.pub"),
            path("sshd.pid")
        );
        let config = self.sandbox.file("sshd_config", config);
        let mut sshd = self
            .sandbox
            .wrap(tools::need("sshd"))
            .args(["-D", "-e", "-f"])
            .arg(config);
        if nix::unistd::Uid::effective().is_root() && !Path::new("/run/sshd").is_dir() {
            sshd = sshd.through(["unshare", "-m", "sh", "-c", OWN_RUN, "sh"]);
        }
        let mut sshd = sshd.spawn();
        sshd.wait_stderr("Server listening on 127.0.0.1");
        sshd
    }

    fn ssh(&self) -> Wrapped {
        let command = self.sandbox.wrap(tools::need("ssh")).args(&self.options);
        command.args(["-p", &self.port, &format!("{}@127.0.0.1", user())])
    }

    fn scp(&self) -> Wrapped {
        self.sandbox
            .wrap(tools::need("scp"))
            .args(&self.options)
            .args(["-q", "-P", &self.port])
    }
}

fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::Uid::effective())
        .expect("the user database")
        .expect("a user")
        .name
}

#[test]
fn a_command() {
    let ssh = Ssh::new();
    let _server = ssh.server();
    let done = ssh
        .ssh()
        .arg("echo \"$SSH_CONNECTION\"; echo oops >&2; exit 3")
        .run()
        .exits(3);
    done.stderr_has("oops");
    let words: Vec<String> = done.text().split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        [&words[0], &words[2], &words[3]],
        ["127.0.0.1", "127.0.0.1", &ssh.port]
    );
}

/// A shell on a remote terminal, typed into while it runs.
#[test]
fn an_interactive_shell() {
    let ssh = Ssh::new();
    let _server = ssh.server();
    let mut shell = ssh
        .ssh()
        .args(["-tt", "env", "PS1=ready-", "sh", "-i"])
        .piped()
        .spawn();
    shell.wait_stdout("ready-");
    shell.send("echo $((6 * 7)) && tty\n");
    shell.wait_stdout("42");
    shell.wait_stdout("/dev/pts/");
    shell.send("exit 5\n");
    shell.finish().exits(5);
}

#[test]
fn data_through_a_pipe() {
    let ssh = Ssh::new();
    let _server = ssh.server();
    let input = ssh.sandbox.path("input");
    tools::random_file(&input, 20 << 20, 9);
    let done = ssh.ssh().arg("cat").input(&input).run().success();
    assert!(
        done.stdout == std::fs::read(&input).expect("the input"),
        "{} bytes came back",
        done.stdout.len()
    );
}

#[test]
fn scp_of_50_mb() {
    let ssh = Ssh::new();
    let _server = ssh.server();
    let [file, there, back] = ["file", "there", "back"].map(|f| ssh.sandbox.path(f));
    tools::random_file(&file, 50 << 20, 10);
    let remote = format!("{}@127.0.0.1:{}", user(), there.display());
    ssh.scp().arg(&file).arg(&remote).run().success();
    assert_eq!(tools::sha256(&there), tools::sha256(&file), "to the server");
    ssh.scp().arg(&remote).arg(&back).run().success();
    assert_eq!(tools::sha256(&back), tools::sha256(&file), "and back");
}
