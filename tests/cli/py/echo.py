"""Listen on PORT and echo every connection until its end. Prints the errno's name if it cannot."""
import errno
import socket
import sys
import threading


def serve(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    call = "bind"
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    call = "listen"
    listener.listen()
except OSError as error:
    print(call, errno.errorcode[error.errno])
    sys.exit(1)
print("listening")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
