"""Real servers on loopback: a web server that sends exactly the bytes it is told, and small proxies that count."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import trustme
from aiohttp.abc import AbstractResolver

from mirror.net.guard import Guard

Handler = Callable[["Call"], Awaitable[None]]
"""Answers a request by writing to `call.writer`; the connection is kept unless it calls `call.close()`."""

Page = bytes | Handler


def loops() -> list[Any]:
    """Event loop factories to run a test under: the stock loop, and uvloop where it is installed."""
    with contextlib.suppress(ImportError):
        import uvloop

        return [asyncio.new_event_loop, uvloop.new_event_loop]
    return [asyncio.new_event_loop]


def run(job: Coroutine[Any, Any, Any], loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> Any:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(job)


def answer(body: bytes = b"", *, status: str = "200 OK", mime: str = "text/html", extra: str = "") -> bytes:
    """A plain answer with a length; `extra` are more header lines, each with its line end."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {mime}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


NOT_FOUND = answer(b"none", status="404 Not Found")


def chunked(body: bytes, size: int = 700, *, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n" + trailer + b"\r\n"


@dataclass
class Call:
    """One request as it came over the wire."""

    raw: bytes
    path: str
    number: int  # of the requests on this connection, from 1
    writer: asyncio.StreamWriter
    site: Site
    closing: bool = False

    def header(self, name: str) -> str | None:
        prefix = name.lower().encode() + b": "
        lines = [line for line in self.raw.split(b"\r\n") if line.lower().startswith(prefix)]
        return lines[0][len(prefix) :].decode() if lines else None

    def close(self) -> None:
        self.closing = True


def then_close(data: bytes) -> Handler:
    """Send `data`, then end the connection."""

    async def handle(call: Call) -> None:
        call.writer.write(data)
        call.close()

    return handle


def then_hold(data: bytes) -> Handler:
    """Send `data`, then nothing more until the site is closed."""

    async def handle(call: Call) -> None:
        call.writer.write(data)
        await call.writer.drain()
        await call.site.closed.wait()
        call.close()

    return handle


def in_turn(*pages: Page) -> Handler:
    """The first answer to the first request of all, and so on; the last one stays."""
    left = list(pages)

    async def handle(call: Call) -> None:
        await call.site.send(call, left.pop(0) if len(left) > 1 else left[0])

    return handle


@dataclass
class Site:
    """A web server. `pages`: path with query → answer; what is not there is answered 404."""

    pages: Mapping[str, Page] = field(default_factory=dict)
    default: Page = NOT_FOUND
    port: int = 0
    accepted: int = 0
    calls: list[Call] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [call.path for call in self.calls]

    def call(self, path: str) -> Call:
        return next(call for call in self.calls if call.path == path)

    async def send(self, call: Call, page: Page) -> None:
        if isinstance(page, bytes):
            call.writer.write(page)
        else:
            await page(call)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = 0
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                raw = await reader.readuntil(b"\r\n\r\n")
                number += 1
                call = Call(raw, raw.split(b" ")[1].decode(), number, writer, self)
                self.calls.append(call)
                await self.send(call, self.pages.get(call.path, self.default))
                await writer.drain()
                if call.closing:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def serving(
    pages: Mapping[str, Page] | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", **more: Any
) -> AsyncIterator[Site]:
    site = Site(pages or {}, **more)
    async with listening(site.serve, tls=tls, host=host) as port:
        site.port = port
        try:
            yield site
        finally:
            site.closed.set()


@contextlib.asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[int]:
    """Serve connections on a free port; at the end every one of them is closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Names(AbstractResolver):
    """A resolver with its own answers: a name → the addresses of the first look-up, of the second, and so on."""

    def __init__(self, answers: Mapping[str, list[list[str]]] | None = None, *, default: str = "127.0.0.1") -> None:
        self._answers = {name: list(turns) for name, turns in (answers or {}).items()}
        self._default = default
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        self.asked.append(host)
        turns = self._answers.get(host, [[self._default]])
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        if not addresses:
            raise OSError(None, "no such name")
        return [
            {
                "hostname": host, "host": a, "port": port, "proto": 0, "flags": socket.AI_NUMERICHOST,
                "family": socket.AF_INET6 if ":" in a else socket.AF_INET,
            }
            for a in addresses
        ]  # fmt: skip

    async def close(self) -> None:
        pass


class PublicLoopback(Guard):
    """The guard as it is, but for one address that counts as public, so that a real server can stand for the web."""

    ADDRESS = "127.0.0.2"

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        if info[4][0] == self.ADDRESS:
            return socket.socket(*info[:3])
        return super().socket(info)


# -- TLS


class Authority:
    """A certificate authority for one test run."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def trust(self) -> ssl.SSLContext:
        """What a client that trusts this authority uses."""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        self._ca.configure_trust(context)
        return context

    def server(self, *names: str, version: ssl.TLSVersion | None = None, **more: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names, **more).configure_cert(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


# -- proxies


@dataclass
class SmallProxy:
    """A SOCKS5 or HTTP CONNECT proxy; sends every tunnel to `target`, whatever name it was asked for."""

    target: tuple[str, int]
    methods: tuple[int, ...] = (2, 0)  # SOCKS: what it accepts, the first one first
    refusal: int = 0
    slow_reply: bool = False  # the reply comes a byte at a time
    port: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)
    credentials: list[tuple[str, str]] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    async def socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        offered = await reader.readexactly(count)
        method = next((m for m in self.methods if m in offered), 255)
        await self._reply(writer, bytes([5, method]))
        if method == 255:
            return
        if method == 2:
            user = await reader.readexactly((await reader.readexactly(2))[1])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            self.credentials.append((user.decode(), password.decode()))
            await self._reply(writer, b"\x01\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            raw = await reader.readexactly(4 if kind == 1 else 16)
            host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, raw)
        self.asked.append((host, int.from_bytes(await reader.readexactly(2), "big")))
        await self._reply(writer, bytes([5, self.refusal, 0, 1, 0, 0, 0, 0, 0, 0]))
        if not self.refusal:
            await self._join(reader, writer)

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        self.asked.append((host, int(port)))
        if self.refusal:
            await self._reply(writer, b"HTTP/1.1 %d Forbidden\r\nContent-Length: 0\r\n\r\n" % self.refusal)
            return
        await self._reply(writer, b"HTTP/1.1 200 Connection established\r\nVia: small\r\n\r\n")
        await self._join(reader, writer)

    async def _reply(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.slow_reply:
            writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                writer.write(data[i : i + 1])
                await writer.drain()
                await asyncio.sleep(0)
        else:
            writer.write(data)
            await writer.drain()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            with contextlib.suppress(OSError):
                sink.write_eof()

        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            far_writer.transport.abort()
            writer.transport.abort()


@contextlib.asynccontextmanager
async def proxying(kind: str, target: tuple[str, int], **more: Any) -> AsyncIterator[SmallProxy]:
    """`kind`: "socks5h" or "http"."""
    proxy = SmallProxy(target, **more)
    async with listening(proxy.socks if kind == "socks5h" else proxy.http) as proxy.port:
        yield proxy
