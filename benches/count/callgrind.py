"""Reads a file of callgrind's: self cost of each function. The format is in valgrind's manual, "Callgrind Format
Specification"."""

import collections
import re

# Named once, "(7) name", and then by number alone, "(7)"; each kind of name has numbers of its own. The first of these
# hold until the next of their kind, also across functions; those of callees (c...) concern one call.
CURRENT = {"fl": "file", "fi": "file", "fe": "file", "fn": "function", "ob": "object"}
CALLEES = {"cfi": "file", "cfl": "file", "cfn": "function", "cob": "object"}
RECORD = re.compile(r"(\w+)=\((\d+)\)(?: (.*))?")

# The entropy that aws-lc gathers once, at the first handshake, is 420 million instructions, and their number is as
# random as they are; outside.so takes the place of system calls that valgrind does not know.
LEFT_OUT_FILES = ("jitterentropy",)
LEFT_OUT_OBJECTS = ("outside.so",)
UNSEEN = "unseen_system_call"  # a function of outside.so, whose system calls callgrind does not see
# Not a system call but under valgrind, which hides the vDSO.
NOT_A_SYSTEM_CALL = "clock_gettime"


def costs(text):
    """{function: (instructions, system calls)}, without what callees cost and without what is left out."""
    names = collections.defaultdict(dict)
    current = {}
    total = collections.defaultdict(lambda: [0, 0])
    inclusive = left_out = False
    for line in text.splitlines():
        if match := RECORD.fullmatch(line):
            key, number, name = match.groups()
            kind = CURRENT.get(key) or CALLEES.get(key)
            if name is not None:
                names[kind][number] = name
            if key == "cfn":
                callee = names[kind][number]
            if key in CURRENT:
                current[kind] = names[kind][number]
            if key == "fn":
                left_out = is_left_out(current)
        elif line.startswith("events:"):
            events = line.split()[1:]
            columns = [events.index("Ir"), events.index("sysCount")]
        elif line.startswith("calls="):
            inclusive = True  # the next line has what the callee cost
            if callee == UNSEEN:
                total[UNSEEN][1] += int(line.split()[0].partition("=")[2])
        elif line[:1] and line[0] in "0123456789+-*":
            values = line.split()[1:]
            for index, column in enumerate(columns):
                # The system calls of what is left out are quicwrap's all the same.
                if not inclusive and column < len(values) and not (left_out and index == 0):
                    total[current["function"]][index] += int(values[column])
            inclusive = False
    for function in total:
        if function.startswith(NOT_A_SYSTEM_CALL):
            total[function][1] = 0
    return {function: tuple(cost) for function, cost in total.items() if any(cost)}


def is_left_out(current):
    file, thing = current.get("file", ""), current.get("object", "")
    return any(part in file for part in LEFT_OUT_FILES) or any(part in thing for part in LEFT_OUT_OBJECTS)
