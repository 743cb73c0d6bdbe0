//! A thread of the program that is stopped for a moment, and runs what it is told: system calls and code
//! of the image.
#![forbid(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
};

use libc::user_regs_struct;
use nix::{
    errno::Errno,
    sys::{ptrace, signal::Signal, wait::WaitStatus},
    unistd::Pid,
};

use super::site::SYSCALL;
use crate::sys::{
    ptrace::{set_signal_mask, signal_mask, wait_for_stop},
    seccomp::{Listener, Trapped},
};

/// ERESTARTNOINTR (linux/errno.h): the kernel makes the call again, in any case.
const ERESTARTNOINTR: i32 = 513;
/// All signals but SIGTRAP, by which the thread comes back.
const ALL_BUT_TRAP: u64 = !(1 << (libc::SIGTRAP - 1));

/// A stopped thread. It goes on where it was when this is dropped.
pub(super) struct Tracee {
    pid: Pid,
    memory: File,
    /// Its registers at the call, which it is going to make again.
    registers: user_regs_struct,
    mask: u64,
    /// SIGSTOP or SIGTRAP, which came meanwhile.
    deferred: Option<Signal>,
}

/// Stops the thread that waits in `trapped`, and lets it make the call again afterwards. None if it has
/// gone meanwhile. `lend` is done when it can be stopped and still waits.
///
/// # Errors
/// EPERM: it is traced already, or the kernel's settings forbid it: the call still waits. ESRCH: it has
/// ended.
pub(super) fn stop(
    listener: &Listener,
    trapped: &Trapped,
    lend: impl FnOnce(),
) -> nix::Result<Option<Tracee>> {
    let pid = Pid::from_raw(trapped.tid);
    let memory = memory(trapped.tid)?;
    ptrace::seize(pid, ptrace::Options::empty())?;
    lend();
    // The answer wakes it; the stop comes before it is back in the program.
    ptrace::interrupt(pid)?;
    let answered = listener.answer(trapped.id, 0, -ERESTARTNOINTR);
    match wait_for_stop(pid) {
        Ok(WaitStatus::PtraceEvent(..)) => {}
        Ok(other) => {
            tracing::debug!(?other, "a thread stopped otherwise than asked");
            let signal = match other {
                WaitStatus::Stopped(_, signal) => Some(signal),
                _ => None,
            };
            let _ = ptrace::detach(pid, signal);
            return Ok(None);
        }
        // It has ended. Nobody waits for an answer.
        Err(_) => return Ok(None),
    }
    let stopped = ptrace::getregs(pid).and_then(|registers| Ok((registers, signal_mask(pid)?)));
    match stopped {
        Ok((registers, mask)) if answered.is_ok() && waits_in(&registers, trapped) => {
            let tracee = Tracee {
                pid,
                memory,
                registers: again(registers),
                mask,
                deferred: None,
            };
            set_signal_mask(pid, ALL_BUT_TRAP)?;
            Ok(Some(tracee))
        }
        _ => {
            let _ = ptrace::detach(pid, None);
            Ok(None)
        }
    }
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
        let result = self.go(registers, |pid| ptrace::step(pid, None))?.rax;
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
        [r12, r13, r14, r15, rbx]: [u64; 5],
    ) -> nix::Result<user_regs_struct> {
        let registers = user_regs_struct {
            rip: address,
            r12,
            r13,
            r14,
            r15,
            rbx,
            ..self.registers
        };
        self.go(registers, |pid| ptrace::cont(pid, None))
    }

    fn go(
        &mut self,
        registers: user_regs_struct,
        resume: fn(Pid) -> nix::Result<()>,
    ) -> nix::Result<user_regs_struct> {
        ptrace::setregs(self.pid, registers)?;
        loop {
            resume(self.pid)?;
            match wait_for_stop(self.pid)? {
                // Of the kernel's making, and not sent by somebody (sigaction(2), si_code).
                WaitStatus::Stopped(_, Signal::SIGTRAP)
                    if ptrace::getsiginfo(self.pid)?.si_code > 0 =>
                {
                    return ptrace::getregs(self.pid);
                }
                // It is let through when the thread goes on: its process is to stop, or somebody has sent it.
                WaitStatus::Stopped(_, signal @ (Signal::SIGSTOP | Signal::SIGTRAP)) => {
                    self.deferred = Some(signal);
                }
                // A fault in what it was made to do: another thread has unmapped that, say.
                WaitStatus::Stopped(..) => return Err(Errno::EFAULT),
                _ => {}
            }
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let freed = set_signal_mask(self.pid, self.mask)
            .and_then(|()| ptrace::setregs(self.pid, self.registers))
            .and_then(|()| ptrace::detach(self.pid, self.deferred));
        if let Err(error) = freed {
            tracing::debug!(pid = %self.pid, %error, "a thread ended while the fast path was set up");
        }
    }
}
