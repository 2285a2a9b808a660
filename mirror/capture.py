"""Capture a page and what it needs to be shown: which URLs, in which order, until when, and what is missing.

Every exchange goes to the keeper as soon as it is over, so a capture holds little in memory. The stage knows neither
sockets nor files: it is handed a fetcher and a keeper.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Protocol

from mirror.errors import MalformedError
from mirror.formats.http1 import dechunk, decode_whole
from mirror.formats.urls import Url, join, parse_href
from mirror.model import Completeness, Exchange, Failure, FailureKind, Link, LinkKind
from mirror.requisites.document import REQUISITES, DocumentKind, Found, links

MAX_REDIRECTS = 20
MAX_DOCUMENT = 16 << 20
"""Decoded bytes of a document that are searched for links; the rest is kept but not searched."""

MAX_PARTS = 200
"""Feed items or site-map pages kept with one capture."""

_OFF_LOOP = 256 << 10
"""Documents above this size, decoded, are searched in a thread: other captures go on meanwhile."""

_REDIRECT = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_ABSENT = frozenset({404, 410})
_TRANSIENT = frozenset(
    {FailureKind.DNS, FailureKind.REFUSED, FailureKind.UNREACHABLE, FailureKind.DISCONNECTED, FailureKind.PROXY}
)
_SHOWN = REQUISITES - {LinkKind.ICON, LinkKind.PREVIEW, LinkKind.OEMBED}
"""Kinds without which the page is not shown as it was; the others are fetched too, but the page is whole without."""

_DOCUMENTS = frozenset({LinkKind.PAGE, LinkKind.FRAME, LinkKind.FEED_ITEM, LinkKind.SITEMAP_ITEM, LinkKind.NEXT_PART})
_SEARCHED = _DOCUMENTS | {LinkKind.STYLE, LinkKind.OEMBED}
_ACCEPT = {
    LinkKind.STYLE: "text/css,*/*;q=0.1",
    LinkKind.IMAGE: "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
    LinkKind.ICON: "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
}
_ACCEPT_DOCUMENT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureLimits:
    """Bounds of one capture. Times in seconds, sizes in bytes as received."""

    total_s: float = 120.0
    max_bytes: int = 8 << 30
    max_response: int = 4 << 30
    max_requests: int = 1500
    parallel: int = 64
    parallel_per_host: int = 32
    frame_depth: int = 2
    retries: int = 2
    retry_s: float = 0.5
    idle_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is kept besides the page: `follow` next parts of an article, feed items, pages of a site map."""

    follow: int = 0
    feed_items: bool = True
    sitemap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """How we present ourselves. `headers`: more lines, as configured for the vantage."""

    user_agent: str
    languages: str
    headers: tuple[tuple[str, str], ...] = ()


class Fetcher(Protocol):
    """Gets one URL (`net.fetch.Fetcher`); `idle_s`, `total_s`, `max_bytes` bound it.

    `spend` is told the size of each piece of the body as it comes; when it answers False, the rest is left.
    """

    async def get(
        self,
        url: Url,
        headers: Sequence[tuple[str, str]],
        *,
        idle_s: float,
        total_s: float,
        max_bytes: int,
        spend: Callable[[int], bool],
    ) -> Exchange: ...


class Cookies(Protocol):
    def store(self, url: Url, values: Iterable[str]) -> None: ...

    def header(self, url: Url) -> str | None: ...


class Keeper(Protocol):
    """Records an exchange; returns the number of its response's record, or None when there was no answer."""

    async def keep(self, exchange: Exchange) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Missing:
    """A requisite that is not kept, and why."""

    url: str
    kind: LinkKind
    reason: str


@dataclass(slots=True, kw_only=True)
class Capture:
    """What a capture came to. `page`: record number of the page's response; `final`: its URL after redirects."""

    target: str
    final: str
    completeness: Completeness = Completeness.FAILED
    status: int = 0
    page: int | None = None
    failure: Failure | None = None
    missing: list[Missing] = field(default_factory=list)
    absent: list[Missing] = field(default_factory=list)  # the site has it not, or the page is shown without it
    parts: list[str] = field(default_factory=list)
    requests: int = 0
    bytes: int = 0


async def capture(
    target: Url,
    *,
    fetcher: Fetcher,
    cookies: Cookies,
    keeper: Keeper,
    browser: Browser,
    limits: CaptureLimits,
    scope: Scope,
) -> Capture:
    """Fetch `target` and its requisites. Raises only what fetcher and keeper raise (a full disk, for instance)."""
    run = _Run(fetcher, cookies, keeper, browser, limits, scope, Capture(target=target.href, final=target.href))
    return await run.all(target)


@dataclass(frozen=True, slots=True)
class _Task:
    url: Url
    kind: LinkKind
    depth: int  # frames within frames
    part: int  # how many parts of an article lie before
    referrer: Url | None


class _Run:
    def __init__(
        self,
        fetcher: Fetcher,
        cookies: Cookies,
        keeper: Keeper,
        browser: Browser,
        limits: CaptureLimits,
        scope: Scope,
        result: Capture,
    ) -> None:
        self._fetcher, self._cookies, self._keeper = fetcher, cookies, keeper
        self._limits, self._scope, self._result = limits, scope, result
        self._deadline = time.monotonic() + limits.total_s
        self._seen: set[str] = set()
        self._queue: list[_Task] = []
        self._hosts: dict[str, float] = {}  # host → monotonic time before which it asked to be left alone
        self._slots = asyncio.Semaphore(limits.parallel)
        self._host_slots: dict[str, asyncio.Semaphore] = {}
        self._needed: set[str] = set()  # what the page is not shown without, wherever else it is mentioned
        self._misses: list[Missing] = []
        self._fixed = (("User-Agent", browser.user_agent),)
        self._language = (("Accept-Language", browser.languages), ("Accept-Encoding", "gzip, deflate, br"))
        self._extra = (*browser.headers, ("Connection", "keep-alive"))

    async def all(self, target: Url) -> Capture:
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._add(_Task(target, LinkKind.PAGE, 0, 0, None))
        result = self._result
        for missing in dict.fromkeys(self._misses):
            shown = missing.kind in _SHOWN or missing.kind in _DOCUMENTS or missing.url in self._needed
            (result.missing if shown else result.absent).append(missing)
        if result.page is not None and result.failure is None:
            result.completeness = Completeness.PARTIAL if result.missing else Completeness.COMPLETE
        elif result.page is not None:
            result.completeness = Completeness.PARTIAL
        result.missing.sort(key=lambda m: m.url)
        result.absent.sort(key=lambda m: m.url)
        return result

    def _add(self, task: _Task) -> None:
        href = task.url.href
        if task.kind in _SHOWN:
            self._needed.add(href)
        if href in self._seen:
            return
        self._seen.add(href)
        if len(self._seen) > self._limits.max_requests:
            self._miss(task, f"not tried: more than {self._limits.max_requests} URLs")
            return
        self._group.create_task(self._visit(task))

    async def _visit(self, task: _Task) -> None:
        host = task.url.host
        of_host = self._host_slots.get(host)
        if of_host is None:
            of_host = self._host_slots[host] = asyncio.Semaphore(self._limits.parallel_per_host)
        async with of_host, self._slots:  # in this order: who waits for a slow host takes no other's place
            exchange = await self._through_redirects(task)
        if exchange is not None:
            self._judge(task, exchange)

    async def _through_redirects(self, task: _Task) -> Exchange | None:
        url = task.url
        visited = {url.href}
        while True:
            exchange, number = await self._persistently(task, url)
            if exchange is None:
                return None
            if task.referrer is None:
                self._result.page, self._result.status, self._result.final = number, exchange.status, url.href
                self._result.failure = exchange.failure
            location = exchange.header("location") if exchange.status in _REDIRECT else None
            if location is None:
                return exchange
            following = join(url, location)
            if following is None:
                exchange.failure = Failure(FailureKind.URL, "redirected to something that is no web address")
                return exchange
            if following.href in visited or len(visited) > MAX_REDIRECTS:
                exchange.failure = Failure(FailureKind.REDIRECTS, "redirected in a circle or too often")
                return exchange
            visited.add(following.href)
            if following.href in self._seen:
                if task.kind in _SHOWN:
                    self._needed.add(following.href)
                return None  # somebody else gets it, and answers for it
            self._seen.add(following.href)
            url = following

    async def _persistently(self, task: _Task, url: Url) -> tuple[Exchange | None, int | None]:
        """One URL, tried again where that is worth it; each attempt is kept."""
        attempt = 1
        while True:
            if not await self._wait_for_host(url):
                self._miss(task, "not tried: the site asked to be left alone for longer than this capture may take")
                return None, None
            left = self._deadline - time.monotonic()
            if reached := self._reached(left):
                self._miss(task, f"not tried: the capture's {reached} limit was reached")
                return None, None
            self._result.requests += 1
            exchange = await self._fetcher.get(
                url,
                self._headers(task, url),
                idle_s=min(self._limits.idle_s, left),
                total_s=left,
                max_bytes=self._limits.max_response,
                spend=self._spend,
            )
            exchange.attempt = attempt
            if set_cookies := [v for k, v in exchange.fields if k == "set-cookie"]:
                self._cookies.store(url, set_cookies)
            again = self._again(exchange, url, attempt)
            try:
                if again is None and exchange.status not in _REDIRECT and task.kind in _SEARCHED:
                    await self._search(task, exchange, url)
                number = await self._keeper.keep(exchange)
            finally:
                if exchange.spool is not None:
                    exchange.spool.close()
                    exchange.spool = None
            if again is None:
                return exchange, number
            attempt += 1
            await asyncio.sleep(again)

    def _reached(self, left: float) -> str:
        """The name of the budget that is used up, if one is."""
        if left <= 0:
            return "time"
        if self._result.bytes >= self._limits.max_bytes:
            return "size"
        return "request" if self._result.requests >= self._limits.max_requests else ""

    def _spend(self, size: int) -> bool:
        """Count received bytes, of all exchanges at once; False when the capture may take no more."""
        self._result.bytes += size
        return self._result.bytes < self._limits.max_bytes

    async def _wait_for_host(self, url: Url) -> bool:
        until = self._hosts.get(url.host)
        if until is None:
            return True
        if until >= self._deadline:
            return False
        wait = until - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        return True

    def _again(self, exchange: Exchange, url: Url, attempt: int) -> float | None:
        """Seconds to wait before another attempt, or None when there is to be none."""
        failure = exchange.failure
        worth = exchange.status in _TRY_AGAIN if failure is None else failure.kind in _TRANSIENT
        asked = _retry_after(exchange.header("retry-after")) if exchange.status in _TRY_AGAIN else None
        if asked is not None:
            self._hosts[url.host] = max(self._hosts.get(url.host, 0.0), time.monotonic() + asked)
        if not worth or attempt > self._limits.retries or self._result.requests >= self._limits.max_requests:
            return None
        wait = self._limits.retry_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter only
        if asked is not None:
            wait = max(wait, asked)
        return wait if time.monotonic() + wait < self._deadline else None

    def _headers(self, task: _Task, url: Url) -> list[tuple[str, str]]:
        referrer = task.referrer  # redirects do not change it
        accept = _ACCEPT_DOCUMENT if task.kind in _DOCUMENTS else _ACCEPT.get(task.kind, "*/*")
        lines = [*self._fixed, ("Accept", accept), *self._language]
        if referrer is not None and not (referrer.scheme == "https" and url.scheme == "http"):
            same = referrer.origin == url.origin  # strict-origin-when-cross-origin, a browser's default
            lines.append(("Referer", referrer.href if same else f"{referrer.origin}/"))
        lines += self._extra
        cookie = self._cookies.header(url)
        if cookie:
            lines.append(("Cookie", cookie))
        return lines

    # -- what a document needs

    async def _search(self, task: _Task, exchange: Exchange, url: Url) -> None:
        if not exchange.body_size:
            return
        # a first look, bounded, tells how large the document is once it is decoded
        read = _document(exchange, _OFF_LOOP) if exchange.spool is None else _Read(b"")
        if exchange.spool is None and len(read.body) < _OFF_LOOP:
            found = _links_of(read, exchange, url, task)
        else:
            read, found = await asyncio.to_thread(_read_and_search, exchange, url, task)
        if read.problem and found.kind is not DocumentKind.OTHER and exchange.truncated is None:
            self._miss(task, read.problem)
        if found.cut:
            self._miss(task, "it has more links than are looked at; the rest is not kept")
        if task.kind is LinkKind.STYLE or task.kind is LinkKind.OEMBED:
            follow: frozenset[LinkKind] = REQUISITES
        else:
            follow = REQUISITES | self._parts(task, found.kind)
        left_out = [link for link in found.links if link.kind in follow and not self._follow(link, task, url)]
        if left_out:
            reason = f"not tried: more than {MAX_PARTS} parts ({len(left_out)} of this document are left out)"
            self._miss(_Task(parse_href(left_out[0].url), left_out[0].kind, task.depth, task.part, url), reason)

    def _parts(self, task: _Task, kind: DocumentKind) -> frozenset[LinkKind]:
        """Kinds of further pages that belong to this capture."""
        more = set()
        if task.part < self._scope.follow:
            more.add(LinkKind.NEXT_PART)
        if task.kind is LinkKind.PAGE and kind is DocumentKind.FEED and self._scope.feed_items:
            more.add(LinkKind.FEED_ITEM)
        if task.kind in (LinkKind.PAGE, LinkKind.SITEMAP_ITEM) and kind is DocumentKind.SITEMAP and self._scope.sitemap:
            more.add(LinkKind.SITEMAP_ITEM)
        return frozenset(more)

    def _follow(self, link: Link, task: _Task, url: Url) -> bool:
        """Get what a link leads to; False when there are too many parts already."""
        following = parse_href(link.url)
        depth, part = task.depth, task.part
        if link.kind is LinkKind.FRAME:
            depth += 1
            if depth > self._limits.frame_depth:
                if link.url not in self._seen:
                    reason = "not tried: frames within frames, too deep"
                    self._miss(_Task(following, link.kind, depth, part, url), reason)
                return True
        elif link.kind in _DOCUMENTS:
            if link.url not in self._seen:
                if len(self._result.parts) >= MAX_PARTS:
                    return False
                self._result.parts.append(link.url)
            part += 1
        self._add(_Task(following, link.kind, depth, part, url))
        return True

    # -- what came of it

    def _judge(self, task: _Task, exchange: Exchange) -> None:
        if exchange.failure is not None:
            self._miss(task, exchange.failure.detail, exchange.failure.kind)
        elif exchange.truncated is not None:
            self._miss(task, f"cut off ({exchange.truncated.value})")
        elif exchange.status in _ABSENT and task.referrer is not None:
            self._result.absent.append(Missing(task.url.href, task.kind, f"the site answered {exchange.status}"))
        elif exchange.status >= 400 and task.referrer is not None:
            self._miss(task, f"the site answered {exchange.status}")

    def _miss(self, task: _Task, reason: str, kind: FailureKind = FailureKind.BUDGET) -> None:
        if task.referrer is None and self._result.failure is None:
            self._result.failure = Failure(kind, reason)
        self._misses.append(Missing(task.url.href, task.kind, reason))


@dataclass(frozen=True, slots=True)
class _Read:
    """A document's decoded body, as far as it is searched. `problem`: why it is not all, "" when it is."""

    body: bytes
    problem: str = ""


def _read_and_search(exchange: Exchange, url: Url, task: _Task) -> tuple[_Read, Found]:
    read = _document(exchange, MAX_DOCUMENT)
    return read, _links_of(read, exchange, url, task)


def _links_of(read: _Read, exchange: Exchange, url: Url, task: _Task) -> Found:
    content_type = exchange.header("content-type") or ""
    if task.kind is LinkKind.STYLE and not content_type:
        content_type = "text/css"
    charset = _CHARSET.search(content_type)
    wanted = REQUISITES | {LinkKind.NEXT_PART, LinkKind.FEED_ITEM, LinkKind.SITEMAP_ITEM}
    return links(read.body, url=url, content_type=content_type, charset=charset[1] if charset else None, kinds=wanted)


def _document(exchange: Exchange, limit: int) -> _Read:
    """The decoded body of an exchange, up to `limit` bytes; empty when its coding is unknown."""
    if exchange.spool is not None:
        exchange.spool.seek(0)
        body = [exchange.spool.read(limit)]
        exchange.spool.seek(0, 2)
    else:
        body = exchange.body
    payload = dechunk(body) if exchange.chunked else b"".join(body)
    too_long = f"it is longer than the {limit >> 20} MiB that are searched; what the rest needs is not known"
    coding = ", ".join(value for name, value in exchange.fields if name == "content-encoding")
    if coding:
        try:
            payload, whole = decode_whole(payload, coding, limit=limit)
        except MalformedError:
            return _Read(b"", "its content coding is unknown, so what it needs is not known")
        if not whole:
            long = len(payload) >= limit or (exchange.spool is not None and exchange.body_size > limit)
            return _Read(
                payload, too_long if long else "its content coding is broken; what the rest needs is not known"
            )
    if len(payload) > limit or exchange.body_size > MAX_DOCUMENT:
        return _Read(payload[:limit], too_long)
    return _Read(payload)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After field (RFC 9110 §10.2.3), or None."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) < 9:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
