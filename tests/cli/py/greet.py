"""Listen on PORT and greet every client before it has said anything."""
import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening")
connections = []
while True:
    connections.append(listener.accept()[0])
    connections[-1].sendall(b"welcome")
