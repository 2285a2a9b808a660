"""Check 3 of the proof contract: segments → commits → root, over ranges of records that may run side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from mirror.formats import merkle, segments, warc
from mirror.verify import digests
from mirror.verify.container import READ, Stream
from mirror.verify.verdict import Name

_SMALL = 2 << 20
"""Records up to this many bytes are looked at in one piece."""

_MAX_PROBLEMS = 20


@dataclass(slots=True, kw_only=True)
class Problem:
    """Something wrong: its name, where, and a sentence."""

    name: Name
    place: str
    sentence: str


@dataclass(slots=True, kw_only=True)
class RangeResult:
    """What a range of records gave: tree nodes (see `merkle.Range`), CRC-32 and size of its compressed bytes."""

    start: int
    end: int
    nodes: list[merkle.Node] = field(default_factory=list)
    crc: int = 0
    size: int = 0
    raw: int = 0
    digests: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Records [first, last) that stand in bytes [start, end) of a file. `deep`: their own digests as well."""

    start: int
    end: int
    first: int
    last: int
    compressed: bool
    header: bytes  # how each gzip member starts
    deep: bool


def check_range(fd: int, job: Job, opening: segments.Opening) -> RangeResult:
    """Hash every byte of a range once, and check that it is exactly its records.

    Raises `MalformedError` for broken compression; everything else is in `problems`.
    """
    stream = Stream(fd, job.start, job.end, compressed=job.compressed, header=job.header)
    committer = segments.Committer(opening.secret)
    tree = merkle.Range(job.first)
    result = RangeResult(start=job.first, end=job.last)
    sizes: list[int] = []
    for number in range(job.first, job.last):
        cut = opening.cut(number)
        total = sum(cut)
        sizes.append(total)
        if total <= _SMALL:
            if not stream.ensure(total):
                result.problems.append(_ends_early(stream, number))
                return result
            leaf_digests = _small(stream, cut, total, number, result, job.deep)
        else:
            found = _large(stream, cut, total, number, result, job.deep)
            if found is None:
                result.problems.append(_ends_early(stream, number))
                return result
            leaf_digests = found
        tree.append(merkle.leaf_hash(committer.leaf(number, leaf_digests)))
        if len(result.problems) >= _MAX_PROBLEMS:
            return result
    if stream.ensure(1):
        result.problems.append(_problem(Name.UNSEALED_RECORD, job.last, "there is more than what was sealed"))
    result.nodes = tree.nodes
    result.raw = stream.tell()
    if stream.source is not None:
        result.crc = stream.source.crc
        result.size = job.end - job.start
        if not result.problems and (stream.source.odd or stream.source.sizes != sizes):
            place = next((n for n, (a, b) in enumerate(zip(stream.source.sizes, sizes, strict=False)) if a != b), 0)
            sentence = "not one gzip member a record with a plain header, or something between the members"
            result.problems.append(_problem(Name.MALFORMED, job.first + place, sentence))
    return result


def _small(stream: Stream, cut: list[int], total: int, number: int, result: RangeResult, deep: bool) -> list[bytes]:
    buffer, position = stream.buffer, stream.position
    end = position + total
    head_end = buffer.find(b"\r\n\r\n", position, end)
    if (
        head_end < 0
        or buffer[position : position + 10] != warc.VERSION
        or warc.content_length(buffer[position : head_end + 4], head_end - position) != end - head_end - 8
        or buffer[end - 4 : end] != warc.TAIL
    ):
        result.problems.append(_problem(Name.MALFORMED, number, "not one whole WARC record"))
    view = memoryview(buffer)
    stream.position = end
    out = []
    at = position
    for length in cut[:-1]:
        out.append(sha256(view[at : at + length]).digest())
        at += length
    if not deep or head_end < 0 or end - at < len(warc.TAIL):
        out.append(sha256(view[at:end]).digest())
        return out
    head = buffer[position : head_end + 4]
    # the last segment is the payload, in most records: hashed once for both
    hasher = sha256(view[at : end - 4])
    checked = digests.plain(head.lower(), buffer, head_end + 4, end - 4, (at, hasher.digest()))
    hasher.update(view[end - 4 : end])
    out.append(hasher.digest())
    if checked is None:
        check = digests.Record(head)
        check.feed(view[head_end + 4 : end - 4])
        checked = check.result()
    _deep(*checked, number, result)
    return out


def _large(
    stream: Stream, cut: list[int], total: int, number: int, result: RangeResult, deep: bool
) -> list[bytes] | None:
    """A record of any size, segment by segment; None when the range ends before it does."""
    if not stream.ensure(min(total, warc.MAX_HEAD)):
        return None
    buffer, position = stream.buffer, stream.position
    head_end = buffer.find(b"\r\n\r\n", position, position + min(total, warc.MAX_HEAD))
    head = buffer[position : head_end + 4] if head_end >= 0 else b""
    if not head.startswith(warc.VERSION) or warc.content_length(head, len(head) - 4) != total - len(head) - 4:
        result.problems.append(_problem(Name.MALFORMED, number, "not one whole WARC record"))
    check = digests.Record(head) if deep and head else None
    skip, left, tail = len(head), total - len(head) - 4, b""
    out = []
    for length in cut:
        hasher = sha256()
        for piece in _pieces(stream, length):
            if piece is None:
                return None
            hasher.update(piece)
            tail = (tail + bytes(piece[-4:]))[-4:]
            if check is not None:
                skipped = min(skip, len(piece))
                skip -= skipped
                body = piece[skipped : skipped + max(0, left)]
                left -= len(body)
                check.feed(body)
        out.append(hasher.digest())
    if tail != warc.TAIL:
        result.problems.append(_problem(Name.MALFORMED, number, "the record does not end with two empty lines"))
    if check is not None:
        _deep(*check.result(), number, result)
    return out


def _pieces(stream: Stream, length: int) -> Iterator[memoryview | None]:
    while length:
        if not stream.ensure(1):
            yield None
            return
        take = min(length, len(stream.buffer) - stream.position, READ * 4)
        yield memoryview(stream.buffer)[stream.position : stream.position + take]
        stream.position += take
        length -= take


def _deep(count: int, wrong: list[str], number: int, result: RangeResult) -> None:
    result.problems += [_problem(Name.DIGEST_MISMATCH, number, sentence) for sentence in wrong]
    result.digests += count


def _ends_early(stream: Stream, number: int) -> Problem:
    at_start = stream.position >= len(stream.buffer)
    if at_start:
        return _problem(Name.RECORD_MISSING, number, "the file ends before this sealed record")
    return _problem(Name.CONTENT_ALTERED, number, "the file ends within this sealed record")


def _problem(name: Name, number: int, sentence: str) -> Problem:
    return Problem(name=name, place=f"record {number}", sentence=sentence)
