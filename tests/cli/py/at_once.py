"""Connect to a listener of one's own twice, the second time without blocking. Print whether poll(2) finds that writable
at once, which it does over loopback."""
import errno
import select
import socket

listener = socket.create_server(("127.0.0.1", 0))
first = socket.create_connection(listener.getsockname())
listener.accept()[0].sendall(b"x")
first.recv(1)

second = socket.socket()
second.setblocking(False)
begun = second.connect_ex(listener.getsockname())
poll = select.poll()
poll.register(second, select.POLLOUT)
ready = [event == select.POLLOUT for _, event in poll.poll(0)]
print(errno.errorcode[begun], ready)
