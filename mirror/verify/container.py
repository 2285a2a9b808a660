"""Reading .warc.gz and .warc files as hostile input: constant memory, every byte accounted for.

The whole of a range is inflated as one stream, which fails on anything that is not a gzip member; beside it, the
member boundaries are noted from the compressed bytes, so that "one member a record" is checked as well.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from isal import isal_zlib

from mirror.errors import LimitError, MalformedError
from mirror.formats import gz

READ = 256 << 10
_CHUNK = 128 << 10
_TAIL_TRIES = 4096
_TAIL_WINDOW = 48 << 20
_MEMBER = b"\x1f\x8b\x08"
_PLAIN_MEMBER = b"\x1f\x8b\x08\x00"
_OVERLAP = 16


class Compressed:
    """The compressed bytes [start, end) of a file, as the inflater's source; notes members and the CRC-32 on the way.

    `members`: (offset, ISIZE of the member before it) of every place that looks like the start of a plain member.
    """

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd = fd
        self._position = self.start = start
        self.end = end
        self.crc = 0
        self.flags = 0  # of the first member
        self.members: list[tuple[int, int]] = []
        self._last = b""

    def read(self, count: int) -> bytes:
        """Part of the inflater's idea of a file; it reads with `readinto`."""
        buffer = bytearray(count)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, buffer: memoryview) -> int:
        want = min(len(buffer), self.end - self._position)
        if want <= 0:
            return 0
        got = os.preadv(self._fd, [buffer[:want]], self._position)
        if not got:
            raise MalformedError("the file became shorter while it was read", f"offset {self._position}")
        data = bytes(buffer[:got])
        self.crc = gz.crc32(data, self.crc)
        self._note(data)
        self._position += got
        return got

    def _note(self, data: bytes) -> None:
        joined = self._last + data
        base = self._position - len(self._last)
        if not self._last:
            self.flags = data[3] if len(data) > 3 else 0
        at = joined.find(_PLAIN_MEMBER)
        while at >= 0:
            if at + len(gz.HEADER) > len(joined):
                break
            if at >= 4:
                self.members.append((base + at, int.from_bytes(joined[at - 4 : at], "little")))
            at = joined.find(_PLAIN_MEMBER, at + 1)
        # what is kept lets a header that straddles the edge be seen whole next time, with the ISIZE before it
        self._last = joined[-_OVERLAP:]

    def candidates(self) -> Iterator[tuple[int, int]]:
        seen = self.start
        for offset, size in self.members:
            if offset > seen:
                seen = offset
                yield offset, size


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
            except (EOFError, OSError, ValueError, gz.GzipError) as e:
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


def last_member(fd: int, end: int) -> tuple[int, bytes, bytes]:
    """The gzip member that ends exactly at `end`: (offset, its bytes, what it holds).

    Found from the back by trying; raises `MalformedError` when there is none within 48 MiB.
    """
    window, tries = 64 << 10, 0
    tried_from = end
    while True:
        start = max(0, end - window)
        data = os.pread(fd, end - start, start)
        at = data.rfind(_MEMBER, 0, min(len(data), tried_from - start + 2))
        while at >= 0:
            tries += 1
            if tries > _TAIL_TRIES:
                raise LimitError("too many places look like the last gzip member", f"offset {start + at}")
            content = _whole(data[at:])
            if content is not None:
                return start + at, data[at:], content
            at = data.rfind(_MEMBER, 0, at + 2)
        if start == 0 or window >= _TAIL_WINDOW:
            raise MalformedError("the file does not end with a whole gzip member", f"offset {end}")
        tried_from = start
        window *= 8


def _whole(data: bytes) -> bytes | None:
    """The content, if `data` is one gzip member and nothing else (bounded by the size of an opening)."""
    inflater = isal_zlib.decompressobj(wbits=31)
    try:
        content: bytes = inflater.decompress(data, _TAIL_WINDOW)
    except gz.GzipError:
        return None
    return content if inflater.eof and not inflater.unused_data else None


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
