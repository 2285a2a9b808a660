"""The list of stages: report → capture → record and seal → index → verify → text. The only place where they meet."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import mirror
from mirror.capture import Browser, Capture, CaptureLimits, Missing, Scope, capture
from mirror.config import Config
from mirror.errors import HomeError
from mirror.formats import urls
from mirror.formats.warc import date
from mirror.model import CaptureId, CaptureRow, Exchange, Report, UrlRow
from mirror.net.connector import Vantage
from mirror.net.cookies import Jar
from mirror.net.fetch import Fetcher
from mirror.net.guard import Guard
from mirror.record import Recorder, Sealed, Signer, Written
from mirror.store import durable, reading
from mirror.store.home import Home, capture_path
from mirror.store.index import Index
from mirror.text.pool import Extractor
from mirror.verify import verifier
from mirror.verify.policy import TrustPolicy
from mirror.verify.verdict import Verdict

SOFTWARE = f"mirror/{mirror.__version__}"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A capture that is sealed and durable. `seconds`: from the report to that moment."""

    row: CaptureRow
    path: Path
    result: Capture
    sealed: Sealed
    seconds: float


class Preserver:
    """Preserves URLs into one home over one vantage. An async context manager; `preserve` may run many times at once.

    `signers` are opened keys; `watch` is told the body size of each exchange. Errors of the disk (`HomeError`)
    come out of `preserve`; the network's do not.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        signers: Sequence[Signer],
        *,
        vantage: str | None = None,
        allow_private: bool = False,
        scope: Scope | None = None,
        at_once: int = 16,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        settings = config.capture
        way = config.vantage(vantage) if vantage else None
        self._home, self._signers = home, signers
        self._vantage = Vantage(name=vantage or "direct", proxy=way.proxy if way else None)
        self._browser = Browser(
            user_agent=(way and way.user_agent) or settings.user_agent,
            languages=(way and way.languages) or settings.languages,
            headers=way.extra_headers if way and way.extra_headers is not None else settings.extra_headers,
        )
        self._limits = CaptureLimits(
            total_s=settings.page_timeout_s, max_bytes=settings.max_capture_bytes,
            max_response=settings.max_response_bytes, max_requests=settings.max_requests,
            parallel_per_host=settings.connections_per_host,
            frame_depth=settings.frame_depth, retries=settings.retries, idle_s=settings.idle_timeout_s,
        )  # fmt: skip
        self._scope = scope or Scope()
        self._watch = watch
        self._guard = Guard(allow_private=allow_private)
        self._settings = settings
        self._at_once = asyncio.Semaphore(at_once)
        self._disk = ThreadPoolExecutor(2, thread_name_prefix="disk")
        self._database = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._fetcher: Fetcher | None = None
        self._index: Index | None = None
        self._unindexed: list[tuple[CaptureRow, asyncio.Future[None]]] = []
        self._committing = asyncio.Lock()

    async def __aenter__(self) -> Preserver:
        self._index = await self._in(self._database, Index.open, self._home.index_path)
        if self._vantage.proxy is None:
            self._fetcher = self._new_fetcher()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._fetcher is not None:
            await self._fetcher.close()
        if self._index is not None:
            await self._in(self._database, self._index.close)
        self._disk.shutdown()
        self._database.shutdown()

    async def preserve(self, report: Report) -> Kept:
        """Capture, record, seal, make durable, index. What is returned survives a power cut.

        Raises `HomeError` when the home cannot take it; nothing half-written is left behind then.
        """
        async with self._at_once:
            begun = time.monotonic()
            fetcher = self._fetcher or self._new_fetcher()  # behind a proxy: connections of its own (one Tor circuit)
            try:
                kept = await self._preserve(report, fetcher, begun)
            finally:
                if fetcher is not self._fetcher:
                    await fetcher.close()
        return kept

    async def _preserve(self, report: Report, fetcher: Fetcher, begun: float) -> Kept:
        identity = CaptureId(str(uuid.UUID(bytes=os.urandom(16), version=4)))
        started = time.time()
        path = capture_path(self._home, identity, datetime.fromtimestamp(started, UTC))
        staged = await self._in(self._disk, self._stage, path.parent)
        try:
            recorder = Recorder(staged, identity, random=os.urandom(44))
            recorder.info(SOFTWARE, started)
            keeper = _Keeper(recorder, functools.partial(self._in, self._disk), self._watch)
            try:
                result = await capture(
                    urls.parse_href(report.url), fetcher=fetcher, cookies=Jar(), keeper=keeper, browser=self._browser,
                    limits=self._limits, scope=self._scope,
                )  # fmt: skip
            except* (HomeError, OSError) as errors:
                raise _first(errors, self._home.root) from None
            finished = max(time.time(), started)
            recorder.exchanges(finished)
            outcome = _outcome(identity, result, self._vantage.name, date(started), date(finished))
            recorder.metadata("outcome", "application/json", [outcome], finished)
            sealed = recorder.seal(self._signers, started=started, finished=finished, version=mirror.__version__)
            await self._in(self._disk, staged.publish, path)
        finally:
            staged.discard()
        row = self._row(identity, path, result, sealed, keeper.rows, date(started), date(finished))
        await self._enter(row)
        return Kept(row=row, path=path, result=result, sealed=sealed, seconds=time.monotonic() - begun)

    async def _enter(self, row: CaptureRow) -> None:
        """Into the index, with what other captures bring while a commit runs: one commit then serves them all."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unindexed.append((row, done))
        async with self._committing:
            batch, self._unindexed = self._unindexed, []
            if batch and self._index is not None:
                try:
                    await self._in(self._database, self._index.add, *(r for r, _ in batch))
                except Exception as e:  # noqa: BLE001  whatever it is, all who wait must hear of it
                    for _, waiting in batch:
                        waiting.set_exception(e)
                else:
                    for _, waiting in batch:
                        waiting.set_result(None)
        await done

    def _stage(self, folder: Path) -> durable.Staged:
        durable.make_dir(folder, base=self._home.root)
        return durable.Staged.open(folder, mode=0o644)

    def _new_fetcher(self) -> Fetcher:
        return Fetcher(
            vantage=self._vantage, guard=self._guard, spool=self._spool, connections=self._settings.connections,
            connections_per_host=self._settings.connections_per_host,
            allow_invalid_tls=self._settings.allow_invalid_tls,
        )  # fmt: skip

    def _spool(self) -> BinaryIO:
        """A nameless file on the home's disk: whatever happens, nothing of it stays."""
        return tempfile.TemporaryFile(dir=self._home.state, buffering=0)

    def _row(
        self,
        identity: CaptureId,
        path: Path,
        result: Capture,
        sealed: Sealed,
        found: list[UrlRow],
        started: str,
        finished: str,
    ) -> CaptureRow:
        return CaptureRow(
            id=identity, path=path.relative_to(self._home.archives).as_posix(), target=result.target,
            surt=urls.surt(urls.parse_href(result.target)), started=started, finished=finished,
            completeness=result.completeness, origin="captured", missing=len(result.missing), status=result.status,
            page=result.page, records=sealed.records, size=sealed.size, root=sealed.root, signers=sealed.signers,
            urls=tuple(found),
        )  # fmt: skip

    async def add_text(self, kept: Kept, extractor: Extractor) -> None:
        """Extract the page's text in a child process and index it. Derived data: a failure is noted, never fatal."""
        index = self._index
        if index is None:
            return
        found = await self._in(self._disk, reading.page_text, kept.path, kept.row, extractor)
        await self._in(self._database, index.add_text, kept.row.id, found)

    async def verify(self, kept: Kept, policy: TrustPolicy) -> Verdict:
        """Read the file back from disk and verify it."""
        return await self._in(self._disk, verifier.verify, kept.path, policy)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(pool, functools.partial(function, *arguments))


class _Keeper:
    """Records exchanges one after the other; large bodies off the event loop."""

    def __init__(self, recorder: Recorder, off_loop: Callable[..., Any], watch: Callable[[int], None] | None) -> None:
        self._recorder = recorder
        self._watch = watch
        self._off_loop = off_loop
        self._lock = asyncio.Lock()
        self.rows: list[UrlRow] = []

    async def keep(self, exchange: Exchange) -> int | None:
        if exchange.spool is not None or self._lock.locked():
            async with self._lock:
                if exchange.spool is None:
                    written = self._recorder.exchange(exchange)
                else:
                    written = await self._off_loop(self._recorder.exchange, exchange)
                    exchange.spool.close()
                    exchange.spool = None
        else:
            written = self._recorder.exchange(exchange)
        exchange.body = []
        if self._watch is not None:
            self._watch(exchange.body_size)
        if written is None:
            return None
        self.rows.append(_url_row(exchange, written))
        return written.number


def _url_row(exchange: Exchange, written: Written) -> UrlRow:
    return UrlRow(
        surt=urls.surt(urls.parse_href(exchange.url)), date=written.date, url=exchange.url, status=exchange.status,
        mime=reading.mime_type(exchange.header("content-type")), digest=f"sha256:{written.digest}",
        record=written.number, offset=written.offset, length=written.length, revisit=written.revisit,
    )  # fmt: skip


def _outcome(identity: CaptureId, result: Capture, vantage: str, started: str, finished: str) -> bytes:
    """The outcome record: what the capture says of itself."""

    def listed(missing: list[Missing]) -> list[dict[str, str]]:
        return [{"url": m.url, "kind": m.kind.value, "reason": m.reason} for m in missing]

    failure = result.failure
    document = {
        "capture": identity, "target": result.target, "final": result.final, "started": started, "finished": finished,
        "completeness": result.completeness.value, "status": result.status, "page": result.page, "origin": "captured",
        "vantage": vantage, "requests": result.requests, "bytes": result.bytes, "parts": result.parts,
        "failure": {"kind": failure.kind.value, "detail": failure.detail} if failure else None,
        "missing": listed(result.missing), "absent": listed(result.absent),
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def _first(errors: BaseExceptionGroup[Any], place: Path) -> HomeError:
    error = errors.exceptions[0]
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, HomeError) else durable.explain(error, place)
