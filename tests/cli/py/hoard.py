"""Listen on PORT and accept nobody before a byte comes on standard input; then serve one client after the other.

Prints how many bytes each sent until its end, or the error.
"""
import socket
import sys

listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(1)
print("listening")
sys.stdin.read(1)
while True:
    connection = listener.accept()[0]
    count = 0
    try:
        while data := connection.recv(65536):
            count += len(data)
    except OSError as error:
        print(error)
    print("got", count)
    connection.close()
