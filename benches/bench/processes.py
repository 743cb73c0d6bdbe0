"""Starting programs, waiting for them, and ending all that was started."""

import contextlib
import ctypes
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE = 30  # seconds that any one step may take beside its own duration
GRACE = 5  # seconds that a program has to end by itself once it was told to
PAUSE = 0.02  # seconds between looks at a condition


class BenchError(Exception):
    """Something could not be measured."""


def need(program):
    """The path of a program of benches/packages.txt."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise BenchError(f"{program} is not installed: run tests/install-packages.sh benches/packages.txt")
    return path


def wait_until(condition, what, seconds=PATIENCE):
    """Waits for a condition; an error says which."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds} s")
        time.sleep(PAUSE)


def children(pid):
    """The processes that a process has started: proc_pid_task(5)."""
    found = []
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid):
    """The same, and what those have started."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


class Process:
    """A running program, with what it prints in files. Ends when its block is left, and what it started with it."""

    def __init__(self, step, command, stdin=subprocess.DEVNULL):
        self.step = step
        self.command = [str(word) for word in command]
        self.output, self.errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(self.command, stdin=stdin, stdout=self.output, stderr=self.errors)
        except OSError as error:
            raise self.error(str(error)) from None
        self.pid = self.process.pid
        self.handle = os.pidfd_open(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        family = [self.pid, *descendants(self.pid)]
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
        end_all(family)
        self.process.wait()
        os.close(self.handle)
        self.output.close()
        self.errors.close()

    def has_ended(self):
        return self.process.poll() is not None

    def printed(self):
        """What it has printed so far."""
        return _content(self.output)

    def all_printed(self):
        """The same, with what it has said on standard error."""
        return self.printed() + _content(self.errors)

    def error(self, cause):
        """An error that names the step, the command and what it said."""
        return BenchError(f"{self.step}: {' '.join(self.command)}\n  {cause}; it {self.state()}")

    def state(self):
        """Whether it runs, and what it said."""
        status = self.process.poll()
        said = _content(self.errors).strip() or _content(self.output).strip() or "nothing"
        return f"{'runs' if status is None else f'has ended with status {status}'}, and said: {said[-1000:]}"

    def wait_until(self, condition, what, seconds=PATIENCE):
        """Waits for a condition that this process brings about."""

        def met_or_dead():
            if self.process.poll() is not None:
                raise self.error(f"ended before {what}")
            return condition()

        try:
            wait_until(met_or_dead, what, seconds)
        except BenchError as error:
            raise error if self.process.returncode is not None else self.error(str(error)) from None

    def result(self, seconds=0, meanwhile=lambda: None, pause=PATIENCE):
        """Waits for its end, and returns what it printed. `seconds` is how long it takes by itself; `meanwhile` is
        called at the beginning and after each `pause`."""
        deadline = time.monotonic() + seconds + PATIENCE
        meanwhile()
        while not select.select([self.handle], [], [], pause)[0]:
            meanwhile()
            if time.monotonic() > deadline:
                raise self.error(f"did not end within {seconds + PATIENCE} s")
        self.process.wait()
        if self.process.returncode != 0:
            raise self.error("failed")
        return self.printed()


def _content(file):
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def output_of(step, command, seconds=0):
    """What a program prints."""
    with Process(step, command) as process:
        return process.result(seconds)


def seconds_of(step, command):
    """How long a program runs, from fork to its end, with as little as possible around it."""
    command = [str(word) for word in command]
    begin = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ)
    handle = os.pidfd_open(pid)
    try:
        ended = select.select([handle], [], [], PATIENCE)[0]
        seconds = time.perf_counter() - begin
        if not ended:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(handle)
    if status != 0:
        raise BenchError(f"{step}: {' '.join(command)}: status {status} after {seconds:.1f} s")
    return seconds


def end_all(pids):
    """Waits until these processes have ended, and kills what has not in time. A pidfd is never somebody else."""
    handles = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles[pid] = os.pidfd_open(pid)
    deadline = time.monotonic() + GRACE
    for pid, handle in handles.items():
        if not select.select([handle], [], [], max(0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], GRACE)
        os.close(handle)
        # Orphans come to us, see adopt(); others are not ours to wait for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def adopt():
    """From now on whatever this process starts remains its descendant, so that nothing can be left behind."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stop_on_signals():
    """The first request to end unwinds all blocks; further ones do not disturb that."""

    def stop(number, _):
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
