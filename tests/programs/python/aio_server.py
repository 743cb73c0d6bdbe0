"""asyncio echo: first a line with the peer's address as seen here, then every byte back until EOF."""
import asyncio
import sys


async def serve(reader, writer):
    host, port = writer.get_extra_info("peername")
    writer.write(f"{host} {port}\n".encode())
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print("serving")
    async with server:
        await server.serve_forever()


asyncio.run(main())
