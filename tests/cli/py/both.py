"""`both.py PORT FIRST SECOND`: binds two sockets to one port, "tcp" or "udp" on 127.0.0.1, or "any", which is TCP on all
addresses. Prints which of them fail."""
import errno
import socket
import sys

KINDS = {
    "tcp": (socket.SOCK_STREAM, "127.0.0.1"),
    "udp": (socket.SOCK_DGRAM, "127.0.0.1"),
    "any": (socket.SOCK_STREAM, "0.0.0.0"),
}
sockets = []
for name in sys.argv[2:]:
    kind, address = KINDS[name]
    sockets.append(socket.socket(socket.AF_INET, kind))
    try:
        sockets[-1].bind((address, int(sys.argv[1])))
    except OSError as error:
        print(name, errno.errorcode[error.errno])
