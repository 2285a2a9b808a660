"""WARC files that nobody sealed: their structure and the records' own digests (ISO 28500)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mirror.errors import MalformedError
from mirror.formats import warc
from mirror.verify import digests
from mirror.verify.container import READ, Stream
from mirror.verify.verdict import Name

_LENGTH = b"\ncontent-length:"
_VERSION = re.compile(rb"WARC/(?:0\.1[78]|1\.[01])\r?\n")
_TARGET = re.compile(rb"\r\nWARC-Target-URI: urn:mirror:(opening|seal):")
_MAX_PROBLEMS = 20
_SMALL = 1 << 20
"""Blocks up to this many bytes are looked at in one piece."""


@dataclass(slots=True, kw_only=True)
class Scan:
    """Counts over a range, and what was wrong: (name, place, sentence)."""

    records: int = 0
    digests: int = 0
    unchecked: int = 0
    without_digest: int = 0
    raw: int = 0
    ours: int = 0  # openings and seals met
    problems: list[tuple[Name, str, str]] = field(default_factory=list)


def scan(fd: int, start: int, end: int, *, compressed: bool) -> Scan:
    """Read [start, end) as WARC records one after the other, recomputing every digest they state.

    Raises `MalformedError` where the compression or the record structure breaks.
    """
    stream = Stream(fd, start, end, compressed=compressed, exact=False)
    result = Scan()
    while stream.ensure(1):
        began = stream.tell()
        head = _head(stream, result.records, began)
        lower = head.lower()
        size = _length(lower)
        if size is None:
            raise MalformedError("no single Content-Length", _place(result.records, began))
        checked = None
        if size <= _SMALL and stream.ensure(size + 4):
            start = stream.position
            checked = digests.plain(lower, stream.buffer, start, start + size)
        if checked is not None:
            stream.position += size
            count, wrong, unknown = checked[0], checked[1], 0
        else:
            check = _stream(stream, head, size, _place(result.records, began))
            wrong = check.finish()
            count, unknown = check.checked, check.unchecked
        if wrong and len(result.problems) < _MAX_PROBLEMS:
            result.problems += [(Name.DIGEST_MISMATCH, _place(result.records, began), w) for w in wrong]
        if not stream.ensure(4) or not stream.buffer.startswith(warc.TAIL, stream.position):
            raise MalformedError("a record does not end with two empty lines", _place(result.records, began))
        stream.position += 4
        result.records += 1
        result.digests += count
        result.unchecked += unknown
        result.without_digest += not count
        result.ours += b"urn:mirror:" in head and bool(_TARGET.search(head))
    result.raw = stream.tell()
    return result


def _length(lower: bytes) -> int | None:
    """Content-Length of a head in lower case; None when it is absent, malformed or stands twice."""
    at = lower.find(_LENGTH)
    if at < 0 or lower.find(_LENGTH, at + 1) >= 0:
        return None
    text = lower[at + len(_LENGTH) : lower.find(b"\n", at + 1)].strip(b" \t\r")
    return int(text) if text.isdigit() and len(text) <= 18 else None


def _place(number: int, offset: int) -> str:
    return f"record {number} at uncompressed offset {offset}"


def _stream(stream: Stream, head: bytes, left: int, place: str) -> digests.Record:
    """Take a block of any size through the digests that its head states."""
    check = digests.Record(head)
    while left:
        if not stream.ensure(1):
            raise MalformedError("the file ends within a record", place)
        take = min(left, len(stream.buffer) - stream.position, READ * 4)
        check.feed(memoryview(stream.buffer)[stream.position : stream.position + take])
        stream.position += take
        left -= take
    return check


def _head(stream: Stream, number: int, began: int) -> bytes:
    want = 2048
    while True:
        whole = stream.ensure(want)
        buffer, position = stream.buffer, stream.position
        end = buffer.find(b"\r\n\r\n", position, position + warc.MAX_HEAD)
        if not _VERSION.match(buffer, position):
            raise MalformedError("not a WARC record", _place(number, began))
        if end >= 0:
            stream.position = end + 4
            return buffer[position : end + 4]
        if not whole or want >= warc.MAX_HEAD:
            raise MalformedError("a WARC header without end", _place(number, began))
        want *= 4
