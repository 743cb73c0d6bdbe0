"""Fifty connections at once to aio_server.py: each sends, ends its sending, and must get all of it back."""
import asyncio
import os
import sys

COUNT, SIZE = 50, 300_000


async def talk():
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    host, port = writer.get_extra_info("sockname")
    seen = (await reader.readline()).decode().split()
    assert seen == [host, str(port)], (seen, host, port)
    data = os.urandom(SIZE)

    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, back = await asyncio.gather(send(), reader.read())
    assert back == data, f"{len(back)} of {SIZE} bytes"
    writer.close()
    return port


async def main():
    ports = await asyncio.wait_for(asyncio.gather(*(talk() for _ in range(COUNT))), 60)
    assert len(set(ports)) == COUNT, ports
    print(f"{COUNT} echoed, peers distinct and agreed")


asyncio.run(main())
