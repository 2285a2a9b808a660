"""Fetch one URL and keep what crossed the wire, byte for byte, in both directions.

aiohttp's connector makes, pools and limits the connections; the exchange above them is ours, because an HTTP client's
API hands out a parsed response, and evidence is what was received. `_create_connection`, `_factory` and `ConnectionKey`
are aiohttp's inner joints: tests/net/test_fetch.py holds a contract test for each, so that an upgrade fails loudly.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey

from mirror.errors import BlockedAddressError, LimitError, NetworkError
from mirror.formats.http1 import Framing, ResponseReader
from mirror.formats.urls import Url
from mirror.model import Connection, Exchange, Failure, FailureKind, Truncation
from mirror.net.guard import Guard, RefusedAddress, all_refused

SPOOL_FROM = 1 << 20
"""Body bytes held in memory; what is larger goes to a file as it arrives."""

_KEEPALIVE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """Bounds of one exchange. Times in seconds, size in bytes as received."""

    connect_s: float = 20.0
    idle_s: float = 30.0
    total_s: float = 900.0
    max_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """A way into the network. `proxy`: `socks5h://…` or `http://…`; with one, nothing is ever sent directly."""

    name: str = "direct"
    proxy: str | None = None


class Fetcher:
    """Fetches over pooled connections of one vantage. Close it, or use it as an async context manager.

    `spool` opens an anonymous temporary file for a large body; its errors come out of `fetch`.
    """

    def __init__(
        self,
        *,
        vantage: Vantage,
        guard: Guard,
        spool: Callable[[], BinaryIO],
        connections: int = 256,
        connections_per_host: int = 24,
        allow_invalid_tls: bool = False,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._vantage = vantage
        self._guard = guard
        self._spool = spool
        self._allow_invalid_tls = allow_invalid_tls
        self._connector = _Connector(vantage, guard, trust or _context(), connections, connections_per_host)
        self._origins: dict[tuple[str, str, int, bool], _Origin] = {}

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connector.close()

    async def get(
        self, url: Url, headers: Sequence[tuple[str, str]], *, idle_s: float, total_s: float, max_bytes: int
    ) -> Exchange:
        """`fetch` with the limits spelt out."""
        limits = FetchLimits(idle_s=idle_s, total_s=total_s, max_bytes=max_bytes)
        return await self.fetch(url, headers=headers, limits=limits)

    async def fetch(self, url: Url, *, headers: Sequence[tuple[str, str]], limits: FetchLimits) -> Exchange:
        """GET `url` with exactly these header lines after Host. Never raises for what the network does.

        A whole or cut answer, or the reason why there is none, is in the exchange. Raises only what `spool` raises.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        request = f"GET {url.target} HTTP/1.1\r\nHost: {url.host_header}\r\n{lines}\r\n".encode()
        exchange = await self._once(url, request, limits, verify=True)
        if exchange.failure and exchange.failure.kind is FailureKind.TLS and self._allow_invalid_tls:
            return await self._once(url, request, limits, verify=False)
        return exchange

    async def _once(self, url: Url, request: bytes, limits: FetchLimits, *, verify: bool) -> Exchange:
        exchange = Exchange(url=url.href, started=time.time())
        begun = time.monotonic()
        try:
            async with asyncio.timeout(limits.total_s):
                await self._exchange(exchange, self._origin(url, verify), request, limits)
        except TimeoutError:
            exchange.truncated = Truncation.TIME if exchange.answered else None
            exchange.failure = Failure(FailureKind.TIMEOUT, f"not finished after {limits.total_s:g} s")
        exchange.seconds = time.monotonic() - begun
        return exchange

    async def _exchange(self, exchange: Exchange, origin: _Origin, request: bytes, limits: FetchLimits) -> None:
        while True:
            try:
                async with asyncio.timeout(limits.connect_s):
                    if self._vantage.proxy is not None:
                        self._guard.check_far_end(origin.host)
                    pooled = await self._connector.connect(cast(Any, origin), [], _NO_TIMEOUT)
            except TimeoutError:
                exchange.failure = Failure(FailureKind.TIMEOUT, f"no connection after {limits.connect_s:g} s")
                return
            except (aiohttp.ClientError, NetworkError, OSError, ssl.SSLError, ValueError) as e:
                exchange.failure = self._connector.explain(origin, e)
                exchange.connection = self._connector.failed(origin)
                return
            protocol = cast(_Wire, pooled.protocol)
            reused = protocol.exchanges > 0
            whole = False
            try:
                exchange.request = request
                exchange.connection = protocol.connection
                whole = await protocol.run(exchange, request, limits, self._spool)
            finally:
                if whole:
                    pooled.release()
                else:
                    protocol.abort()
                    pooled.close()
            # a kept connection that the server closed just then: nothing was answered, so ask again on a new one
            if not (
                reused
                and not exchange.answered
                and exchange.failure
                and exchange.failure.kind is FailureKind.DISCONNECTED
            ):
                return
            exchange.failure = None

    def _origin(self, url: Url, verify: bool) -> _Origin:
        port = url.port or (443 if url.scheme == "https" else 80)
        key = (url.scheme, url.host, port, verify)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = _Origin(url.host, port, url.scheme == "https", verify)
        return origin


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _unverified() -> ssl.SSLContext:
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Origin:
    """What aiohttp's connector asks of a request: where it goes."""

    __slots__ = (
        "_tls",
        "connection_key",
        "host",
        "port",
        "proxy",
        "raw_host",
        "server_hostname",
        "ssl",
        "url",
        "verify",
    )

    def __init__(self, host: str, port: int, tls: bool, verify: bool) -> None:
        self.host = self.raw_host = host
        self.port = port
        self._tls = tls
        self.verify = verify
        self.ssl: ssl.SSLContext | bool = True if verify or not tls else _unverified()
        self.proxy = None
        self.server_hostname = None
        self.url = self
        self.connection_key = ConnectionKey(host, port, tls, self.ssl, None, None, None)

    def is_ssl(self) -> bool:
        return self._tls


class _Resolver(AbstractResolver):
    """The system's resolver; remembers its last answers, because they are part of the evidence."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self.answers: dict[str, tuple[str, ...]] = {}

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        self.answers[host] = tuple(dict.fromkeys(r["host"] for r in found))
        return found

    async def close(self) -> None:
        await self._inner.close()


class _Connector(aiohttp.TCPConnector):
    """Connections whose protocol is `_Wire`, made through the guard, or through the proxy and nothing else."""

    def __init__(
        self, vantage: Vantage, guard: Guard, trust: ssl.SSLContext, connections: int, connections_per_host: int
    ) -> None:
        self._names = _Resolver()
        super().__init__(
            resolver=self._names, limit=connections, limit_per_host=connections_per_host, ssl=trust,
            keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=60, socket_factory=guard.socket,
        )  # fmt: skip
        self._vantage = vantage
        self._guard = guard
        self._numbers = 0
        self._factory: Any = partial(_Wire, self._loop)

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        began, clock = time.time(), time.monotonic()
        if self._vantage.proxy is None:
            protocol = cast(_Wire, await super()._create_connection(req, traces, timeout))
        else:
            protocol = await self._tunnel(req, self._vantage.proxy)
        protocol.connection = self._describe(req, protocol.transport, began, time.monotonic() - clock)
        return protocol

    async def _tunnel(self, origin: _Origin, proxy: str) -> _Wire:
        """A tunnel to the far end, where the name is resolved; nothing else is tried when the proxy fails."""
        from python_socks.async_.asyncio import Proxy

        url = proxy.replace("socks5h://", "socks5://", 1)
        sock = await Proxy.from_url(url, rdns=True).connect(dest_host=origin.host, dest_port=origin.port)
        context = self._get_ssl_context(cast(Any, origin))
        try:
            _, protocol = await self._loop.create_connection(
                self._factory, sock=sock, ssl=context, server_hostname=origin.host.rstrip(".") if context else None
            )
        except BaseException:
            sock.close()
            raise
        return cast(_Wire, protocol)

    def _describe(
        self, origin: _Origin, transport: asyncio.Transport | None, began: float, seconds: float
    ) -> Connection:
        self._numbers += 1
        connection = Connection(
            number=self._numbers,
            host=origin.host,
            port=origin.port,
            vantage=self._vantage.name,
            opened=began,
            seconds=seconds,
        )
        if transport is None:
            return connection
        if self._vantage.proxy is None:
            peer = transport.get_extra_info("peername")
            connection.peer = peer[0] if peer else None
            connection.resolved = self._names.answers.get(origin.host, ())
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            connection.tls = tls.version()
            cipher = tls.cipher()
            connection.cipher = cipher[0] if cipher else None
            connection.chain = _chain(tls)
            connection.verified = origin.verify
        return connection

    def failed(self, origin: _Origin) -> Connection:
        """What is known of a connection that did not come about."""
        connection = self._describe(origin, None, time.time(), 0.0)
        if self._vantage.proxy is None:
            connection.resolved = self._names.answers.get(origin.host, ())
        return connection

    def explain(self, origin: _Origin, error: Exception) -> Failure:
        """Name the reason why there is no connection."""
        if isinstance(error, BlockedAddressError):
            return Failure(FailureKind.BLOCKED_ADDRESS, str(error))
        if isinstance(error, aiohttp.InvalidURL):
            return Failure(FailureKind.BLOCKED_ADDRESS, f"{origin.host} is not a plain address")
        cause = getattr(error, "os_error", None) or error.__cause__ or error
        if self._vantage.proxy is not None and not isinstance(error, (ssl.SSLError, ssl.CertificateError)):
            return Failure(
                FailureKind.PROXY, f"the proxy of vantage {self._vantage.name} gave no connection: {_short(error)}"
            )
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return Failure(FailureKind.DNS, f"the name {origin.host} was not found")
        if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
            return Failure(FailureKind.TLS, f"no trusted TLS connection: {_short(error)}")
        refused = isinstance(cause, RefusedAddress) or all_refused(
            self._guard, self._names.answers.get(origin.host, (origin.host,) if _is_literal(origin.host) else ())
        )
        if refused:
            return Failure(
                FailureKind.BLOCKED_ADDRESS,
                f"{origin.host} leads to an address that is not public; it was not fetched "
                "(--allow-private-hosts allows it)",
            )
        if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
            return Failure(FailureKind.REFUSED, "the server refused the connection")
        return Failure(FailureKind.UNREACHABLE, f"no connection: {_short(cause)}")


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _chain(tls: Any) -> tuple[bytes, ...]:
    """The certificates the server sent, DER, leaf first."""
    if hasattr(tls, "get_unverified_chain"):  # Python >= 3.13
        return tuple(tls.get_unverified_chain() or ())
    inner = getattr(tls, "_sslobj", None)
    if inner is not None and hasattr(inner, "get_unverified_chain"):
        return tuple(c.public_bytes(2) for c in inner.get_unverified_chain() or ())  # 2 = _ssl.ENCODING_DER
    leaf = tls.getpeercert(binary_form=True)
    return (leaf,) if leaf else ()


class _Wire(asyncio.Protocol):
    """One connection: writes a request, collects what comes back until the response ends.

    It has the members that aiohttp's pool asks of a protocol: is_connected, should_close, close, abort, closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self.connection: Connection | None = None
        self.exchanges = 0
        self.should_close = False
        self._reader: ResponseReader | None = None
        self._exchange: Exchange | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._closed: asyncio.Future[None] | None = None
        self._lost = False
        self._spool: Callable[[], BinaryIO] | None = None
        self._limits = FetchLimits()
        self._heard = 0.0
        self._begun = 0.0

    # -- what the pool asks

    @property
    def closed(self) -> asyncio.Future[None] | None:
        if self._closed is None and not self._lost:
            self._closed = self._loop.create_future()
        return self._closed

    def is_connected(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # -- one exchange

    async def run(self, exchange: Exchange, request: bytes, limits: FetchLimits, spool: Callable[[], BinaryIO]) -> bool:
        """Send `request`, fill `exchange`. True when the connection can be used again."""
        if not self.is_connected() or self.transport is None:
            exchange.failure = Failure(FailureKind.DISCONNECTED, "the server closed the connection")
            return False
        self.exchanges += 1
        self._exchange, self._limits, self._spool = exchange, limits, spool
        reader = self._reader = ResponseReader("GET", self._body)
        waiter = self._waiter = self._loop.create_future()
        self._begun = self._heard = self._loop.time()
        timer = self._loop.call_later(limits.idle_s, self._idle)
        try:
            self.transport.write(request)
            return await waiter and reader.keep_alive
        finally:
            timer.cancel()
            self._take(reader, exchange)
            self._reader = self._exchange = self._waiter = None

    @staticmethod
    def _take(reader: ResponseReader, exchange: Exchange) -> None:
        """What the reader has collected, whole or not, goes to the exchange."""
        view = reader.view
        exchange.interim = tuple(reader.interim)
        exchange.head, exchange.surplus, exchange.malformed = (
            reader.head or reader.unfinished,
            reader.surplus,
            reader.malformed,
        )
        exchange.chunked = reader.framing is Framing.CHUNKED
        if view is not None:
            exchange.status, exchange.fields = view.status, view.fields
        if not reader.done and exchange.answered and exchange.truncated is None:
            exchange.truncated = Truncation.DISCONNECT

    def _body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.body_size += len(data)
        if exchange.spool is not None:
            exchange.spool.write(data)
            return
        exchange.body.append(data)
        if exchange.body_size > SPOOL_FROM and self._spool is not None:
            exchange.spool = self._spool()
            for piece in exchange.body:
                exchange.spool.write(piece)
            exchange.body = []

    def _idle(self) -> None:
        """Nothing heard for long enough? One timer an exchange, re-armed only when it fires."""
        quiet = self._loop.time() - self._heard
        exchange = self._exchange
        if self._waiter is None or exchange is None:
            return
        if quiet + 0.001 >= self._limits.idle_s:
            started = self._reader is not None and (self._reader.view is not None or self._reader.unfinished)
            exchange.truncated = Truncation.TIME if started else None
            exchange.failure = Failure(FailureKind.TIMEOUT, f"the server sent nothing for {self._limits.idle_s:g} s")
            self._finish(False)
        else:
            self._loop.call_later(self._limits.idle_s - quiet, self._idle)

    def _finish(self, whole: bool, error: BaseException | None = None) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(whole)

    # -- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader, exchange = self._reader, self._exchange
        if reader is None or exchange is None:
            self.should_close = True  # nobody asked: not a connection to be trusted with another request
            self.close()
            return
        self._heard = self._loop.time()
        if exchange.first_byte is None:
            exchange.first_byte = self._heard - self._begun
        if self._waiter is None or self._waiter.done():
            return
        try:
            reader.feed(data)
        except LimitError as e:
            exchange.truncated = Truncation.LENGTH
            exchange.failure = Failure(FailureKind.LIMIT, str(e))
            self._finish(False)
            return
        except OSError as e:  # the spool: disk full, for instance
            self._finish(False, e)
            return
        if reader.done:
            self._finish(True)
        elif exchange.body_size > self._limits.max_bytes:
            exchange.truncated = Truncation.LENGTH
            exchange.failure = Failure(FailureKind.LIMIT, f"cut after {self._limits.max_bytes} bytes")
            self._finish(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        reader, exchange = self._reader, self._exchange
        if reader is None or exchange is None or self._waiter is None or self._waiter.done():
            return
        if not reader.eof() or exc is not None:
            exchange.failure = Failure(FailureKind.DISCONNECTED, _lost(reader, exc))
            exchange.truncated = Truncation.DISCONNECT if reader.view is not None or reader.interim else None
        self._finish(reader.done)


def _lost(reader: ResponseReader, error: Exception | None) -> str:
    what = "the connection broke" if error is not None else "the server closed the connection"
    return f"{what} before the end of the answer" if reader.view is not None else f"{what} without an answer"
