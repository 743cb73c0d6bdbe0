//! Programs of socket calls: what they are made of, how proptest draws them, and the text the interpreter reads.

use std::fmt;

use proptest::prelude::*;

/// Processes, and slots for descriptors in each, as in `interpreter.c`.
const PROCESSES: u8 = 2;
const SLOTS: u8 = 4;

/// A place for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    process: u8,
    slot: u8,
}

/// One step, or a few that make sense together only: drawn singly they would rarely meet.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Call(Place, Call),
    /// socket, bind, listen.
    Listener(Place),
    /// socket, connect to what `to` holds.
    Client {
        at: Place,
        to: Place,
        wait: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Socket,
    Bind,
    /// bind to the port that another place's socket has.
    Rebind(Place),
    Listen,
    Connect {
        to: Place,
        wait: bool,
    },
    /// The connection goes to this slot of the same process.
    Accept(u8),
    Send(u32),
    Recv(u32),
    Peek(u32),
    Shutdown(u8),
    Close,
    Dup(u8),
    Names,
    Error,
    Linger,
    Reuse,
}

/// A whole program, printed one call a line.
#[derive(Clone)]
pub(crate) struct Program(Vec<Step>);

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| step.write(f))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program\n{self}")
    }
}

impl Step {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Call(at, call) => call.write(*at, f),
            Step::Listener(at) => [Call::Socket, Call::Bind, Call::Listen]
                .iter()
                .try_for_each(|call| call.write(*at, f)),
            Step::Client { at, to, wait } => {
                Call::Socket.write(*at, f)?;
                let connect = Call::Connect {
                    to: *to,
                    wait: *wait,
                };
                connect.write(*at, f)
            }
        }
    }
}

impl Call {
    fn write(&self, at: Place, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (process, slot) = (at.process, at.slot);
        let mut line = |name: &str, rest: String| writeln!(f, "{process} {name} {slot}{rest}");
        match self {
            Call::Socket => line("socket", String::new()),
            Call::Bind => line("bind", String::new()),
            Call::Rebind(to) => line("rebind", format!(" {} {}", to.process, to.slot)),
            Call::Listen => line("listen", String::new()),
            Call::Connect { to, wait } => line(
                "connect",
                format!(" {} {} {}", to.process, to.slot, u8::from(*wait)),
            ),
            Call::Accept(into) => line("accept", format!(" {into}")),
            Call::Send(size) => line("send", format!(" {size}")),
            Call::Recv(size) => line("recv", format!(" {size}")),
            Call::Peek(size) => line("peek", format!(" {size}")),
            Call::Shutdown(how) => line("shutdown", format!(" {how}")),
            Call::Close => line("close", String::new()),
            Call::Dup(into) => line("dup", format!(" {into}")),
            Call::Names => line("names", String::new()),
            Call::Error => line("error", String::new()),
            Call::Linger => line("linger", String::new()),
            Call::Reuse => line("reuse", String::new()),
        }
    }
}

fn place() -> impl Strategy<Value = Place> {
    // Low slots more often, so that steps meet.
    let slot = prop_oneof![4 => Just(0), 3 => Just(1), 2 => Just(2), 1 => Just(SLOTS - 1)];
    (0..PROCESSES, slot).prop_map(|(process, slot)| Place { process, slot })
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![2 => 1..20u32, 2 => 1..2000u32, 1 => 2000..12_000u32]
}

fn call() -> impl Strategy<Value = Call> {
    let connect = (place(), any::<bool>()).prop_map(|(to, wait)| Call::Connect { to, wait });
    prop_oneof![
        2 => Just(Call::Socket),
        2 => Just(Call::Bind),
        1 => place().prop_map(Call::Rebind),
        2 => Just(Call::Listen),
        4 => connect,
        8 => (0..SLOTS).prop_map(Call::Accept),
        8 => size().prop_map(Call::Send),
        8 => size().prop_map(Call::Recv),
        2 => size().prop_map(Call::Peek),
        5 => (0..3u8).prop_map(Call::Shutdown),
        5 => Just(Call::Close),
        2 => (0..SLOTS).prop_map(Call::Dup),
        2 => Just(Call::Names),
        2 => Just(Call::Error),
        1 => Just(Call::Linger),
        1 => Just(Call::Reuse),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (place(), call()).prop_map(|(at, call)| Step::Call(at, call)),
        1 => place().prop_map(Step::Listener),
        2 => (place(), place(), any::<bool>()).prop_map(|(at, to, wait)| Step::Client { at, to, wait }),
    ]
}

/// Programs that begin with a listener and a client of it, and go on anyhow.
pub(crate) fn program() -> impl Strategy<Value = Program> {
    let first = (place(), place(), any::<bool>()).prop_map(|(listener, at, wait)| {
        vec![
            Step::Listener(listener),
            Step::Client {
                at,
                to: listener,
                wait,
            },
        ]
    });
    let rest = prop::collection::vec(step(), 1..24);
    (prop_oneof![4 => first, 1 => Just(Vec::new())], rest).prop_map(|(mut steps, rest)| {
        steps.extend(rest);
        Program(steps)
    })
}
