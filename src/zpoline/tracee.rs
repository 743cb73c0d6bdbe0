//! A thread of the program that is stopped for a moment, and runs what it is told: system calls and code
//! of the image.
//!
//! Nothing here waits in the kernel for the thread to stop: wait(2) is for the notification thread, which
//! collects children and tracees alike, and would take a stop or an exit status from here, or this from
//! there. A stop is found by asking for its reason until there is one.
#![forbid(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

use libc::{siginfo_t, user_regs_struct};
use nix::{
    errno::Errno,
    sched::sched_yield,
    sys::ptrace,
    unistd::{Pid, gettid},
};

use super::{process::Status, site::SYSCALL};
use crate::sys::{
    ptrace::{Resume, resume, set_signal_mask, signal_mask},
    seccomp::{Listener, Trapped},
};

/// ERESTARTNOINTR (linux/errno.h): the kernel makes the call again, in any case.
const ERESTARTNOINTR: i32 = 513;
/// All signals but SIGTRAP, by which the thread comes back.
const ALL_BUT_TRAP: u64 = !(1 << (libc::SIGTRAP - 1));
/// PTRACE_EVENT_STOP (linux/ptrace.h), in `si_code` above the signal.
const EVENT_STOP: i32 = 128;

/// For so long the processor is merely offered to others between two looks: a stop takes 10 to 50 µs.
const SOON: Duration = Duration::from_micros(200);
/// Shortest and longest pause between looks after that.
const PAUSE: Duration = Duration::from_micros(50);
const LONG_PAUSE: Duration = Duration::from_millis(100);
/// From such a pause on it is also asked whether there is anything to wait for.
const DOUBT: Duration = Duration::from_millis(1);

/// A stopped thread. It goes on where it was when this is dropped.
pub(super) struct Tracee {
    pid: Pid,
    memory: File,
    /// Its registers at the call, which it is going to make again.
    registers: user_regs_struct,
    mask: u64,
    /// A SIGTRAP that somebody has sent meanwhile, or 0.
    deferred: i32,
}

/// Why a thread has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It was asked to; or its process is stopped or goes on.
    Event,
    /// An instruction of its own.
    Trap,
    /// A signal is to be delivered.
    Signal(i32),
}

impl Stop {
    fn of(info: &siginfo_t) -> Self {
        match (info.si_signo, info.si_code) {
            (_, code) if code >> 8 == EVENT_STOP => Self::Event,
            // Of the kernel's making, and not sent by somebody (sigaction(2), si_code).
            (libc::SIGTRAP, 1..) => Self::Trap,
            (signal, _) => Self::Signal(signal),
        }
    }
}

/// Stops the thread that waits in `trapped`, and lets it make the call again afterwards. None if it has
/// gone meanwhile, or the call is not ours to answer: `claim` is asked when it can be stopped. `lend` is
/// done then, while it still waits.
///
/// # Errors
/// EPERM: it is traced already, or the kernel's settings forbid it. ESRCH: it has ended.
pub(super) fn stop(
    listener: &Listener,
    trapped: &Trapped,
    claim: impl FnOnce() -> bool,
    lend: impl FnOnce(),
) -> nix::Result<Option<Tracee>> {
    let pid = Pid::from_raw(trapped.tid);
    let memory = memory(trapped.tid)?;
    // This waits while another thread of its process is in execve(2).
    ptrace::seize(pid, ptrace::Options::empty())?;
    let claimed = claim();
    if claimed {
        lend();
    }
    // The answer wakes it; the stop comes before it is back in the program.
    ptrace::interrupt(pid)?;
    let answered = claimed && listener.answer(trapped.id, 0, -ERESTARTNOINTR).is_ok();
    let signal = match wait_for_stop(pid) {
        Ok(Stop::Event) => 0,
        Ok(Stop::Trap) => libc::SIGTRAP,
        Ok(Stop::Signal(signal)) => signal,
        // It has ended. Nobody waits for an answer.
        Err(_) => return Ok(None),
    };
    let stopped = ptrace::getregs(pid).and_then(|registers| Ok((registers, signal_mask(pid)?)));
    match stopped {
        Ok((registers, mask)) if answered && signal == 0 && waits_in(&registers, trapped) => {
            let tracee = Tracee {
                pid,
                memory,
                registers: again(registers),
                mask,
                deferred: 0,
            };
            set_signal_mask(pid, ALL_BUT_TRAP)?;
            Ok(Some(tracee))
        }
        _ => {
            let freed = resume(pid, Resume::Free, signal);
            tracing::debug!(%pid, signal, ?freed, "a thread stopped otherwise than asked");
            Ok(None)
        }
    }
}

/// Waits until a thread stops that this one traces: for ever, should it be frozen (cgroups(7)).
///
/// # Errors
/// ESRCH: it has ended.
fn wait_for_stop(pid: Pid) -> nix::Result<Stop> {
    let begun = Instant::now();
    let mut pause = PAUSE;
    loop {
        match ptrace::getsiginfo(pid) {
            Ok(info) => return Ok(Stop::of(&info)),
            Err(Errno::ESRCH) => {}
            Err(error) => return Err(error),
        }
        if begun.elapsed() < SOON {
            let _ = sched_yield();
            continue;
        }
        // Its number may be another's: of the thread that executes a program, or of another process.
        if pause >= DOUBT && !is_traced_here(pid) {
            return Err(Errno::ESRCH);
        }
        thread::sleep(pause);
        pause = (2 * pause).min(LONG_PAUSE);
    }
}

fn is_traced_here(pid: Pid) -> bool {
    let status = Status::of(pid.as_raw());
    status.is_some_and(|status| status.tracer == gettid().as_raw())
}

fn waits_in(registers: &user_regs_struct, trapped: &Trapped) -> bool {
    registers.rip == trapped.instruction_pointer
        && registers.rax.cast_signed() == -i64::from(ERESTARTNOINTR)
        && registers.orig_rax.cast_signed() == trapped.number
}

/// What the kernel makes of the registers for a call that is made again.
fn again(registers: user_regs_struct) -> user_regs_struct {
    user_regs_struct {
        rip: registers.rip - SYSCALL.len() as u64,
        rax: registers.orig_rax,
        // No call: nothing more is to be made again.
        orig_rax: u64::MAX,
        ..registers
    }
}

/// The program's memory. What it may not write itself can be written here.
///
/// # Errors
/// As open(2).
pub(super) fn memory(tid: i32) -> nix::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{tid}/mem"))
        .map_err(errno)
}

/// Writes all of `bytes`.
///
/// # Errors
/// EIO, EFAULT: no memory there, or a kernel that was told to forbid it (`proc_mem.force_override`).
pub(super) fn write(memory: &File, at: u64, bytes: &[u8]) -> nix::Result<()> {
    memory.write_all_at(bytes, at).map_err(errno)
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl Tracee {
    /// Its memory.
    pub(super) fn memory(&self) -> &File {
        &self.memory
    }

    /// Lets it make a system call, with the instruction that trapped.
    ///
    /// # Errors
    /// Of the call; ESRCH: it has ended.
    pub(super) fn system_call(&mut self, number: i64, arguments: [u64; 6]) -> nix::Result<u64> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let rax = number.cast_unsigned();
        let registers = user_regs_struct {
            rax,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        let result = self.go(registers, Resume::Step)?.rax;
        match result.cast_signed() {
            error @ -4095..0 => Err(Errno::from_raw(-error as i32)),
            _ => Ok(result),
        }
    }

    /// Lets it run code at `address` with these registers up to a trap.
    ///
    /// # Errors
    /// ESRCH: it has ended.
    pub(super) fn run(
        &mut self,
        address: u64,
        [r12, r13, r14]: [u64; 3],
    ) -> nix::Result<user_regs_struct> {
        let registers = user_regs_struct {
            rip: address,
            r12,
            r13,
            r14,
            ..self.registers
        };
        self.go(registers, Resume::Run)
    }

    fn go(&mut self, registers: user_regs_struct, how: Resume) -> nix::Result<user_regs_struct> {
        ptrace::setregs(self.pid, registers)?;
        let mut signal = 0;
        loop {
            resume(self.pid, how, signal)?;
            signal = match wait_for_stop(self.pid)? {
                Stop::Trap => return ptrace::getregs(self.pid),
                Stop::Event => 0,
                // It stops its process, as ever, unless SIGCONT has come since: the kernel knows. This
                // thread is stopped for us then, goes on for us, and stops again when it is let go.
                Stop::Signal(libc::SIGSTOP) => libc::SIGSTOP,
                Stop::Signal(libc::SIGTRAP) => {
                    self.deferred = libc::SIGTRAP;
                    0
                }
                // A fault in what it was made to do: another thread has unmapped that, say.
                Stop::Signal(_) => return Err(Errno::EFAULT),
            };
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let freed = set_signal_mask(self.pid, self.mask)
            .and_then(|()| ptrace::setregs(self.pid, self.registers))
            .and_then(|()| resume(self.pid, Resume::Free, self.deferred));
        if let Err(error) = freed {
            tracing::debug!(pid = %self.pid, %error, "a thread ended while the fast path was set up");
        }
    }
}
