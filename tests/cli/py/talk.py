"""`talk.py serve PORT` and `talk.py call PORT WORD...`: what a TCP connection can do, one connection for each word.

The client prints "WORD ok", or what it saw instead; or the errno's name if connecting fails (status 1).
"""
import errno
import hashlib
import os
import socket
import struct
import sys
import threading

SIZE = 8 << 20


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        line += byte
    return line.strip().decode()


def read_all(connection):
    digest, total = hashlib.sha256(), 0
    while data := connection.recv(65536):
        digest.update(data)
        total += len(data)
    return f"{total} {digest.hexdigest()}"


def serve_one(connection):
    with connection:
        word = read_line(connection)
        if word == "echo":
            while data := connection.recv(65536):
                connection.sendall(data)
        elif word == "sum":
            connection.sendall(read_all(connection).encode())
        elif word == "reset":
            connection.sendall(b"12345")
            read_line(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif word == "who":
            connection.sendall(f"{connection.getpeername()} {connection.getsockname()}".encode())


def serve(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    print("listening")
    while True:
        threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()


def echo(client):
    data = os.urandom(SIZE)
    sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
    sender.start()
    seen = b""
    while more := client.recv(65536):
        seen += more
    sender.join()
    return "ok" if seen == data else f"{len(seen)} bytes"


def checksum(client):
    data = os.urandom(SIZE)
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    answer = client.recv(1000).decode()
    return "ok" if answer == f"{SIZE} {hashlib.sha256(data).hexdigest()}" else answer


def reset(client):
    seen = client.recv(5, socket.MSG_WAITALL)
    client.sendall(b"go\n")
    try:
        end = client.recv(100)
    except OSError as error:
        return "ok" if seen == b"12345" and error.errno == errno.ECONNRESET else f"{seen} {error}"
    return f"{seen} {end}"


def who(client):
    expected = f"{client.getsockname()} {client.getpeername()}"
    answer = client.recv(1000).decode()
    return "ok" if answer == expected else f"{answer} instead of {expected}"


def call(port, word):
    client = socket.socket()
    try:
        client.connect(("127.0.0.1", port))
    except OSError as error:
        print(errno.errorcode[error.errno])
        sys.exit(1)
    client.sendall(word.encode() + b"\n")
    print(word, {"echo": echo, "sum": checksum, "reset": reset, "who": who}[word](client), flush=True)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
for each in sys.argv[3:]:
    call(int(sys.argv[2]), each)
