"""As sshd does it: serve ADDRESS PORT NAME accepts for as long as it is not ended by SIGTERM, and lets each connection be
served by a process that lives on. To each line NAME is the answer, and twenty megabytes to "much".

call ADDRESS PORT makes a connection for each line "new" and asks all that there are for their server's name; at "much"
it asks for the megabytes. The answers are numbered.
"""
import os
import signal
import socket
import sys

MUCH = 20_000_000
role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


def serve(session):
    lines = session.makefile("rb")
    for line in lines:
        answer = sys.argv[4].encode() + b"\n"
        session.sendall(bytes(MUCH) if line == b"much\n" else answer)


def server():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    family, both = (socket.AF_INET6, True) if ":" in address else (socket.AF_INET, False)
    listener = socket.create_server((address, port), family=family, dualstack_ipv6=both)
    print("listening", sys.argv[4])
    while True:
        session, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            serve(session)
            os._exit(0)
        session.close()


def ask(session):
    session.sendall(b"who\n")
    return session.makefile().readline().strip()


def much(session):
    session.sendall(b"much\n")
    missing = MUCH
    while missing and (data := session.recv(65536)):
        missing -= len(data)
    return missing == 0


def client():
    sessions = []
    for number, line in enumerate(sys.stdin):
        if line.strip() == "new":
            sessions.append(socket.create_connection((address, port)))
        if line.strip() == "much":
            print("much", *[much(session) for session in sessions])
        print(number, "served by", *[ask(session) for session in sessions])


server() if role == "serve" else client()
