"""`both.py PORT FIRST SECOND`: binds a TCP and a UDP socket to one port, in the order that "tcp" and "udp" are given."""
import errno
import socket
import sys

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
sockets = []
for name in sys.argv[2:]:
    sockets.append(socket.socket(socket.AF_INET, KINDS[name]))
    try:
        sockets[-1].bind(("127.0.0.1", int(sys.argv[1])))
    except OSError as error:
        print(name, errno.errorcode[error.errno])
