"""A peer that speaks QUIC by aioquic and knows nothing of quicwrap: bytes on the first bidirectional stream.

`serve PORT CERT KEY` answers what tests/cli/py/talk.py asks; `call PORT CERT WORD...` asks the same, one QUIC
connection for each word, and prints "WORD ok" or what it saw instead.
"""
import asyncio
import hashlib
import os
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

ALPN = ["test"]
SIZE = 2 << 20
RESET = 77


class Server(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.streams = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            assert event.stream_id == 0, event
            self.data_received(event)

    def data_received(self, event):
        seen = self.streams.setdefault(event.stream_id, bytearray())
        seen += event.data
        if b"\n" not in seen:
            return
        word, _, rest = bytes(seen).partition(b"\n")
        answer, end = b"", False
        if word == b"echo":
            answer, end = rest, event.end_stream
            del seen[len(word) + 1 :]
        elif word == b"sum" and event.end_stream:
            answer, end = f"{len(rest)} {hashlib.sha256(rest).hexdigest()}".encode(), True
        elif word == b"reset":
            answer = b"12345" if not rest and not getattr(self, "greeted", False) else b""
            self.greeted = True
            if b"\n" in rest:
                self._quic.reset_stream(event.stream_id, RESET)
                self.transmit()
                return
        if answer or end:
            self._quic.send_stream_data(event.stream_id, answer, end)
            self.transmit()


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.seen, self.end, self.reset = bytearray(), False, None
        self.changed = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.seen += event.data
            self.end |= event.end_stream
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            self.reset = event.error_code
        self.changed.set()

    async def until(self, holds):
        while not holds():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 20)

    def send(self, data, end=False):
        self._quic.send_stream_data(0, data, end)
        self.transmit()

    async def try_word(self, word):
        self.send(word.encode() + b"\n")
        data = os.urandom(SIZE)
        if word == "echo":
            self.send(data, True)
            await self.until(lambda: self.end)
            return "ok" if self.seen == data else f"{len(self.seen)} bytes"
        if word == "sum":
            self.send(data, True)
            await self.until(lambda: self.end)
            expected = f"{SIZE} {hashlib.sha256(data).hexdigest()}"
            return "ok" if self.seen.decode() == expected else self.seen.decode()
        await self.until(lambda: len(self.seen) >= 5)
        self.send(b"go\n")
        await self.until(lambda: self.reset is not None)
        return "ok" if self.seen == b"12345" else repr(self.seen)


async def call(port, certificate, words):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=ALPN, server_name="test")
    configuration.load_verify_locations(certificate)
    for word in words:
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
            print(word, await client.try_word(word), flush=True)


async def listen(port, certificate, key):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=ALPN)
    configuration.load_cert_chain(certificate, key)
    await serve("127.0.0.1", port, configuration=configuration, create_protocol=Server)
    print("listening", flush=True)
    await asyncio.Event().wait()


if sys.argv[1] == "serve":
    asyncio.run(listen(int(sys.argv[2]), *sys.argv[3:]))
else:
    asyncio.run(call(int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
