//! `--mode zpoline`: that calls are answered in the program, and what becomes of it where that cannot be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{
    Sandbox, Wrapped,
    command::QUICWRAP,
    running::{Done, Running},
    tools,
};
use crate::script_file;

/// So many calls of each kind, and of each option, to sockets that are emulated and to others.
const CALLS: &str = "
import socket
tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
tcp.bind(('127.0.0.1', 0))
listener = socket.create_server(('127.0.0.1', 0))
ends = socket.create_connection(listener.getsockname()), listener.accept()[0]
flags = socket.TCP_NODELAY, socket.TCP_CORK, socket.TCP_QUICKACK
numbers = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
for call in range(200):
    assert tcp.getsockname()[0] == '127.0.0.1'
    assert udp.getsockname() == ('0.0.0.0', 0)
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind('')
    for end in ends:
        for option, value in [(flag, call % 2) for flag in flags] + [(number, call % 127 + 1) for number in numbers]:
            end.setsockopt(socket.IPPROTO_TCP, option, value)
            assert end.getsockopt(socket.IPPROTO_TCP, option) == value
print('all well')
";
/// Looks for its own listener and another program's in the table that it has mapped.
const SEEN: &str = "
import socket, struct, subprocess, sys
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen()
for call in range(20):
    own = listener.getsockname()[1]
ports = [own] + [int(port) for port in sys.argv[2:]]
table = b''
for line in open('/proc/self/maps'):
    if 'quicwrap-sockets' in line:
        start = int(line.split('-')[0], 16)
        with open('/proc/self/mem', 'rb') as memory:
            memory.seek(start)
            table += memory.read(1 << 17)
print(*(struct.pack('=H', socket.AF_INET) + struct.pack('!H', port) in table for port in ports), flush=True)
if len(ports) == 1:
    subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[1], str(own)], check=True)
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    assert accepted.getpeername() == client.getsockname()
";
/// Hands a socket whose connection was refused to whoever comes to the path.
const GIVES: &str = "
import select, socket, sys
holder, refused = socket.socket(), socket.socket()
holder.bind(('127.0.0.1', 0))
refused.setblocking(False)
refused.connect_ex(holder.getsockname())
poll = select.poll()
poll.register(refused, select.POLLERR)
poll.poll()
with socket.socket(socket.AF_UNIX) as door:
    door.bind(sys.argv[1])
    door.listen()
    socket.send_fds(door.accept()[0], [b'x'], [refused.fileno()])
";
/// Takes it, and asks it for its error where others were asked before.
const TAKES: &str = "
import os, socket, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
with socket.socket(socket.AF_UNIX) as visitor:
    visitor.connect(sys.argv[1])
    given = socket.socket(fileno=socket.recv_fds(visitor, 1, 1)[1][0])
own = socket.socket()
for call in range(5):
    assert own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
print([given.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for call in range(2)])
";
/// Traps, at most, of calls that are answered in the program: some until a site is patched.
const FEW: usize = 20;

/// Not with the tests' own options, which may name another mode.
fn quicwrap(sandbox: &Sandbox, mode: &str, log: &str) -> Wrapped {
    let state = sandbox.path("state-of-mode");
    sandbox
        .plain(QUICWRAP)
        .args(["--mode", mode, "--log", log, "--state-dir"])
        .arg(state)
        .arg("--")
}

fn traps(report: &str) -> usize {
    let calls = ["getsockname(", "getsockopt(", "setsockopt(", "bind("];
    let is_one = |line: &&str| calls.iter().any(|call| line.contains(call));
    report.lines().filter(is_one).count()
}

#[test]
fn calls_are_answered_in_the_program() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let run = |mode| {
        let python = quicwrap(&sandbox, mode, "debug").arg(tools::python());
        let done = python.args(["-c", CALLS]).run().success();
        assert_eq!(done.text(), "all well\n");
        traps(&done.stderr)
    };
    assert!(run("seccomp") >= 1000);
    let few = run("zpoline");
    assert!(few < FEW, "{few} calls have trapped");
}

/// Neither root nor a sysctl is needed for programs of the C library.
#[test]
fn of_an_ordinary_user_too() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let python = sandbox.wrap(tools::python()).args(["-c", CALLS]).user();
    let python = python.env("QUICWRAP_MODE", "zpoline");
    let done = python.env("QUICWRAP_LOG", "debug").run().success();
    assert_eq!(done.text(), "all well\n");
    let few = traps(&done.stderr);
    assert!(few < FEW, "{few} calls have trapped");
}

#[test]
fn what_is_executed_is_patched_anew() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let again = "import os, sys; exec(sys.argv[1]); os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])";
    let python = quicwrap(&sandbox, "zpoline", "debug").arg(tools::python());
    let done = python.args(["-c", again, CALLS]).run().success();
    assert_eq!(done.text().lines().last(), Some("all well"));
    let few = traps(&done.stderr);
    assert!(few < 2 * FEW, "{few} calls have trapped");
}

/// What it has executed has a table of its own.
#[test]
fn a_program_sees_no_others_sockets() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let python = quicwrap(&sandbox, "zpoline", "warn").arg(tools::python());
    let done = python.args(["-c", SEEN, SEEN]).run().success();
    assert_eq!(done.text(), "True\nTrue False\n");
}

/// Whose supervisor knows of it, and ours does not: the kernel's own answer is not to be lost.
#[test]
fn an_error_of_anothers_socket_is_told() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let door = sandbox.path("door");
    let program = |text| {
        quicwrap(&sandbox, "zpoline", "warn")
            .arg(tools::python())
            .args(["-c", text])
    };
    let gives = program(GIVES).arg(&door).spawn();
    let done = program(TAKES).arg(&door).run().success();
    assert_eq!(done.text(), format!("[{}, 0]\n", nix::libc::ECONNRESET));
    gives.finish().success();
}

#[test]
fn a_traced_quicwrap_refuses_and_auto_does_without() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let traced = |mode| {
        let words = quicwrap(&sandbox, mode, "info").arg("true").words();
        let strace = sandbox.plain(tools::need("strace"));
        strace
            .args(["-f", "-o", "/dev/null", "--"])
            .args(words)
            .run()
    };
    traced("zpoline").exits(125).stderr_has("--mode seccomp");
    traced("auto")
        .success()
        .stderr_has("--mode auto takes seccomp");
}

#[test]
fn where_ptrace_is_forbidden_it_is_refused_and_auto_does_without() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let script = script_file(&sandbox, "forbidden.py");
    for how in ["1", "SIGSYS"] {
        let forbidden = |mode| {
            let words = quicwrap(&sandbox, mode, "info").arg("true").words();
            let python = sandbox.plain(tools::python()).arg(&script);
            python.args(["ptrace", how]).args(words).run()
        };
        forbidden("zpoline").exits(125).stderr_has("allow ptrace");
        forbidden("auto")
            .success()
            .stderr_has("--mode auto takes seccomp");
    }
}

#[test]
fn a_traced_program_stays_slow() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let strace = quicwrap(&sandbox, "zpoline", "info").arg(tools::need("strace"));
    let strace = strace.args(["-f", "-o", "/dev/null"]).arg(tools::python());
    let done = strace.args(["-c", CALLS]).run().success();
    assert_eq!(done.text(), "all well\n");
    done.stderr_has("it is traced by");
}

fn compile(sandbox: &Sandbox, name: &str) -> PathBuf {
    let source = Path::new(file!())
        .with_file_name("c")
        .join(format!("{name}.c"));
    let program = sandbox.path(name);
    let mut cc = Command::new(tools::need("cc"));
    let built = cc
        .args(["-O1", "-g", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cc");
    program
}

/// In `accept`, called from a site that is patched.
fn waiting(sandbox: &Sandbox, program: &Path) -> Running {
    let mut waiting = quicwrap(sandbox, "zpoline", "debug").arg(program).spawn();
    waiting.wait_stdout("waits");
    waiting.wait_stderr("number=43");
    waiting
}

/// What gdb prints, without its user's settings.
fn gdb(sandbox: &Sandbox, arguments: &[&str], commands: &[&str]) -> Done {
    let gdb = sandbox.plain(tools::need("gdb"));
    let gdb = gdb.args(["-q", "-nx", "-batch"]).args(arguments);
    let commands = commands.iter().flat_map(|command| ["-ex", command]);
    gdb.args(commands).run()
}

fn shows(backtrace: &Done, functions: &[&str]) {
    let (text, stderr) = (backtrace.text(), &backtrace.stderr);
    for function in functions {
        assert!(text.contains(function), "no {function} in\n{text}{stderr}");
    }
}

const WAITING: &[&str] = &["accept", "wait_here", "main"];

#[test]
fn backtraces_lead_through_a_call() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "waits");
    let _waiting = waiting(&sandbox, &program);
    let pid = waits(&sandbox).to_string();
    shows(&gdb(&sandbox, &["-p", &pid], &["bt"]), WAITING);
}

/// As the kernel writes it, but for where, which is not ours to choose (core(5)).
#[test]
fn a_core_file_shows_who_has_made_a_call() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "waits");
    let _waiting = waiting(&sandbox, &program);
    let pid = waits(&sandbox).to_string();
    let core = sandbox.path("core");
    let write = format!("generate-core-file {}", core.display());
    gdb(&sandbox, &["-p", &pid], &[&write]).success();
    let files = [program, core].map(|file| file.display().to_string());
    let files = files.each_ref().map(String::as_str);
    shows(&gdb(&sandbox, &files, &["bt"]), WAITING);
}

#[test]
fn a_debugger_runs_and_stops_a_program() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "races");
    let gdb = quicwrap(&sandbox, "zpoline", "info").arg(tools::need("gdb"));
    // Not by a shell, which may make calls of its own; and code is left alone where a breakpoint has
    // changed its page, so the one in libc comes after a round of calls.
    let gdb = gdb.args(["-q", "-nx", "-batch", "-ex", "set startup-with-shell off"]);
    let gdb = gdb.args(["-ex", "break calls", "-ex", "run", "-ex", "continue"]);
    let gdb = gdb.args(["-ex", "break getpeername", "-ex", "continue"]);
    let gdb = gdb.args(["-ex", "bt", "-ex", "delete", "-ex", "continue"]);
    let done = gdb.arg("--args").arg(program).args(["calls", "1"]).run();
    shows(
        &done,
        &[
            "Breakpoint 2",
            "getpeername",
            "calls ()",
            "main",
            "exited normally",
        ],
    );
    done.stderr_has("it is traced by");
}

/// Runs tests/cli/c/races.c.
fn race(words: &[&str]) -> Done {
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "races");
    let races = quicwrap(&sandbox, "zpoline", "warn").arg(program);
    races.args(words).run()
}

#[test]
fn a_program_may_be_executed_while_a_thread_is_stopped() {
    wrapped_only!();
    assert_eq!(race(&["exec", "200"]).success().text(), "done\n");
}

#[test]
fn code_that_others_run_may_be_patched() {
    wrapped_only!();
    assert_eq!(race(&["patch", "100"]).success().text(), "done\n");
}

#[test]
fn a_process_that_is_stopped_and_continued_goes_on() {
    wrapped_only!();
    assert_eq!(race(&["stop", "300"]).success().text(), "done\n");
}

/// A cgroup of its own, with the freezer of cgroups(7), version 2.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("procfs");
        // proc_pid_mountinfo(5): the fifth field is where, the first behind " - " what.
        let place = mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let is_it = kind.starts_with("cgroup2 ");
            is_it.then(|| PathBuf::from(place.split(' ').nth(4).unwrap_or_default()))
        });
        let place = place.expect("a cgroup2 file system must be mounted for this test");
        let own = place.join(format!("quicwrap-test-{}", std::process::id()));
        std::fs::create_dir(&own)
            .unwrap_or_else(|error| panic!("{}, as root: {error}", own.display()));
        Self(own)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Empty by now, or the test has failed.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_process_that_is_frozen_and_thawed_goes_on_and_keeps_nobody_waiting() {
    wrapped_only!();
    let cgroup = Cgroup::new();
    let path = cgroup.0.to_str().unwrap();
    assert_eq!(race(&["freeze", "100", path]).success().text(), "done\n");
}

#[test]
fn the_exit_status_of_a_process_that_is_traced_arrives() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "races");
    for _ in 0..40 {
        let races = quicwrap(&sandbox, "zpoline", "warn").arg(&program);
        races.args(["exit", "1"]).run().exits(7);
    }
}

/// ptrace(2) waits for that, and nobody else does.
#[test]
fn a_thread_in_the_middle_of_execve_holds_up_nobody() {
    wrapped_only!();
    let sandbox = Sandbox::new();
    let program = compile(&sandbox, "races");
    let interpreter = sandbox.path("interpreter");
    std::fs::copy(interpreter_of(&program), &interpreter).unwrap();
    let executed = sandbox.path("executed");
    let mut cc = Command::new(tools::need("cc"));
    let mut option = OsString::from("-Wl,--dynamic-linker=");
    option.push(&interpreter);
    let source = sandbox.file(
        "executed.c",
        "int main(void) { return __builtin_puts(\"executed\") < 0; }",
    );
    let built = cc.arg("-o").arg(&executed).arg(source).arg(option).status();
    assert!(built.is_ok_and(|status| status.success()), "cc");
    let races = quicwrap(&sandbox, "zpoline", "info")
        .arg(program)
        .arg("held");
    let done = races.arg(executed).arg(interpreter).run().success();
    assert_eq!(done.text(), "answered\nexecuted\n");
    done.stderr_has("not stopped in time");
}

/// The dynamic linker that a program names.
fn interpreter_of(program: &Path) -> PathBuf {
    let mut readelf = Command::new(tools::need("readelf"));
    let headers = readelf.arg("-lW").arg(program).output().expect("readelf");
    let headers = String::from_utf8_lossy(&headers.stdout);
    let mut lines = headers.lines();
    let line = lines.find_map(|line| line.split_once("interpreter: "));
    let (_, path) = line.expect("a program that is linked dynamically");
    PathBuf::from(path.trim_end_matches(']'))
}

/// The pid of the program that waits.
fn waits(sandbox: &Sandbox) -> i32 {
    let is_it = |pid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "waits")
    };
    let found = sandbox.processes().into_iter().find(is_it);
    found.expect("the program runs")
}
