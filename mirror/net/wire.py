"""One connection's protocol: writes a request, collects the answer byte for byte until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

from mirror.errors import LimitError
from mirror.formats.http1 import Framing, ResponseReader
from mirror.model import Connection, Exchange, Failure, FailureKind, Truncation

SPOOL_FROM = 1 << 20
"""Body bytes held in memory; what is larger goes to a file as it arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """Bounds of one exchange. Times in seconds, size in bytes as received.

    `connect_s` begins when a connection is being made, not while waiting for a free one. `spend` is told the size of
    each piece of a body; when it answers False the exchange is cut: a budget that many exchanges share.
    """

    connect_s: float = 20.0
    idle_s: float = 30.0
    total_s: float = 900.0
    max_bytes: int = 4 << 30
    spend: Callable[[int], bool] | None = None


class Wire(asyncio.Protocol):
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
        self._timer: asyncio.TimerHandle | None = None

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
        self._timer = self._loop.call_later(limits.idle_s, self._idle)
        try:
            exchange.request = request
            self.transport.write(request)
            return await waiter and reader.keep_alive
        finally:
            self._timer.cancel()
            self._take(reader, exchange)
            self._reader = self._exchange = self._waiter = self._timer = None

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
            _write(exchange.spool, data)
            return
        exchange.body.append(data)
        if exchange.body_size > SPOOL_FROM and self._spool is not None:
            exchange.spool = self._spool()
            for piece in exchange.body:
                _write(exchange.spool, piece)
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
            self._timer = self._loop.call_later(self._limits.idle_s - quiet, self._idle)

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
        if self._waiter is None or (self._waiter.done() and not reader.done):
            return
        before = exchange.body_size
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
            self._cut(exchange, f"cut after {self._limits.max_bytes} bytes")
        spend = self._limits.spend
        size = exchange.body_size - before
        if spend is not None and size and not spend(size) and not reader.done:
            self._cut(exchange, "cut: the capture's size limit was reached")

    def _cut(self, exchange: Exchange, why: str) -> None:
        exchange.truncated = Truncation.LENGTH
        exchange.failure = Failure(FailureKind.LIMIT, why)
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


def _write(spool: BinaryIO, data: bytes) -> None:
    """All of it: a raw file writes less than it is asked to on a disk that is nearly full."""
    written = spool.write(data)
    while written < len(data):
        data = data[written:]
        written = spool.write(data)


def _lost(reader: ResponseReader, error: Exception | None) -> str:
    what = "the connection broke" if error is not None else "the server closed the connection"
    return f"{what} before the end of the answer" if reader.view is not None else f"{what} without an answer"
