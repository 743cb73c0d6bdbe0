"""What is left of a wrapped program when the supervisor is gone. HOW: socket, accept or recv.

Prints "ready", makes the call when it may (socket: after a line on stdin), prints how it failed; exits with 3.
"""
import errno
import socket
import sys

how = sys.argv[1]
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
print("ready")
try:
    if how == "socket":
        sys.stdin.readline()
        socket.socket()
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
