"""Connections of one vantage: made through the guard, or through the proxy and nothing else; pooled by aiohttp.

`_create_connection`, `_factory` and `ConnectionKey` are aiohttp's inner joints: tests/net/test_connector.py holds a
contract test for each, so that an upgrade fails loudly.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey

from mirror.errors import BlockedAddressError
from mirror.model import Connection, Failure, FailureKind
from mirror.net import tunnel
from mirror.net.guard import Guard, RefusedAddress, all_refused
from mirror.net.wire import Wire

_KEEPALIVE_S = 15.0
_LOOKUPS = 32
"""Name look-ups at once: a name server that does not answer holds a thread for many seconds."""

_MAX_NAMES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """A way into the network. `proxy`: `socks5h://…` or `http://…`; with one, nothing is ever sent directly."""

    name: str = "direct"
    proxy: str | None = None


@functools.cache
def trusted() -> ssl.SSLContext:
    """The system's trust, read once: a fetcher for each capture would read a hundred certificates each time."""
    return _context()


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def unverified() -> ssl.SSLContext:
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Origin:
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

    def __init__(self, host: str, port: int, tls: bool, unverified: ssl.SSLContext | None) -> None:
        self.host = self.raw_host = host
        self.port = port
        self._tls = tls
        self.verify = unverified is None
        self.ssl: ssl.SSLContext | bool = unverified or True
        self.proxy = None
        self.server_hostname = None
        self.url = self
        self.connection_key = ConnectionKey(host, port, tls, self.ssl, None, None, None)

    def is_ssl(self) -> bool:
        return self._tls


class Resolver(AbstractResolver):
    """Asks the system, in threads of its own; remembers the last answers, because they are part of the evidence."""

    def __init__(self, inner: AbstractResolver | None) -> None:
        self._inner = inner
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="names")
        self.answers: dict[str, tuple[str, ...]] = {}

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        if self._inner is None:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
        else:
            found = await self._inner.resolve(host, port, family)
        if len(self.answers) >= _MAX_NAMES:
            self.answers.clear()
        self.answers[host] = tuple(dict.fromkeys(r["host"] for r in found))
        return found

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[ResolveResult]:
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(hostname=host, host=str(address[0]), port=port, family=family, proto=protocol, flags=numeric)
        for family, _, protocol, _, address in found
    ]


class Connector(aiohttp.TCPConnector):
    """Connections whose protocol is `Wire`, made through the guard, or through the proxy and nothing else."""

    def __init__(
        self,
        vantage: Vantage,
        guard: Guard,
        trust: ssl.SSLContext,
        connections: int,
        connections_per_host: int,
        names: Resolver,
    ) -> None:
        self._names = names
        super().__init__(
            resolver=self._names, limit=connections, limit_per_host=connections_per_host, ssl=trust,
            keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=60, socket_factory=guard.socket,
        )  # fmt: skip
        self._vantage = vantage
        self._proxy = tunnel.Proxy.parse(vantage.proxy).isolated() if vantage.proxy is not None else None
        self._guard = guard
        self._numbers = 0
        self._factory: Any = partial(Wire, self._loop)

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        began, clock = time.time(), time.monotonic()
        async with asyncio.timeout(timeout.total):
            if self._proxy is None:
                protocol = cast(Wire, await super()._create_connection(req, traces, timeout))
            else:
                protocol = await self._tunnel(req, self._proxy)
        protocol.connection = self._describe(req, protocol.transport, began, time.monotonic() - clock)
        return protocol

    async def _tunnel(self, origin: Origin, proxy: tunnel.Proxy) -> Wire:
        """A tunnel to the far end, where the name is resolved; nothing else is tried when the proxy fails."""
        sock = await tunnel.connect(proxy, origin.host, origin.port)
        context = self._get_ssl_context(cast(Any, origin))
        try:
            _, protocol = await self._loop.create_connection(
                self._factory, sock=sock, ssl=context, server_hostname=origin.host.rstrip(".") if context else None
            )
        except BaseException:
            sock.close()
            raise
        return cast(Wire, protocol)

    async def close(self, *, abort_ssl: bool = True) -> None:
        """At once: a peer that does not answer the end of TLS would keep us waiting."""
        await super().close(abort_ssl=abort_ssl)
        await self._names.close()

    def _describe(
        self, origin: Origin, transport: asyncio.Transport | None, began: float, seconds: float
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

    def failed(self, origin: Origin) -> Connection:
        """What is known of a connection that did not come about."""
        connection = self._describe(origin, None, time.time(), 0.0)
        if self._vantage.proxy is None:
            connection.resolved = self._names.answers.get(origin.host, ())
        return connection

    def explain(self, origin: Origin, error: Exception) -> Failure:
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
