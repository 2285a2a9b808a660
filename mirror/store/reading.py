"""Read sealed capture files: the row the index keeps of each, its page, its records. Memory does not grow with a file.

A capture file is one gzip member a record: `warcinfo`, the exchanges, the log of exchanges, the outcome, then the
opening and the seal, which are last (archives/FORMAT.md). Reading proves nothing: that is the verifier's work.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mirror.errors import LimitError, MalformedError, UrlError
from mirror.formats import dsse, http1, statement, urls
from mirror.model import CaptureId, CaptureRow, Completeness, UrlRow
from mirror.store.members import HttpBlock, Record, open_file, records
from mirror.text.pool import Extract, ExtractFailure, Extractor, FailureReason

LARGEST_PAGE = 16 << 20
"""Bytes of a page's payload that are read for its text, and bytes that decoding them may give."""

_MOST_RECORDS = 3_000_000
_LARGEST_OUTCOME = 32 << 20
_SUFFIX = ".warc.gz"
_DOCUMENTS = frozenset({"", "text/html", "application/xhtml+xml", "application/xml", "text/xml"})
_CHARSET = re.compile(r";[ \t]*charset[ \t]*=[ \t]*[\"']?([!-~]{1,40}?)[\"']?[ \t]*(?:;|\Z)", re.I)
_LONGEST_MIME = 255  # RFC 6838 §4.2: 127 characters on each side of the slash
_ORIGIN = re.compile(r"[a-z][a-z-]{0,31}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A requisite that a capture could not keep."""

    url: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a capture says of itself in its `urn:mirror:outcome:` record."""

    capture: str
    target: str
    completeness: Completeness
    missing: tuple[Missing, ...]
    page: int | None
    status: int
    origin: str


class Page(NamedTuple):
    """The document a capture is about, without transfer and content coding; `content_type` as the server sent it."""

    payload: bytes
    url: str
    content_type: str


class Kept(NamedTuple):
    """One archived response: the heads byte for byte, the payload without transfer coding (content coding is left)."""

    warc_head: bytes
    http_head: bytes
    payload: bytes


def rows(path: Path, archives_root: Path) -> CaptureRow:
    """Read a sealed capture file into its row, with exact offsets and lengths of the members.

    Times are the seal's. Raises `MalformedError` with the place for anything that is not a whole capture file of ours,
    `HomeError` when the file cannot be read.
    """
    found: list[UrlRow] = []
    outcome: Outcome | None = None
    envelope: dsse.Envelope | None = None
    opening, count = -1, 0
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        for record in records(file, 0):
            kind, name, owner = record.kind()
            if envelope is not None:
                raise MalformedError("a record after the seal", record.place)
            if (kind == "warcinfo") != (count == 0):
                raise MalformedError("warcinfo is not the first record, or not the only one", record.place)
            if kind in ("response", "revisit"):
                view = HttpBlock(record).view()
                record.finish()
                found.append(_url_row(record, count, view, kind == "revisit"))
            elif name == "outcome":
                if outcome is not None:
                    raise MalformedError("a second outcome", record.place)
                outcome = _parse_outcome(record.block(_LARGEST_OUTCOME), record.place)
            elif name == "opening":
                opening = count
            elif name == "seal":
                envelope = dsse.decode(record.block(dsse.MAX_ENVELOPE))
            if name in ("outcome", "opening", "seal") and owner != path.name.removesuffix(_SUFFIX):
                raise MalformedError("the record belongs to another capture than the file's name says", record.place)
            record.finish()
            count += 1
            if count > _MOST_RECORDS:
                raise LimitError(f"more than {_MOST_RECORDS} records", record.place)
    if envelope is None or outcome is None or envelope.payload_type != dsse.IN_TOTO:
        raise MalformedError("not a sealed capture: no outcome or no seal", f"byte {size}")
    seal = statement.decode(envelope.payload)
    if (seal.records, seal.records + 2) != (opening, count) or not seal.capture == outcome.capture == owner:
        raise MalformedError("seal, opening and outcome do not belong together", f"byte {size}")
    if outcome.page is not None and outcome.page not in {row.record for row in found}:
        raise MalformedError("the page is not among the responses", "outcome.page")
    return CaptureRow(
        id=CaptureId(outcome.capture),
        path=path.relative_to(archives_root).as_posix(),
        target=outcome.target,
        surt=surt(outcome.target, "outcome.target"),
        started=seal.started,
        finished=seal.finished,
        completeness=outcome.completeness,
        origin=outcome.origin,
        missing=len(outcome.missing),
        status=outcome.status,
        page=outcome.page,
        records=seal.records,
        size=size,
        root=seal.root,
        signers=tuple(s.keyid for s in envelope.signatures),
        urls=tuple(found),
    )


def outcome(path: Path, row: CaptureRow) -> Outcome:
    """Read the outcome record; starts behind the last response, so a large capture costs no more than a small one.

    `row` has its `urls`. Raises `MalformedError`, `HomeError`.
    """
    start = max((url.offset for url in row.urls), default=0)
    with open_file(path) as file:
        for record in records(file, start):
            _, name, owner = record.kind()
            if name == "outcome" and owner == row.id:
                return _parse_outcome(record.block(_LARGEST_OUTCOME), record.place)
            record.finish()
    raise MalformedError("the outcome record is missing; run `mirror verify` on the file", path.name)


def page_payload(path: Path, row: CaptureRow, *, limit: int = LARGEST_PAGE) -> Page | None:
    """Read the page's payload, decoded and cut to `limit` bytes; None if the capture has no page.

    `row` has its `urls`. Raises `MalformedError` (also for an unknown content coding), `HomeError`.
    """
    asked = next((url for url in row.urls if url.record == row.page), None)
    if asked is None:
        return None
    with _response(path, asked) as block:
        view = block.view()
    with _response(path, stored(row, asked)) as block:
        payload = _limited(block.payload(), limit)
    coding = ",".join(view.all("content-encoding"))
    return Page(http1.decode_content(payload, coding, limit=limit), asked.url, view.get("content-type") or "")


def page_text(path: Path, row: CaptureRow, extractor: Extractor) -> Extract | ExtractFailure | None:
    """Extract the text of a capture's page; None if there is no page or it is no HTML document.

    Saving and rebuilding both call this, so both give the same. Raises `HomeError`, `MirrorError`.
    """
    try:
        page = page_payload(path, row)
    except MalformedError as e:
        return ExtractFailure(reason=FailureReason.REFUSED, detail=str(e))
    if page is None or mime_type(page.content_type) not in _DOCUMENTS:
        return None
    charset = _CHARSET.search(page.content_type[:1000])
    captured = datetime.fromisoformat(row.started)
    return extractor.extract(
        page.payload, url=page.url, http_charset=charset[1] if charset else None, captured=captured
    )


def record(path: Path, row: UrlRow, *, limit: int = 64 << 20) -> Kept:
    """Read one archived response, its payload cut to `limit` bytes (empty for a revisit: see `stored`).

    Raises `MalformedError`, `HomeError`.
    """
    with _response(path, row) as block:
        payload = _limited(block.payload(), limit)
        return Kept(block.record.raw_head, block.head, payload)


def payload(path: Path, row: UrlRow) -> Iterator[bytes]:
    """Yield the payload of one archived response in pieces: the body without its transfer coding."""
    with _response(path, row) as block:
        yield from block.payload()


def stored(row: CaptureRow, url: UrlRow) -> UrlRow:
    """The response of the same capture that holds the payload of `url`, which is itself unless it is a revisit."""
    if not url.revisit:
        return url
    first = next((u for u in row.urls if u.digest == url.digest and not u.revisit), None)
    if first is None:
        raise MalformedError("the payload it refers to is not in this capture", f"record {url.record}")
    return first


def mime_type(content_type: str | None) -> str:
    """Content-Type without parameters, in lower case; "" when absent."""
    return (content_type or "").partition(";")[0].strip().lower()[:_LONGEST_MIME]


def surt(url: str, place: str) -> str:
    """The index key of an archived URL. Raises `MalformedError`."""
    try:
        return urls.surt(urls.parse_href(url))
    except UrlError as e:
        raise MalformedError(str(e), place) from e


# -- responses


@contextmanager
def _response(path: Path, row: UrlRow) -> Iterator[HttpBlock]:
    with open_file(path) as file:
        record = next(records(file, row.offset), None)
        kind = record.kind()[0] if record else ""
        if record is None or kind not in ("response", "revisit") or record.require("warc-target-uri") != row.url:
            raise MalformedError(
                "not the response that the index names; run `mirror index rebuild`", f"byte {row.offset}"
            )
        yield HttpBlock(record)


def _limited(pieces: Iterable[bytes], limit: int) -> bytes:
    out = bytearray()
    for piece in pieces:
        out += piece
        if len(out) >= limit:
            break
    return bytes(out[:limit])


def _url_row(record: Record, number: int, view: http1.Head, revisit: bool) -> UrlRow:
    url = record.require("warc-target-uri")
    return UrlRow(
        surt=surt(url, record.place),
        date=record.require("warc-date"),
        url=url,
        status=view.status,
        mime=mime_type(view.get("content-type")),
        digest=record.head.get("warc-payload-digest") or record.require("warc-block-digest"),
        record=number,
        offset=record.offset,
        length=record.length,
        revisit=revisit,
    )


# -- the outcome


def _parse_outcome(block: bytes, place: str) -> Outcome:
    try:
        fields = json.loads(block)
        missing = tuple(_missing(m, place) for m in _of_type(fields["missing"], list, place))
        page, origin = fields["page"], _of_type(fields["origin"], str, place)
        result = Outcome(
            capture=_of_type(fields["capture"], str, place),
            target=_of_type(fields["target"], str, place),
            completeness=Completeness(fields["completeness"]),
            missing=missing,
            page=None if page is None else _of_type(page, int, place),
            status=_of_type(fields["status"], int, place),
            origin=origin,
        )
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise MalformedError("not an outcome", place) from e
    if not 0 <= result.status < 1000 or not result.target.isascii() or not _ORIGIN.fullmatch(origin):
        raise MalformedError("an outcome with a value out of range", place)
    return result


def _missing(fields: Any, place: str) -> Missing:
    return Missing(**{name: _of_type(fields[name], str, place) for name in ("url", "kind", "reason")})


def _of_type(value: Any, kind: type[_T], place: str) -> _T:
    if type(value) is not kind:
        raise MalformedError(f"{kind.__name__} expected", place)
    return value
