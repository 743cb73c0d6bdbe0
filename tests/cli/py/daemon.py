"""Become a daemon in the classic way and echo on PORT; writes its pid to the file PIDFILE once it listens."""
import os
import socket
import sys

port, pidfile = int(sys.argv[1]), sys.argv[2]
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
null = os.open("/dev/null", os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)
listener = socket.socket()
listener.bind(("127.0.0.1", port))
listener.listen()
with open(pidfile + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(pidfile + ".new", pidfile)
while True:
    connection = listener.accept()[0]
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()
