//! A person at a terminal: Ctrl-C, Ctrl-Z and fg, programs that read the terminal. `script` provides the terminal.

use crate::common::{Running, Sandbox, Wrapped, tools::need};
use crate::script;

/// Runs a shell line on a terminal of its own; what the test sends is typed.
fn at_terminal(sandbox: &Sandbox, line: &str) -> Running {
    // Without the shell that `script` starts: it would get the keys' signals too.
    let line = format!("exec {line}");
    let terminal = sandbox
        .plain(need("script"))
        .args(["-q", "-f", "-e", "-c", &line])
        .arg("/dev/null");
    terminal
        .env("PS1", "prompt> ")
        .env("TERM", "dumb")
        .env("SHELL", "/bin/sh")
        .piped()
        .spawn()
}

/// An interactive bash with job control.
fn bash(sandbox: &Sandbox) -> Running {
    let mut bash = at_terminal(
        sandbox,
        &format!(
            "{} --norc --noprofile --noediting -i",
            need("bash").display()
        ),
    );
    bash.wait_stdout("prompt> ");
    bash
}

fn type_line(shell: &mut Running, line: &str) {
    shell.send(format!("{line}\n"));
}

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const CTRL_D: &str = "\x04";

fn shell_program(sandbox: &Sandbox, text: &str) -> Wrapped {
    sandbox.wrap(need("sh")).args(["-c", text])
}

#[test]
fn it_is_a_terminal() {
    let sandbox = Sandbox::new();
    let line = shell_program(
        &sandbox,
        "test -t 0 && test -t 1 && test -t 2 && stty size && exit 6",
    )
    .shell_line();
    let done = at_terminal(&sandbox, &line).finish();
    assert_eq!(done.status.code(), Some(6), "{}", done.text());
}

#[test]
fn reading_a_line() {
    let sandbox = Sandbox::new();
    let line = shell_program(&sandbox, "echo ask; read x; echo got:$x:").shell_line();
    let mut terminal = at_terminal(&sandbox, &line);
    terminal.wait_stdout("ask");
    terminal.send("answer\n");
    terminal.wait_stdout("got:answer:");
    terminal.finish().success();
}

/// The terminal sends SIGINT to the whole foreground group: the program must not get a second one from front.
#[test]
fn ctrl_c_arrives_once() {
    let sandbox = Sandbox::new();
    let mut terminal = at_terminal(&sandbox, &script(&sandbox, "signals.py").shell_line());
    terminal.wait_stdout("ready");
    for round in 1..=3 {
        terminal.send(CTRL_C);
        crate::common::wait_until("SIGINT", || {
            terminal.stdout().matches("got SIGINT").count() >= round
        });
    }
    // Ctrl-\ is SIGQUIT, and comes after anything that was sent for the earlier keys.
    terminal.send("\x1c");
    terminal.wait_stdout("got SIGQUIT");
    assert_eq!(
        terminal.stdout().matches("got SIGINT").count(),
        3,
        "{}",
        terminal.stdout()
    );
}

#[test]
fn ctrl_c_ends_a_program() {
    let sandbox = Sandbox::new();
    let mut shell = bash(&sandbox);
    type_line(
        &mut shell,
        &shell_program(&sandbox, "echo read''y; exec sleep 600").shell_line(),
    );
    shell.wait_stdout("ready");
    shell.send(CTRL_C);
    type_line(&mut shell, "echo status:$?:");
    shell.wait_stdout("status:130:");
    type_line(&mut shell, "exit");
    shell.finish().success();
}

/// Ctrl-Z gives the prompt back, `fg` the program its terminal, twice.
#[test]
fn ctrl_z_and_fg() {
    let sandbox = Sandbox::new();
    let mut shell = bash(&sandbox);
    let program = "echo read''y; while read x; do echo go''t:$x:; done; exit 3";
    type_line(&mut shell, &shell_program(&sandbox, program).shell_line());
    shell.wait_stdout("ready");
    for round in 1..=2 {
        shell.send(CTRL_Z);
        crate::common::wait_until("the shell says Stopped", || {
            shell.stdout().matches("Stopped").count() >= round
        });
        type_line(&mut shell, &format!("echo shel''l-{round}"));
        shell.wait_stdout(&format!("shell-{round}"));
        type_line(&mut shell, "fg");
        type_line(&mut shell, &format!("words-{round}"));
        shell.wait_stdout(&format!("got:words-{round}:"));
    }
    shell.send(CTRL_D);
    type_line(&mut shell, "echo status:$?:");
    shell.wait_stdout("status:3:");
    type_line(&mut shell, "exit");
    shell.finish().success();
}

/// A background job that reads the terminal is stopped by it, and the shell notices.
#[test]
fn reading_from_the_background() {
    let sandbox = Sandbox::new();
    let mut shell = bash(&sandbox);
    let program = shell_program(&sandbox, "echo read''y; read x; echo go''t:$x:");
    type_line(&mut shell, &format!("set -b; {} &", program.shell_line()));
    shell.wait_stdout("ready");
    shell.wait_stdout("Stopped");
    type_line(&mut shell, "fg");
    type_line(&mut shell, "late");
    shell.wait_stdout("got:late:");
    type_line(&mut shell, "exit");
    shell.finish().success();
}

/// Hanging up the terminal ends the program.
#[test]
fn hangup() {
    let sandbox = Sandbox::new();
    let pidfile = sandbox.path("pid");
    let program = format!(
        "echo $$ > {}; echo read''y; exec sleep 600",
        pidfile.display()
    );
    let mut terminal = at_terminal(&sandbox, &shell_program(&sandbox, &program).shell_line());
    terminal.wait_stdout("ready");
    terminal.signal(nix::sys::signal::Signal::SIGKILL);
    let pid = std::fs::read_to_string(&pidfile).expect("the program's pid");
    let gone = || !std::path::Path::new("/proc").join(pid.trim()).exists();
    crate::common::wait_until("the program has gone", gone);
}
