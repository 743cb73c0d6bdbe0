//! The server and the client of `c/`, each wrapped on its own, and both supervisors' use of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::common::{
    PATIENCE, Running, Sandbox, becomes_true, native, net::free_port, running, tools, wait_until,
};
use crate::usage::Usage;

/// Descriptors that the largest test needs in each process: 10,000 connections and some room.
const DESCRIPTORS: u64 = 12_000;

/// Descriptors that may be more in a supervisor that rests: those of seven threads that were first wanted meanwhile, four
/// each, a copy of a socket, a file of /proc just being read. What is lost with connections is lost by the hundred.
pub(crate) const FEW: usize = 32;

/// What supervisors' allocators do with freed pages.
#[derive(Clone, Copy)]
enum Spare {
    /// They are given back at once: what a supervisor's memory shows is what it has in use.
    GivenBack,
    /// They are kept for later, as where no test asks.
    Kept,
}

/// A program that obeys lines, and the process that is measured: its supervisor, or itself when it runs plainly.
pub(crate) struct Program {
    running: Running,
    measured: Pid,
    answers: usize,
}

impl Program {
    fn start(sandbox: &Sandbox, binary: &Path, port: u16, greeting: &str, spare: Spare) -> Self {
        // The soft limit is 1,024 in most places.
        let raise = ["sh", "-c", "ulimit -n $(ulimit -Hn) && exec \"$@\"", "sh"];
        let command = sandbox.wrap(binary).arg(port.to_string()).piped();
        let command = match spare {
            Spare::GivenBack => command.env("MIMALLOC_PURGE_DELAY", "0"),
            Spare::Kept => command,
        };
        let mut running = command.through(raise).spawn();
        running.wait_stdout(greeting);
        let measured = if native() {
            running.pid()
        } else {
            running::children(running.pid())[0]
        };
        Program {
            running,
            measured,
            answers: 1,
        }
    }

    /// Gives an order and waits for the answer.
    pub(crate) fn ask(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    /// Gives an order that is answered later.
    pub(crate) fn order(&mut self, order: &str) {
        self.running.send(format!("{order}\n"));
    }

    /// Waits for the answer to an order.
    pub(crate) fn answer(&mut self) -> String {
        let mut answer = None;
        becomes_true(PATIENCE, || {
            let ended = self.running.ended();
            let text = self.running.stdout();
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            answer = whole.lines().nth(self.answers).map(str::to_owned);
            answer.is_some() || ended
        });
        self.answers += 1;
        answer.unwrap_or_else(|| panic!("no answer\n{}", self.running.stderr()))
    }

    /// Gives an order whose answer is "done" and a number.
    pub(crate) fn count(&mut self, order: &str) -> usize {
        let answer = self.ask(order);
        let number = answer.strip_prefix("done ").and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("{order}: {answer}"))
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.measured)
    }

    /// Kills it outright and waits for its end, and for its supervisor's.
    fn kill(self) {
        self.running.signal(Signal::SIGKILL);
        self.running.finish();
        wait_until("the supervisor of a killed program to end", || {
            // Whoever inherits it may be slow to collect it.
            running::process_state(self.measured).is_none_or(|state| state == 'Z')
        });
    }

    fn finish(self) {
        let done = self.running.finish().success();
        // The line of the first contact with the server is said once; anything else is trouble.
        let reports = done
            .stderr
            .lines()
            .filter(|line| !line.contains("first contact"));
        assert_eq!(reports.count(), 0, "reports of trouble: {}", done.stderr);
    }
}

/// What the server has seen, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stats {
    pub(crate) opened: usize,
    pub(crate) open: usize,
    pub(crate) answered: usize,
    /// Connections that ended in order.
    pub(crate) ended: usize,
    pub(crate) reset: usize,
}

impl Stats {
    fn parse(line: &str) -> Self {
        let words: Vec<_> = line.split_whitespace().collect();
        let value = |name: &str| {
            let at = words.iter().position(|word| *word == name);
            let value = at.and_then(|at| words.get(at + 1)?.parse().ok());
            value.unwrap_or_else(|| panic!("no {name} in {line:?}"))
        };
        Stats {
            opened: value("opened"),
            open: value("open"),
            answered: value("answered"),
            ended: value("ended"),
            reset: value("reset"),
        }
    }
}

/// Both programs.
pub(crate) struct Pair {
    pub(crate) server: Program,
    pub(crate) client: Program,
    pub(crate) port: u16,
    sandbox: Sandbox,
    rest: [usize; 2],
    spare: Spare,
    _alone: MutexGuard<'static, ()>,
}

/// One pair at a time: a sweep of closed sockets reads the list of all AF_UNIX sockets, so thousands of another test's
/// would show in a supervisor's memory.
static ALONE: Mutex<()> = Mutex::new(());

impl Pair {
    /// Starts both. One connection has been made, so that what is made once is there.
    pub(crate) fn start() -> Self {
        Self::start_with(Spare::GivenBack)
    }

    /// The same with supervisors that keep freed memory as they do everywhere.
    pub(crate) fn start_as_ever() -> Self {
        Self::start_with(Spare::Kept)
    }

    fn start_with(spare: Spare) -> Self {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit of open files");
        assert!(
            hard >= DESCRIPTORS,
            "these tests open 10,000 connections at once, and the hard limit of open files is {hard}: \
             raise it to {DESCRIPTORS} or more (ulimit -Hn, LimitNOFILE, docker run --ulimit)"
        );
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let sandbox = Sandbox::new();
        let port = free_port();
        let server = Program::start(
            &sandbox,
            &build(&sandbox, "server"),
            port,
            "listening",
            spare,
        );
        let client = Program::start(&sandbox, &build(&sandbox, "client"), port, "ready", spare);
        let mut pair = Pair {
            server,
            client,
            port,
            sandbox,
            rest: [0; 2],
            spare,
            _alone: alone,
        };
        pair.client.count("short 1 100");
        pair.wait_empty();
        // What else the first connection has opened and will close: wait until it stands still.
        wait_until("supervisors at rest", || {
            let now = pair.usage().map(|usage| usage.descriptors);
            std::mem::replace(&mut pair.rest, now) == now
        });
        pair
    }

    /// Of the server's side and the client's.
    pub(crate) fn usage(&self) -> [Usage; 2] {
        [self.server.usage(), self.client.usage()]
    }

    pub(crate) fn stats(&mut self) -> Stats {
        Stats::parse(&self.server.ask("stats"))
    }

    /// Waits until the server has seen the end of each connection that it accepted.
    pub(crate) fn wait_empty(&mut self) -> Stats {
        self.wait_stats("all connections to end at the server", |stats| {
            stats.open == 0
        })
    }

    pub(crate) fn wait_stats(&mut self, what: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
        let mut stats = Stats::default();
        let there = becomes_true(PATIENCE, || {
            stats = self.stats();
            holds(&stats)
        });
        assert!(there, "waited in vain for {what}: {stats:?}");
        stats
    }

    /// Waits until both sides have as many descriptors as at the start, and says what they use then.
    pub(crate) fn wait_rest(&self) -> [Usage; 2] {
        let mut usage = self.usage();
        let at_rest = |usage: &[Usage; 2]| {
            let mut both = usage.iter().zip(self.rest);
            both.all(|(now, before)| now.descriptors <= before + FEW)
        };
        let there = becomes_true(PATIENCE, || {
            usage = self.usage();
            at_rest(&usage)
        });
        assert!(
            there,
            "descriptors stay behind: {usage:?}, before {:?}",
            self.rest
        );
        usage
    }

    /// Kills the client, and starts another one.
    pub(crate) fn replace_client(&mut self) {
        let binary = self.sandbox.path("client");
        let client = Program::start(&self.sandbox, &binary, self.port, "ready", self.spare);
        std::mem::replace(&mut self.client, client).kill();
    }

    /// Ends both, which must have had nothing to report.
    pub(crate) fn finish(self) {
        self.client.finish();
        self.server.finish();
    }
}

fn build(sandbox: &Sandbox, name: &str) -> PathBuf {
    let here = Path::new(file!()).parent().expect("a directory");
    let binary = sandbox.path(name);
    let mut cc = Command::new(tools::need("cc"));
    cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&binary)
        .arg(here.join(format!("c/{name}.c")));
    let built = cc.output().expect("the compiler runs");
    let report = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "cc {name}.c: {report}");
    binary
}
