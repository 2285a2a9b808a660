"""Reading .warc.gz and .warc files as hostile input: constant memory, every byte accounted for.

The whole of a range is inflated as one stream, which fails on anything that is not a gzip member; `misfit` then walks
the compressed bytes and checks that there is one member a record, and nothing between members.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from isal import isal_zlib

from mirror.errors import MalformedError
from mirror.formats import gz, warc

READ = 256 << 10
_CHUNK = 128 << 10
_TAIL_TRIES = 4096
_WINDOW = 16 << 10
_TAIL_WINDOW = 48 << 20
_TAIL_BUDGET = 192 << 20
_TAIL_STEP = 4 << 20
_TAIL_TRY = 64 << 10
_MEMBER = b"\x1f\x8b\x08"
PLAIN_MEMBER = b"\x1f\x8b\x08\x00"
"""A member without optional fields."""

_METADATA = warc.VERSION + b"WARC-Type: metadata\r\n"


class Compressed:
    """The compressed bytes [start, end) of a file, as the inflater's source; takes their CRC-32 on the way."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd = fd
        self._position = start
        self._end = end
        self.crc = 0

    def read(self, count: int) -> bytes:
        """Part of the inflater's idea of a file; it reads with `readinto`."""
        buffer = bytearray(count)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, buffer: memoryview) -> int:
        want = min(len(buffer), self._end - self._position)
        if want <= 0:
            return 0
        got = os.preadv(self._fd, [buffer[:want]], self._position)
        if not got:
            raise MalformedError("the file became shorter while it was read", f"offset {self._position}")
        self.crc = gz.crc32(buffer[:got], self.crc)
        self._position += got
        return got


class Stream:
    """Uncompressed bytes of a range, read in any lengths. `source` is None for a plain .warc."""

    def __init__(self, fd: int, start: int, end: int, *, compressed: bool) -> None:
        self.source = Compressed(fd, start, end) if compressed else None
        self._reader: Any = (
            isal_zlib._GzipReader(cast(Any, self.source), _CHUNK) if compressed else _Plain(fd, start, end)
        )
        self.buffer = b""
        self.position = 0
        self.offset = 0  # uncompressed offset of buffer[0]

    def ensure(self, count: int) -> bool:
        """Have `count` bytes at buffer[position:]; False when the range ends before."""
        while len(self.buffer) - self.position < count:
            try:
                more = self._reader.read(max(READ, count - (len(self.buffer) - self.position)))
            except (EOFError, OSError, ValueError, OverflowError, gz.GzipError) as e:
                raise MalformedError(f"broken gzip data ({e})", f"near uncompressed offset {self.tell()}") from e
            if not more:
                return False
            self.offset += self.position
            self.buffer = self.buffer[self.position :] + more if self.position < len(self.buffer) else more
            self.position = 0
        return True

    def tell(self) -> int:
        """Uncompressed offset within the range."""
        return self.offset + self.position


class _Plain:
    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd, self._position, self._end = fd, start, end

    def read(self, count: int) -> bytes:
        data = os.pread(self._fd, min(count, self._end - self._position), self._position)
        self._position += len(data)
        return data


def is_gzip(fd: int) -> bool:
    return os.pread(fd, 3, 0) == _MEMBER


def open_file(path: Path) -> int:
    """A descriptor for a regular file. Raises `MalformedError` for what is none: links are followed, devices not."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise MalformedError(f"cannot be read: {e.strerror}", str(path)) from e
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MalformedError("not a regular file", str(path))
    return fd


def last_member(fd: int, end: int, *, largest: int = _TAIL_WINDOW) -> tuple[int, bytes, bytes] | None:
    """The gzip member that ends exactly at `end`: (offset, its bytes, what it holds).

    Found from the back by trying; None when there is none of at most `largest` bytes, compressed or not, or when too
    many places look like one.
    """
    window, tries, budget = 64 << 10, 0, _TAIL_BUDGET
    tried_from = end
    while True:
        start = max(0, end - min(window, largest))
        data = os.pread(fd, end - start, start)
        at = data.rfind(_MEMBER, 0, min(len(data), tried_from - start + 2))
        while at >= 0:
            tries += 1
            if tries > _TAIL_TRIES or budget <= 0:
                return None
            member = memoryview(data)[at:]
            content, inflated = _whole(member, largest)
            if content is not None:
                return start + at, bytes(member), content
            budget -= inflated
            at = data.rfind(_MEMBER, 0, at + 2)
        if start == 0 or window >= largest:
            return None
        tried_from = start
        window *= 8


def last_record(fd: int, end: int, *, largest: int = _TAIL_WINDOW) -> tuple[int, bytes, bytes] | None:
    """The same for a file that is not compressed: the `metadata` record that ends exactly at `end`."""
    window = 64 << 10
    while True:
        start = max(0, end - min(window, largest))
        data = os.pread(fd, end - start, start)
        at = data.rfind(_METADATA)
        for _ in range(_TAIL_TRIES):
            if at < 0:
                break
            head_end = data.find(b"\r\n\r\n", at, at + warc.MAX_HEAD)
            length = warc.content_length(data[at : head_end + 4], head_end - at) if head_end >= 0 else None
            if length is not None and head_end + 4 + length + len(warc.TAIL) == len(data):
                return start + at, data[at:], data[at:]
            at = data.rfind(_METADATA, 0, at)
        if start == 0 or window >= largest:
            return None
        window *= 8


def _whole(data: memoryview, largest: int) -> tuple[bytes | None, int]:
    """The content, if `data` is one gzip member and nothing else; and how many bytes the try cost."""
    inflater: Any = isal_zlib.decompressobj(wbits=31)
    pieces: list[bytes] = []
    rest: bytes | memoryview = data
    size = 0
    try:
        while not inflater.eof and size < largest and len(rest):
            pieces.append(inflater.decompress(rest, _TAIL_STEP))
            size += len(pieces[-1])
            rest = inflater.unconsumed_tail
    except gz.GzipError:
        return None, size + _TAIL_TRY
    whole = inflater.eof and not inflater.unused_data
    return b"".join(pieces) if whole else None, size + _TAIL_TRY


def misfit(fd: int, start: int, end: int, sizes: Sequence[int], header: bytes) -> int | None:
    """Check that [start, end), which inflates cleanly, is one gzip member for each of `sizes` (uncompressed bytes).

    Returns the position of the first size that has no member of its own, or None when all have, each starting with
    `header`. Stored members are walked block by block; the end of a deflated one is the next header behind the right
    ISIZE, which a true end always is.
    """
    window = _Window(fd, end)
    at = start
    for number, size in enumerate(sizes):
        if window.get(at, len(header)) != header:
            return number
        following = _stored_end(window, at + len(gz.HEADER), size)
        if following is None:
            following = _deflated_end(window, at, end, size, header, is_last=number == len(sizes) - 1)
        if following is None:
            return number
        at = following
    return None if at == end else len(sizes)


class _Window:
    """Bytes of a file at any place, read ahead a little."""

    def __init__(self, fd: int, end: int) -> None:
        self.fd, self._end = fd, end
        self._base, self._data = 0, b""

    def get(self, at: int, count: int) -> bytes:
        start = at - self._base
        if start < 0 or start + count > len(self._data):
            self._base, self._data = at, os.pread(self.fd, min(max(count, _WINDOW), max(0, self._end - at)), at)
            start = 0
        return self._data[start : start + count]

    def find(self, header: bytes, at: int) -> int:
        """The first place of `header` from `at` on, or -1."""
        while at < self._end:
            self.get(at, min(_WINDOW, self._end - at))
            found = self._data.find(header, at - self._base)
            if found >= 0:
                return self._base + found
            at = max(at + 1, self._base + len(self._data) - len(header) + 1)
        return -1


def _stored_end(window: _Window, at: int, size: int) -> int | None:
    """Where the member ends whose deflate stream at `at` is stored blocks of together `size` bytes, or None."""
    total = 0
    while True:
        block = window.get(at, 5)
        if len(block) < 5 or block[0] > 1:
            return None
        length = block[1] | block[2] << 8
        total += length
        at += 5 + length
        if block[0] == 1:
            return at + 8 if total == size else None


def _deflated_end(window: _Window, start: int, end: int, size: int, header: bytes, *, is_last: bool) -> int | None:
    wanted = (size & 0xFFFFFFFF).to_bytes(4, "little")
    at, passed = start + len(gz.HEADER), False
    while True:
        found = window.find(header, at)
        following = end if found < 0 and is_last else found
        if following < 0:
            return None
        if window.get(following - 4, 4) == wanted and not (is_last and following != end):
            break
        if following == end:
            return None
        passed = True
        at = following + 1
    # a header that was passed over is chance, unless another member stands before the record
    return None if passed and starts_record(window.fd, start) is None else following


def starts_record(fd: int, offset: int) -> bytes | None:
    """The first bytes of the record in the member at `offset`, or None when no WARC record starts there."""
    inflater = isal_zlib.decompressobj(wbits=31)
    try:
        head: bytes = inflater.decompress(os.pread(fd, 8192, offset), 4096)
    except gz.GzipError:
        return None
    return head if head.startswith(b"WARC/") else None


def split(fd: int, start: int, end: int, parts: int) -> list[tuple[int, bytes]]:
    """Places where [start, end) can be divided: (offset of a member, first bytes of its record), in order.

    They are guesses in hostile files: a range that does not inflate cleanly must be tried again undivided.
    """
    found: list[tuple[int, bytes]] = []
    for part in range(1, parts):
        at = start + (end - start) * part // parts
        limit = start + (end - start) * (part + 1) // parts
        while at < limit:
            data = os.pread(fd, min(1 << 20, limit - at) + 8, at)
            hit = data.find(_MEMBER)
            if hit < 0:
                at += max(1, len(data) - 8)
                continue
            head = starts_record(fd, at + hit)
            if head is not None:
                if not found or at + hit > found[-1][0]:
                    found.append((at + hit, head))
                break
            at += hit + 1
    return found
