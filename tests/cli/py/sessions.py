"""As sshd does it: serve ADDRESSES PORT NAME accepts for as long as it is not ended by SIGTERM, and lets each connection be
served by a process that lives on. To each line NAME is the answer, and twenty megabytes to "much".

call ADDRESSES PORT makes a connection to each for each line "new" and asks all that there are for their server's name; at "much"
it asks for the megabytes. The answers are numbered.
"""
import os
import select
import signal
import socket
import sys

MUCH = 20_000_000
role, addresses, port = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])


def serve(session):
    lines = session.makefile("rb")
    for line in lines:
        answer = sys.argv[4].encode() + b"\n"
        session.sendall(bytes(MUCH) if line == b"much\n" else answer)


def server():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listeners = [listen(address) for address in addresses]
    print("listening", sys.argv[4])
    while True:
        session, _ = select.select(listeners, [], [])[0][0].accept()
        if os.fork() == 0:
            for listener in listeners:
                listener.close()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            serve(session)
            os._exit(0)
        session.close()


def listen(address):
    """Also for IPv4, unless there is another listener for that."""
    if ":" not in address:
        return socket.create_server((address, port))
    return socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=len(addresses) == 1)


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
            sessions.extend(socket.create_connection((address, port)) for address in addresses)
        if line.strip() == "much":
            print("much", *[much(session) for session in sessions])
        print(number, "served by", *[ask(session) for session in sessions])


server() if role == "serve" else client()
