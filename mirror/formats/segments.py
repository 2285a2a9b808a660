"""Salted segment tree over WARC records, and the opening that lets a stranger recompute it (archives/FORMAT.md).

    salt(r,s)   = HMAC-SHA256(secret, "mirror/segment-salt/v1" || u64be(r) || u64be(s))
    commit(r,s) = SHA-256("mirror/segment/v1" || 0x00 || salt(r,s) || SHA-256(segment bytes))
    leaf(r)     = u64be(number of segments) || MTH({commit(r,s)})
    root        = MTH({leaf(r)})          over all sealed records, in file order; MTH = RFC 6962 §2.1

The opening is the block of a `metadata` record, ASCII lines that end in LF:

    mirror-opening/v1
    <base64 of the 32-byte secret>
    <length> <length> …         one line a record, in file order: the segment lengths in bytes
"""

from __future__ import annotations

import base64
import re
from array import array
from collections.abc import Sequence
from hashlib import sha256
from operator import sub

from mirror.errors import LimitError, MalformedError

SECRET_SIZE = 32
BODY_CUT = 1 << 20
"""Bodies are cut every 1 MiB, counted from their own start."""

MAX_OPENING = 32 << 20
"""Bytes of an opening that we write or read (some three million records)."""

_MAX_LINE = 1 << 20
"""Bytes of a line of it: half a million segments of one record."""

_SALT = b"mirror/segment-salt/v1"
_COMMIT = b"mirror/segment/v1\x00"
_MAGIC = b"mirror-opening/v1\n"
_BODY = re.compile(rb"(?:[1-9][0-9]{0,14}(?: [1-9][0-9]{0,14})*+\n)*+\Z")


class Committer:
    """Turns the segment digests of a record into its leaf. One instance a capture: it holds the keyed hash states."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_SIZE:
            raise MalformedError("a capture secret has 32 bytes")
        block = secret + bytes(32)
        self._inner = sha256(bytes(x ^ 0x36 for x in block) + _SALT)  # HMAC, RFC 2104, with both pads absorbed once
        self._outer = sha256(bytes(x ^ 0x5C for x in block))

    def salt(self, record: int, segment: int) -> bytes:
        inner = self._inner.copy()
        inner.update(record.to_bytes(8) + segment.to_bytes(8))
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def leaf(self, record: int, digests: Sequence[bytes]) -> bytes:
        """leaf(r) from the SHA-256 digests of the record's segments, in order."""
        sha = sha256
        hashes: list[bytes] = []
        prefix = record.to_bytes(8)
        inner_copy, outer_copy = self._inner.copy, self._outer.copy
        numbers = _NUMBERS if len(digests) <= len(_NUMBERS) else _numbers(len(digests))
        for number, digest in zip(numbers, digests, strict=False):
            inner = inner_copy()
            inner.update(prefix + number)
            outer = outer_copy()
            outer.update(inner.digest())
            hashes.append(sha(b"\x00" + sha(_COMMIT + outer.digest() + digest).digest()).digest())
        return len(hashes).to_bytes(8) + _fold(hashes)


def _numbers(count: int) -> list[bytes]:
    return [n.to_bytes(8) for n in range(count)]


_NUMBERS = _numbers(64)


def _fold(hashes: list[bytes]) -> bytes:
    """Root over leaf hashes: RFC 6962 splits at the largest power of two, which is pairing level by level."""
    sha = sha256
    if len(hashes) == 3:  # most records: spelt out, because this runs for every record there is
        first, second, third = hashes
        return sha(b"\x01" + sha(b"\x01" + first + second).digest() + third).digest()
    if not hashes:
        raise MalformedError("a record has at least one segment")
    while len(hashes) > 1:
        paired = [sha(b"\x01" + hashes[i] + hashes[i + 1]).digest() for i in range(0, len(hashes) - 1, 2)]
        if len(hashes) & 1:
            paired.append(hashes[-1])
        hashes = paired
    return hashes[0]


def write_opening(secret: bytes, cuts: Sequence[Sequence[int]]) -> bytes:
    """The opening's block. Raises `LimitError` when the capture has more records than an opening may list."""
    lines = [" ".join(map(str, lengths)) for lengths in cuts]
    block = _MAGIC + base64.b64encode(secret) + b"\n" + "".join(line + "\n" for line in lines).encode()
    if len(block) > MAX_OPENING or max(map(len, lines), default=0) > _MAX_LINE:
        raise LimitError("the capture has too many records for one file; lower [capture] max_requests")
    return block


class Opening:
    """A parsed opening: the secret, and the cut of each record without holding millions of integers."""

    __slots__ = ("_body", "_starts", "secret")

    def __init__(self, block: bytes) -> None:
        """Raises `MalformedError` unless every byte follows the format, `LimitError` above MAX_OPENING."""
        if len(block) > MAX_OPENING:
            raise LimitError("opening larger than 32 MiB", "opening")
        start = len(_MAGIC)
        if not block.startswith(_MAGIC):
            raise MalformedError("does not start with mirror-opening/v1", "opening")
        end = block.find(b"\n", start)
        text = block[start:end] if end >= 0 else b""
        if not re.fullmatch(rb"[A-Za-z0-9+/]{43}=", text) or base64.b64encode(base64.b64decode(text)) != text:
            raise MalformedError("the secret is not 32 bytes of base64", "opening")
        self.secret = base64.b64decode(text)
        body = block[end + 1 :]
        if not _BODY.match(body):
            raise MalformedError("segment lengths are not decimal numbers, one line a record", "opening")
        self._body = body
        self._starts = array("I", [0])  # of the lines, and the end: four bytes a record, whatever the opening says
        self._starts.extend(m.end() for m in re.finditer(rb"\n", body))
        if max(map(sub, self._starts[1:], self._starts), default=0) > _MAX_LINE:
            raise LimitError("more than 1 MiB of segment lengths for one record", "opening")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def cut(self, record: int) -> list[int]:
        """Segment lengths of a record, in bytes."""
        return list(map(int, self._body[self._starts[record] : self._starts[record + 1] - 1].split(b" ")))


def cut_body(length: int, tail: int) -> list[int]:
    """Cut a body of `length` bytes every BODY_CUT; the `tail` bytes after it join the last segment."""
    full, rest = divmod(length, BODY_CUT)
    lengths = [BODY_CUT] * full
    if rest:
        lengths.append(rest)
    if lengths:
        lengths[-1] += tail
    elif tail:
        lengths.append(tail)
    return lengths
