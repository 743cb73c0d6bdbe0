"""`abort.py serve PORT`: ends with data unread, which is a reset, once the peer has seen the end of its data.
`abort.py call PORT` prints what the peer sees of that."""
import errno
import os
import select
import socket
import sys


def serve(port):
    listener = socket.create_server(("127.0.0.1", port))
    print("listening")
    connection = listener.accept()[0]
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1, socket.MSG_PEEK)
    os._exit(0)


def call(port):
    client = socket.create_connection(("127.0.0.1", port))
    end = client.recv(1)
    client.sendall(b"unread")
    poll = select.poll()
    poll.register(client, 0)
    poll.poll(10_000)
    error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    print(end, errno.errorcode.get(error, error))


{"serve": serve, "call": call}[sys.argv[1]](int(sys.argv[2]))
