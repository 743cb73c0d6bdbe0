//! The three processes: front (the pid that the caller sees), supervisor (its child), target (the
//! supervisor's child).
//!
//! front and target share the caller's process group and terminal, so job control works as without
//! quicwrap; the supervisor leaves the session, so that neither Ctrl-C nor a hang-up ends it before it
//! has delivered what the program wrote.
#![forbid(unsafe_code)]

mod access;
mod environment;
mod front;
mod target;

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, SigmaskHow, sigprocmask},
        socket::MsgFlags,
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, setsid},
};
use seccompiler::BpfProgram;

use crate::{
    cli::{FAILURE, Mode, Options, SettingsError},
    network::{Network, Settings},
    policy::TooMany,
    stats::{
        self,
        report::{Identity, Kind},
    },
    supervisor::{Front, Hooks, Notice, Supervisor, filter, limits},
    sys::{
        fd::receive_with_fd,
        process::{Fork, fork},
        seccomp::Listener,
    },
    trust::{Trust, TrustError},
    zpoline::{self, FastPath, ImageError, Low, Sockets, Unavailable},
};

use access::Denied;

/// Longest time that bytes of ended programs are kept for a peer that does not take them: about what
/// Linux grants an orphaned TCP socket (tcp(7), tcp_orphan_retries).
const ORPHAN_LIFE: Duration = Duration::from_secs(120);

/// Why the program was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// Certificates, keys, the state directory.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Options about connections that contradict one another.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// `--socket` names too many.
    #[error(transparent)]
    Sockets(#[from] TooMany),
    /// The seccomp filter cannot be built.
    #[error("internal error: the seccomp filter: {0}")]
    Filter(#[from] seccompiler::Error),
    /// `--mode zpoline` where it cannot work.
    #[error(transparent)]
    FastPath(#[from] Unavailable),
    /// What the supervisor needs is forbidden.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// fork(2).
    #[error(
        "cannot start a process: {0}; raise the limit of processes (ulimit -u, systemd's TasksMax=)"
    )]
    Fork(Errno),
    /// The code of the fast path.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What the supervisor waits with.
    #[error(
        "the supervisor cannot go on: {0}; the program's socket calls fail from now on (ENOSYS), start it again"
    )]
    Serving(Errno),
    /// A system call that starting needs.
    #[error("cannot start: {0}")]
    System(#[from] Errno),
    /// The same, from the standard library.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// Everything that is needed after the forks, made before them: what is wrong with it is said before
/// the program starts.
struct Plan<'a> {
    options: &'a Options,
    /// The process that the caller has started.
    front: Pid,
    settings: Settings,
    program: &'a [CString],
    filter: BpfProgram,
    /// The fast path that programs get, if any.
    fast_path: Option<Low>,
    /// The caller's signal mask, which the program inherits.
    mask: SigSet,
    /// Descriptors the caller handed down beside the standard ones: the program's alone. Held open
    /// elsewhere, a pipe would never end.
    inherited: Vec<i32>,
}

/// Runs `program` wrapped, and returns the exit status to end with.
///
/// # Errors
/// What keeps the program from being started at all.
pub(crate) fn run(
    options: &Options,
    program: &[CString],
    inherited: Vec<i32>,
) -> Result<u8, LaunchError> {
    let settings = options.network()?;
    let trust = Trust::load(&options.trust())?;
    let fast_path = fast_path(options.mode())?;
    let filter = filter::program(&options.sockets()?, fast_path.is_some())?;
    let mut mask = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut mask))?;
    let plan = Plan {
        options,
        front: getpid(),
        settings,
        program,
        filter,
        fast_path,
        mask,
        inherited,
    };
    let (ours, supervisors) = UnixStream::pair()?;
    // Should the supervisor be killed, the target becomes the front's child.
    prctl::set_child_subreaper(true)?;
    match fork().map_err(LaunchError::Fork)? {
        Fork::Child => {
            drop(ours);
            let status = supervise(&plan, trust, supervisors).unwrap_or_else(|error| {
                let _ = writeln!(io::stderr(), "quicwrap: {error}");
                FAILURE
            });
            std::process::exit(status.into());
        }
        Fork::Parent(supervisor) => {
            drop(supervisors);
            close_inherited(&plan);
            Ok(front::run(ours, supervisor, plan.fast_path.is_some())?)
        }
    }
}

/// The fast path that programs get.
fn fast_path(mode: Mode) -> Result<Option<Low>, Unavailable> {
    match mode {
        Mode::Seccomp => Ok(None),
        Mode::Zpoline => {
            zpoline::available()?;
            Ok(Some(zpoline::low()))
        }
        Mode::Auto => match zpoline::available() {
            Ok(()) => Ok(Some(zpoline::low().where_nulls_fail())),
            Err(why) => {
                tracing::info!("--mode auto takes seccomp: {why}");
                Ok(None)
            }
        },
    }
}

/// The supervisor process. Returns its exit status, which only its own failures make known.
fn supervise(plan: &Plan<'_>, trust: Trust, mut channel: UnixStream) -> Result<u8, LaunchError> {
    prctl::set_child_subreaper(true)?;
    let (ours, targets) = UnixStream::pair()?;
    let target = match fork().map_err(LaunchError::Fork)? {
        Fork::Child => {
            drop((ours, channel));
            let status = target::run(plan, targets);
            std::process::exit(status.into());
        }
        Fork::Parent(target) => target,
    };
    // The same number in the target.
    let targets_channel = targets.as_raw_fd();
    drop(targets);
    channel.write_all(&target.as_raw().to_ne_bytes())?;
    // After the fork: the target stays in the caller's session and process group.
    setsid()?;
    close_inherited(plan);
    detach_standard_streams()?;
    raise_open_files_limit();
    let Some(listener) = receive_listener(&ours) else {
        return report_stillborn(target, channel);
    };
    access::check(target, targets_channel)?;
    if let Err(error) = listener.set_sync_wake_up() {
        tracing::info!(%error, "trapped calls are slower than they could be: Linux 6.6 has a faster wake-up");
    }
    serve(plan, trust, listener, target, channel, ours)
}

fn serve(
    plan: &Plan<'_>,
    trust: Trust,
    listener: Listener,
    target: Pid,
    channel: UnixStream,
    mut ready: UnixStream,
) -> Result<u8, LaunchError> {
    let limits = limits::read();
    let fast_path = match plan.fast_path {
        Some(low) => {
            let sockets = Sockets::new(limits);
            let fast_path = FastPath::new(sockets.clone(), low, &plan.options.sockets()?)?;
            Some((fast_path, sockets))
        }
        None => None,
    };
    let supervisor = Supervisor::new(listener, limits, fast_path)?;
    let events = Arc::clone(&supervisor);
    let network = Network::start(trust, plan.settings.clone(), events)?;
    supervisor.set_transport(Arc::clone(&network) as _);
    ready.write_all(&[1])?;
    drop(ready);
    // The program starts meanwhile.
    let state_dir = plan.options.trust().state_dir;
    let serving = stats::serve(&network, identity(plan, target), state_dir.as_deref());
    let front = Front {
        channel: Some(channel),
        target,
        linger: plan.options.linger(),
    };
    let hooks = Hooks {
        begin_drain: &|| network.drain(),
        released: &release_standard_error,
    };
    let mut farewell = supervisor.run(front, hooks).map_err(LaunchError::Serving)?;
    if !network.deliver(plan.options.linger()) {
        if let Some(farewell) = farewell.take() {
            farewell.send();
        }
        release_standard_error();
        if !network.deliver(ORPHAN_LIFE) {
            tracing::warn!("a peer has not taken what the program sent it; given up");
        }
    }
    drop(serving);
    network.finish();
    // Only now may the caller start a successor: the ports are free.
    if let Some(farewell) = farewell {
        farewell.send();
    }
    Ok(0)
}

/// What `quicwrap stats` names this by.
fn identity(plan: &Plan<'_>, target: Pid) -> Identity {
    let words = plan.program.iter();
    Identity {
        kind: Kind::Program,
        pid: target.as_raw(),
        front_pid: plan.front.as_raw(),
        supervisor_pid: getpid().as_raw(),
        command: words
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
    }
}

/// The target has ended before it was wrapped: its status is the result. It has said why, unless it was killed.
fn report_stillborn(target: Pid, mut channel: UnixStream) -> Result<u8, LaunchError> {
    let code = match waitpid(target, None)? {
        WaitStatus::Exited(_, code) => code as u8,
        WaitStatus::Signaled(_, signal, _) => {
            let remedy = access::remedy(signal).unwrap_or_else(|| "start it again".to_owned());
            let _ = writeln!(
                io::stderr(),
                "quicwrap: {signal} has ended the program before it was wrapped; {remedy}"
            );
            FAILURE
        }
        _ => FAILURE,
    };
    channel.write_all(&Notice::Ended(code).encode())?;
    Ok(0)
}

fn receive_listener(from: &UnixStream) -> Option<Listener> {
    let mut byte = [0];
    let fd = receive_with_fd(from.as_fd(), &mut byte, MsgFlags::empty());
    fd.ok().flatten().map(Listener::from)
}

/// The program's input and output are not ours: a pipe that we held would not end with the program.
fn detach_standard_streams() -> Result<(), LaunchError> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(())
}

/// The front process has gone and daemons go on: whoever waits for the end of standard error is not
/// kept waiting. A log file goes on.
fn release_standard_error() {
    let null = File::options().write(true).open("/dev/null");
    if let Err(error) = null.map(|null| dup2_stderr(&null)) {
        tracing::debug!(%error, "standard error stays open");
    }
}

/// A connection takes a descriptor here. The target's own limit stays what it was.
pub(crate) fn raise_open_files_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays low (ulimit -n)");
    }
}

/// The descriptors from 3 on that the caller handed down. To be asked before any other is opened.
pub(crate) fn inherited_descriptors() -> Vec<i32> {
    let listed: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // The folder's own descriptor was listed too, and is closed by now.
    let is_open = |fd: &i32| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok();
    listed
        .into_iter()
        .filter(|fd| *fd > 2 && is_open(fd))
        .collect()
}

fn close_inherited(plan: &Plan<'_>) {
    for &fd in &plan.inherited {
        crate::sys::process::close_inherited(fd);
    }
}
