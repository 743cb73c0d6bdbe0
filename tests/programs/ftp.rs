//! FTP, whose data connections' addresses travel in the control connection: vsftpd ↔ curl and lftp, active and
//! passive, IPv4 and IPv6.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, chown};

use crate::common::{Done, Running, Sandbox, net::free_port, set_mode, tools};
use crate::trees;

struct Ftp {
    sandbox: Sandbox,
    port: u16,
}

impl Ftp {
    fn new(listen: &str, settings: &str) -> Self {
        let sandbox = Sandbox::new();
        let port = free_port();
        let dir = sandbox.path("").display().to_string();
        for name in ["empty", "root", "root/up", "tree"] {
            std::fs::create_dir(sandbox.path(name)).expect("a directory");
        }
        give_to_ftp(&sandbox.path("root/up"));
        tools::random_file(&sandbox.path("root/file"), 8 << 20, 81);
        tools::random_file(&sandbox.path("local"), 6 << 20, 82);
        let user = Uid::effective();
        let alone = if user.is_root() {
            ""
        } else {
            "run_as_launching_user=YES\n"
        };
        let conf = format!(
            "{listen}\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\n\
             write_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\nanon_other_write_enable=YES\n\
             anon_world_readable_only=NO\nanon_umask=022\nanon_root={dir}/root\nftp_username=ftp\n\
             nopriv_user=nobody\nsecure_chroot_dir={dir}/empty\nvsftpd_log_file={dir}/vsftpd.log\n\
             {alone}{settings}\n"
        );
        sandbox.file("vsftpd.conf", conf);
        Ftp { sandbox, port }
    }

    fn start(&self) -> Running {
        let vsftpd = self.sandbox.wrap(tools::need("vsftpd"));
        let mut server = vsftpd.arg(self.sandbox.path("vsftpd.conf")).spawn();
        server.wait_listening(self.port);
        crate::wait_accepting(&self.sandbox, self.port);
        server
    }

    /// A path on the server as clients must name it: vsftpd changes its root only if it has the right to.
    fn remote(&self, name: &str) -> String {
        match Uid::effective().is_root() {
            true => format!("/{name}"),
            false => format!("/{}", self.path("root").join(name).display()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    fn curl(&self, host: &str, name: &str, args: &[&str]) -> Done {
        let url = format!("ftp://{host}:{}/{}", self.port, self.remote(name));
        let curl = self.sandbox.wrap(tools::need("curl"));
        curl.arg("-sSv").args(args).arg(url).run().success()
    }

    /// A file each way and a listing; `answer` is what the server must have said to the way that was asked for.
    fn transfers(&self, host: &str, args: &[&str], answer: &str) {
        let got = self.path("got").display().to_string();
        let down = self.curl(host, "file", &[args, &["-o", &got]].concat());
        down.stderr_has(answer);
        assert_eq!(
            tools::sha256(&self.path("got")),
            tools::sha256(&self.path("root/file"))
        );
        let local = self.path("local").display().to_string();
        let up = self.curl(host, "up/sent", &[args, &["-T", &local]].concat());
        up.stderr_has(answer);
        let sent = self.path("root/up/sent");
        assert_eq!(tools::sha256(&sent), tools::sha256(&self.path("local")));
        std::fs::remove_file(sent).expect("the upload is there");
        let list = self
            .curl(host, "", &[args, &["--list-only"]].concat())
            .text();
        let mut names: Vec<&str> = list.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["file", "up"]);
    }
}

/// Uploads go to a directory of their own: vsftpd refuses a root directory that its user could write to.
fn give_to_ftp(dir: &Path) {
    if Uid::effective().is_root() {
        let ftp = User::from_name("ftp").expect("the user database");
        let ftp = ftp.expect("the user that vsftpd's package makes");
        chown(dir, Some(ftp.uid), Some(ftp.gid)).expect("chown");
    }
}

const IPV4: &str = "listen=YES\nlisten_address=127.0.0.1";
const IPV6: &str = "listen=NO\nlisten_ipv6=YES";

/// The server listens for the data, and says where.
#[test]
fn passive() {
    let ftp = Ftp::new(IPV4, "");
    let _server = ftp.start();
    ftp.transfers(
        "127.0.0.1",
        &["--disable-epsv"],
        "227 Entering Passive Mode (127,0,0,1,",
    );
    ftp.transfers("127.0.0.1", &[], "229 Entering Extended Passive Mode");
}

/// The client listens for the data, and says where; the server connects.
#[test]
fn active() {
    let ftp = Ftp::new(IPV4, "");
    let _server = ftp.start();
    let port = ["--disable-eprt", "-P", "-"];
    ftp.transfers("127.0.0.1", &port, "200 PORT command successful");
    ftp.transfers("127.0.0.1", &["-P", "-"], "200 EPRT command successful");
}

#[test]
fn ipv6() {
    let ftp = Ftp::new(IPV6, "");
    let _server = ftp.start();
    ftp.transfers("[::1]", &[], "229 Entering Extended Passive Mode");
    ftp.transfers("[::1]", &["-P", "-"], "200 EPRT command successful");
    // An IPv4 client of the same listener.
    ftp.transfers(
        "127.0.0.1",
        &["--disable-epsv"],
        "227 Entering Passive Mode (127,0,0,1,",
    );
}

/// One process for each session, with the rights it began with.
#[test]
fn one_process_model() {
    let ftp = Ftp::new(IPV4, "one_process_model=YES");
    let _server = ftp.start();
    ftp.transfers("127.0.0.1", &[], "229 Entering Extended Passive Mode");
    ftp.transfers("127.0.0.1", &["-P", "-"], "200 EPRT command successful");
}

/// A whole tree there and back, several files at a time.
#[test]
fn lftp_mirrors_a_tree() {
    let ftp = Ftp::new(IPV4, "");
    let _server = ftp.start();
    trees::plant(&ftp.path("tree"), 83, 10);
    std::fs::remove_file(ftp.path("tree/link")).expect("FTP knows no links");
    set_mode(&ftp.path("tree/run.sh"), 0o644);
    for passive in ["on", "off"] {
        let there = ftp.remote(&format!("up/passive-{passive}"));
        let back = ftp.path(&format!("back-{passive}"));
        let script = format!(
            "set net:max-retries 2; set net:timeout 20; set ftp:passive-mode {passive}; set cmd:fail-exit yes;
             open ftp://127.0.0.1:{}; mirror -R --parallel=4 {} {there}; mirror --parallel=4 {there} {}; bye",
            ftp.port,
            ftp.path("tree").display(),
            back.display()
        );
        let lftp = ftp.sandbox.wrap(tools::need("lftp"));
        let lftp = lftp
            .env("HOME", ftp.path(""))
            .args(["--norc", "-c", &script]);
        lftp.run().success();
        trees::assert_same(&ftp.path("tree"), &back);
    }
}
