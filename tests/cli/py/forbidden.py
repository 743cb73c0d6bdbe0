"""Execute a command with one system call forbidden, as service managers, containers and older kernels do.

forbidden.py seccomp|pidfd_getfd|ptrace|sched_setaffinity|unix ERRNO|SIGSYS COMMAND...: it fails with this errno (a
number), or ends its process. `unix` is socket(AF_UNIX).
"""
import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ERRNO, KILL_PROCESS, ALLOW = 0x00050000, 0x80000000, 0x7FFF0000
NUMBER, FIRST_ARGUMENT = 0, 16  # in struct seccomp_data

call, how = sys.argv[1:3]
answer = KILL_PROCESS if how == "SIGSYS" else ERRNO | int(how)
number = {"seccomp": 317, "pidfd_getfd": 438, "ptrace": 101, "sched_setaffinity": 203, "unix": 41}[call]
instructions = [(LOAD, 0, 0, NUMBER), (JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, answer), (RETURN, 0, 0, ALLOW)]
if call == "unix":
    instructions[1:2] = [(JUMP_EQUAL, 0, 3, number), (LOAD, 0, 0, FIRST_ARGUMENT), (JUMP_EQUAL, 0, 1, 1)]
program = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
buffer = ctypes.create_string_buffer(program)
header = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[3], sys.argv[3:])
