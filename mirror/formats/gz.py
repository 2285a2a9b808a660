"""gzip members (RFC 1952) as WARC files hold them: one a record, with a fixed ten-byte header.

What is compressed already leaves as stored deflate blocks (the CRC is then the only work), text as fast deflate.
The last member of a file that we wrote carries an extra field `MC`: the CRC-32 of all compressed bytes before it,
so that a flipped bit is noticed even where inflating would not mind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from isal import igzip_lib, isal_zlib

GzipError = cast(type[Exception], igzip_lib.IsalError)
crc32 = isal_zlib.crc32
crc32_combine = isal_zlib.crc32_combine

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_HEADER_EXTRA = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x08\x00MC\x04\x00"
EXTRA_SIZE = len(_HEADER_EXTRA) + 4
_BLOCK = 65535
_stored = struct.Struct("<BHH")
_trailer = struct.Struct("<II")
_LAST = _stored.pack(1, 0, 0xFFFF)


def deflated(parts: Sequence[bytes]) -> list[bytes]:
    """A member compressed at the fast level."""
    return list(deflated_stream(parts))


def deflated_stream(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same, piece by piece, for what does not fit in memory."""
    compressor = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    crc = size = 0
    yield HEADER
    for part in parts:
        crc = crc32(part, crc)
        size += len(part)
        if piece := compressor.compress(part):
            yield piece
    yield compressor.flush()
    yield _trailer.pack(crc, size & 0xFFFFFFFF)


def stored(parts: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """A member of stored blocks around the very buffers given: nothing is copied."""
    crc = size = 0
    yield HEADER
    for part in parts:
        crc = crc32(part, crc)
        length = len(part)
        size += length
        if length <= _BLOCK:
            if length:
                yield _stored.pack(0, length, length ^ 0xFFFF)
                yield part
            continue
        view = memoryview(part)
        for start in range(0, length, _BLOCK):
            block = view[start : start + _BLOCK]
            yield _stored.pack(0, len(block), len(block) ^ 0xFFFF)
            yield block
    yield _LAST + _trailer.pack(crc, size & 0xFFFFFFFF)


def stored_small(data: bytes) -> bytes:
    """A member of one stored block: `data` has at most 65,535 bytes."""
    length = len(data)
    head, tail = _stored.pack(1, length, length ^ 0xFFFF), _trailer.pack(crc32(data), length)
    return b"".join((HEADER, head, data, tail))


def closing(record: bytes, container_crc: int) -> bytes:
    """The last member of a file: `record` stored, with the CRC-32 of all compressed bytes before it."""
    member = b"".join(stored([record]))
    return _HEADER_EXTRA + struct.pack("<I", container_crc) + member[len(HEADER) :]


def closing_crc(member: bytes) -> int | None:
    """The container CRC-32 of a member made by `closing`, or None when it has no such field."""
    if not member.startswith(_HEADER_EXTRA) or len(member) < EXTRA_SIZE:
        return None
    value: int = struct.unpack_from("<I", member, len(_HEADER_EXTRA))[0]
    return value
