"""Print the name of every signal received; on SIGUSR2 print how often each came, and exit with 9."""
import collections
import os
import signal
import sys

counts = collections.Counter()


def note(number, _frame):
    name = signal.Signals(number).name
    if name == "SIGUSR2":
        print("counts", *(f"{key}={counts[key]}" for key in sorted(counts)), flush=True)
        sys.exit(9)
    counts[name] += 1
    print("got", name, flush=True)


for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT", "SIGWINCH", "SIGUSR2", "SIGCONT"):
    signal.signal(getattr(signal, name), note)
# Every signal puts a byte into the pipe: pause() would sleep over one that comes just before it.
wake, woken = os.pipe()
os.set_blocking(woken, False)
signal.set_wakeup_fd(woken)
print("ready", flush=True)
while True:
    os.read(wake, 1)
