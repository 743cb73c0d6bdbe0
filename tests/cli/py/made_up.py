"""Sockets of a made-up protocol number beside ordinary ones.

made_up.py PROTOCOL server PORT TCP_PORT   listen on both, say "listening", and echo a connection of each
made_up.py PROTOCOL client PORT            connect, exchange a word, and say what SO_PROTOCOL is
"""
import errno
import socket
import sys

protocol, role, ports = int(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3:]]


def made_up():
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    except OSError as error:
        print("socket", errno.errorcode[error.errno])
        sys.exit(1)


def number(sock):
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)


def word(sock):
    data = b""
    while more := sock.recv(100):
        data += more
    return data


if role == "server":
    listeners = [made_up(), socket.socket()]
    for listener, port in zip(listeners, ports):
        listener.bind(("127.0.0.1", port))
        listener.listen()
    print("listening", flush=True)
    for listener in listeners:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(word(connection))
            print(number(listener), number(connection), flush=True)
else:
    client = made_up()
    client.connect(("127.0.0.1", ports[0]))
    client.sendall(b"word")
    client.shutdown(socket.SHUT_WR)
    print(word(client).decode(), number(client))
