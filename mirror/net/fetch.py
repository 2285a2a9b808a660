"""Fetch one URL and keep what crossed the wire, byte for byte, in both directions.

aiohttp's connector makes, pools and limits the connections (`net.connector`); the exchange above them is ours
(`net.wire`), because an HTTP client's API hands out a parsed response, and evidence is what was received.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, BinaryIO, cast

import aiohttp
from aiohttp.abc import AbstractResolver

from mirror.errors import NetworkError
from mirror.formats.urls import Url
from mirror.model import Exchange, Failure, FailureKind, Truncation
from mirror.net.connector import Connector, Origin, Resolver, Vantage, trusted, unverified
from mirror.net.guard import Guard
from mirror.net.wire import FetchLimits, Wire

_MAX_ORIGINS = 10_000


class Fetcher:
    """Fetches over pooled connections of one vantage. Close it, or use it as an async context manager.

    `spool` opens an anonymous temporary file for a large body; its errors come out of `fetch`. Behind a SOCKS proxy
    without credentials it makes up its own, so that Tor gives each fetcher circuits of its own. `resolver` is the
    system's unless another is given; it is never asked for a target's address when there is a proxy.
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
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._vantage = vantage
        self._guard = guard
        self._spool = spool
        self._unverified = unverified() if allow_invalid_tls else None
        names = Resolver(resolver)
        self._connector = Connector(vantage, guard, trust or trusted(), connections, connections_per_host, names)
        self._origins: dict[tuple[str, str, int, bool], Origin] = {}
        self._invalid: set[tuple[str, int | None]] = set()  # known not to have a valid certificate

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connector.close()

    async def get(
        self,
        url: Url,
        headers: Sequence[tuple[str, str]],
        *,
        idle_s: float,
        total_s: float,
        max_bytes: int,
        spend: Callable[[int], bool] | None = None,
    ) -> Exchange:
        """`fetch` with the limits spelt out."""
        limits = FetchLimits(idle_s=idle_s, total_s=total_s, max_bytes=max_bytes, spend=spend)
        return await self.fetch(url, headers=headers, limits=limits)

    async def fetch(self, url: Url, *, headers: Sequence[tuple[str, str]], limits: FetchLimits) -> Exchange:
        """GET `url` with exactly these header lines after Host. Never raises for what the network does.

        A whole or cut answer, or the reason why there is none, is in the exchange. Raises only what `spool` raises.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        request = f"GET {url.target} HTTP/1.1\r\nHost: {url.host_header}\r\n{lines}\r\n".encode()
        if self._unverified is None:
            return await self._once(url, request, limits, verify=True)
        server = (url.host, url.port)
        if server not in self._invalid:
            exchange = await self._once(url, request, limits, verify=True)
            if exchange.failure is None or exchange.failure.kind is not FailureKind.TLS:
                return exchange
            self._invalid.add(server)
            limits = replace(limits, total_s=max(0.0, limits.total_s - exchange.seconds))
        return await self._once(url, request, limits, verify=False)

    async def _once(self, url: Url, request: bytes, limits: FetchLimits, *, verify: bool) -> Exchange:
        exchange = Exchange(url=url.href, started=time.time())
        begun = time.monotonic()
        try:
            async with asyncio.timeout(limits.total_s):
                await self._exchange(exchange, self._origin(url, verify), request, limits)
        except TimeoutError:
            exchange.truncated = Truncation.TIME if exchange.answered else None
            exchange.failure = Failure(FailureKind.TIMEOUT, f"not finished after {limits.total_s:.3g} s")
        except BaseException:
            if exchange.spool is not None:
                exchange.spool.close()
            raise
        exchange.seconds = time.monotonic() - begun
        return exchange

    async def _exchange(self, exchange: Exchange, origin: Origin, request: bytes, limits: FetchLimits) -> None:
        while True:
            try:
                if self._vantage.proxy is not None:
                    self._guard.check_far_end(origin.host)
                pooled = await self._connector.connect(cast(Any, origin), [], _connect_within(limits.connect_s))
            except TimeoutError:
                exchange.failure = Failure(FailureKind.TIMEOUT, f"no connection after {limits.connect_s:g} s")
                exchange.connection = self._connector.failed(origin)
                return
            except (aiohttp.ClientError, NetworkError, OSError, ssl.SSLError, ValueError) as e:
                exchange.failure = self._connector.explain(origin, e)
                exchange.connection = self._connector.failed(origin)
                return
            protocol = cast(Wire, pooled.protocol)
            reused = protocol.exchanges > 0
            whole = False
            try:
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
            exchange.failure, exchange.request = None, b""

    def _origin(self, url: Url, verify: bool) -> Origin:
        port = url.port or (443 if url.scheme == "https" else 80)
        key = (url.scheme, url.host, port, verify)
        origin = self._origins.get(key)
        if origin is None:
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            context = self._unverified if url.scheme == "https" and not verify else None
            origin = self._origins[key] = Origin(url.host, port, url.scheme == "https", context)
        return origin


@lru_cache(maxsize=8)
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    """Told to `_create_connection`; aiohttp's own limit would include the wait for a free connection."""
    return aiohttp.ClientTimeout(total=seconds, connect=None, sock_connect=None)
