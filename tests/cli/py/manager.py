"""Start a command under systemd's name, and signal it: manager.py all|main COMMAND...

`all` signals each of its processes, as systemd does with a service; `main` the first alone. The command has to print
"ready" first; it gets SIGTERM, SIGHUP and SIGTERM once more, each when the one before is known to have arrived, and
SIGUSR2 in the end.
"""
import os
import signal
import subprocess
import sys


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:
        return [int(child) for child in listed.read().split()]


def tree(pid):
    return [pid, *(each for child in children(pid) for each in tree(child))]


with open("/proc/self/comm", "w", encoding="ascii") as name:
    name.write("systemd")
program = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
print(program.stdout.readline().decode(), end="")
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2):
    for pid in tree(program.pid) if sys.argv[1] == "all" else [program.pid]:
        os.kill(pid, number)
    print(program.stdout.readline().decode(), end="")
sys.exit(program.wait())
