//! What the program inherits: environment, descriptors, signal dispositions, limits, user. Natively and wrapped
//! the same report must come out.

use crate::common::{Sandbox, Wrapped, net::free_port, tools::need};
use crate::{echo_server, script};

/// A shell script's output must be the same natively and wrapped; returns it.
fn same(script: &str, prepare: impl Fn(Wrapped) -> Wrapped) -> String {
    let sandbox = Sandbox::new();
    let run = |command: Wrapped| prepare(command).args(["-c", script]).run().success().text();
    let native = run(sandbox.plain(need("sh")));
    assert_eq!(run(sandbox.wrap(need("sh"))), native);
    native
}

#[test]
fn surroundings() {
    let text = same(
        "pwd; umask; ulimit -n; ulimit -s; ulimit -c; nice; tty; echo $0",
        |c| c,
    );
    assert!(text.lines().count() >= 7, "{text}");
}

#[test]
fn environment() {
    let text = same("env | grep -v -e ^QUICWRAP -e ^_= | sort", |c| {
        c.env("SOME_VARIABLE", "some value")
    });
    assert!(text.contains("SOME_VARIABLE=some value\n"), "{text}");
}

/// What names the process that systemd has started names the program: sd_listen_fds(3), sd_watchdog_enabled(3).
#[test]
fn variables_that_name_the_process() {
    const STARTED: &str = "LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$@\"";
    let names = "for pid in $LISTEN_PID $WATCHDOG_PID; do [ $pid = $$ ] && echo ours; done";
    let text = same(names, |c| c.through(["sh", "-c", STARTED, "sh"]));
    assert_eq!(text, "ours\nours\n");
    let text = same("echo $LISTEN_PID $SYSTEMD_EXEC_PID", |c| {
        c.env("LISTEN_PID", "1").env("SYSTEMD_EXEC_PID", "1")
    });
    assert_eq!(text, "1 1\n");
}

/// Blocked, ignored and caught signals. Rust's runtime ignores SIGPIPE, which must not reach the program.
#[test]
fn signal_dispositions() {
    let text = same(
        "exec grep -e SigBlk -e SigIgn -e SigCgt /proc/self/status",
        |c| c,
    );
    assert_eq!(text.lines().count(), 3);
    assert_eq!(ignored(&text) & ORDINARY, 0, "{text}");
}

/// All but the real-time signals, some of which the caller of the tests may ignore.
const ORDINARY: u64 = 0x7fff_ffff;

/// The SigIgn mask in lines of /proc/PID/status.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    u64::from_str_radix(line.expect("a SigIgn line").trim(), 16).expect("a mask")
}

#[test]
fn ignored_signals_stay_ignored() {
    let ignoring = ["sh", "-c", "trap '' PIPE HUP INT; exec \"$@\"", "sh"];
    let text = same("exec grep SigIgn /proc/self/status", |c| {
        c.through(ignoring)
    });
    // HUP is bit 0, INT bit 1, PIPE bit 12.
    assert_eq!(ignored(&text) & ORDINARY, 0x1003, "{text}");
}

/// quicwrap itself does without them until it has much to carry.
#[test]
fn huge_pages_stay_allowed_or_forbidden() {
    const THP: &str = "exec grep THP_enabled /proc/self/status";
    assert_eq!(same(THP, |c| c).lines().count(), 1);
    let forbid = "import ctypes, os, sys; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])";
    let text = same(THP, |c| c.through(["python3", "-c", forbid]));
    assert_eq!(text, "THP_enabled:\t0\n");
}

/// Every way to have some of 0, 1 and 2 closed.
#[test]
fn closed_standard_descriptors() {
    for closed in [
        "<&-",
        ">&-",
        "2>&-",
        "<&- >&-",
        "<&- 2>&-",
        ">&- 2>&-",
        "<&- >&- 2>&-",
    ] {
        let sandbox = Sandbox::new();
        let closing = [
            "sh".to_owned(),
            "-c".to_owned(),
            format!("exec \"$@\" {closed}"),
            "sh".to_owned(),
        ];
        let report = sandbox.path("report");
        let look = "for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && open=\"$open $n\"; done; echo open:$open > \"$1\"";
        let run = |command: Wrapped| {
            command
                .through(&closing)
                .args(["-c", look, "sh"])
                .arg(&report)
                .run()
                .success();
            std::fs::read_to_string(&report).expect("the report")
        };
        let native = run(sandbox.plain(need("sh")));
        assert_eq!(run(sandbox.wrap(need("sh"))), native, "with {closed}");
        assert!(native.starts_with("open:"), "{native}");
    }
}

/// Descriptors the caller opened are there, none of quicwrap's own are.
#[test]
fn descriptors() {
    let opening = [
        "sh",
        "-c",
        "exec 5</dev/null 7>/dev/zero; exec \"$@\"",
        "sh",
    ];
    let script = "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done";
    let open = same(script, |c| c.through(opening));
    for fd in ["0", "1", "2", "5", "7"] {
        assert!(open.lines().any(|l| l == fd), "{fd} is not open: {open}");
    }
}

/// Front and program share process group and session, so that terminal signals reach both.
#[test]
fn process_group() {
    let sandbox = Sandbox::new();
    let mut program = sandbox
        .wrap(need("sh"))
        .args(["-c", "cut -d' ' -f5,6 /proc/self/stat; read x"])
        .piped()
        .spawn();
    program.wait_stdout("\n");
    let text = program.stdout();
    let ids: Vec<i32> = text
        .split_whitespace()
        .map(|w| w.parse().expect("a number"))
        .collect();
    let session = nix::unistd::getsid(Some(program.pid())).expect("a session");
    assert_eq!(ids, [program.pid().as_raw(), session.as_raw()]);
}

#[test]
fn an_ordinary_user() {
    let sandbox = Sandbox::new();
    let uid = sandbox
        .wrap(need("id"))
        .arg("-u")
        .user()
        .run()
        .success()
        .text();
    assert_ne!(uid, "0\n");
    let port = free_port();
    let _server = echo_server(script(&sandbox, "echo.py").user(), port);
    let client = script(&sandbox, "connect.py").user().arg(port.to_string());
    assert_eq!(client.run().success().text(), "echoed\n");
}

/// Different users trust each other's servers on first contact like anybody else's.
#[test]
fn a_user_and_root() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let _server = echo_server(script(&sandbox, "echo.py").user(), port);
    let client = script(&sandbox, "connect.py").arg(port.to_string());
    assert_eq!(client.run().success().text(), "echoed\n");
}
