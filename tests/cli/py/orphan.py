"""What is left of a wrapped program when the supervisor is gone. HOW: connect, accept or recv.

Prints "ready", makes the call when it may (connect: after a line on stdin), prints how it failed; exits with 3.
"""
import errno
import socket
import sys

how = sys.argv[1]
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
address = listener.getsockname()
client = socket.create_connection(address)
server, _ = listener.accept()
print("ready")
try:
    if how == "connect":
        sys.stdin.readline()
        socket.create_connection(address)
    elif how == "accept":
        listener.accept()
    else:
        data = client.recv(1)
        print("end" if data == b"" else data)
        sys.exit(3)
    print("no error")
except OSError as error:
    print("failed", errno.errorcode[error.errno])
sys.exit(3)
