"""How programs end. Servers, `endings.py abort PORT`: with data unread, which is a reset, once the peer has seen the end
of its data; `endings.py hold PORT`: at the end of its input. Clients, `endings.py see PORT`: prints what it sees of the
first; `endings.py leave PORT`: at once, after it has shut down both directions.
"""
import errno
import os
import select
import socket
import sys


def accept(port):
    listener = socket.create_server(("127.0.0.1", port))
    print("listening")
    return listener.accept()[0]


def abort(port):
    connection = accept(port)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1, socket.MSG_PEEK)
    os._exit(0)


def hold(port):
    connection = accept(port)
    sys.stdin.read()
    print(connection.recv(100))


def see(port):
    client = socket.create_connection(("127.0.0.1", port))
    end = client.recv(1)
    client.sendall(b"unread")
    poll = select.poll()
    poll.register(client, 0)
    poll.poll(10_000)
    error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    print(end, errno.errorcode.get(error, error))


def leave(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"left")
    client.shutdown(socket.SHUT_RDWR)


{"abort": abort, "hold": hold, "see": see, "leave": leave}[sys.argv[1]](int(sys.argv[2]))
