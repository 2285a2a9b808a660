"""Reading .warc.gz and .warc files as hostile input: constant memory, every byte accounted for.

Members are read one by one up to their exact ends, so that nothing can stand between them or be skipped.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, cast

from isal import isal_zlib

from mirror.errors import MalformedError
from mirror.formats import gz, warc

READ = 256 << 10
_CHUNK = 128 << 10
_TAIL_TRIES = 4096
_FIRST = 4 << 10
_TAIL_WINDOW = 48 << 20
_TAIL_BUDGET = 192 << 20
_TAIL_STEP = 4 << 20
_TAIL_TRY = 64 << 10
_MEMBER = b"\x1f\x8b\x08"
PLAIN_MEMBER = b"\x1f\x8b\x08\x00"
"""A member without optional fields."""

_METADATA = warc.VERSION + b"WARC-Type: metadata\r\n"


class Members:
    """What the gzip members in bytes [start, end) of a file hold, one after the other, with their exact bounds.

    `sizes`: uncompressed bytes of each member read to its end; `odd`: one began otherwise than with `header`; `crc`: of
    all compressed bytes read. Members of stored blocks are passed on as they lie there, the others are inflated.
    """

    def __init__(self, fd: int, start: int, end: int, header: bytes = b"") -> None:
        self.crc = 0
        self.sizes: list[int] = []
        self.odd = False
        self._fd, self._position, self._end = fd, start, end
        self._header = header
        self._data, self._at = b"", 0  # compressed bytes read ahead, and how far they are used
        self._inflater: Any = None
        self._stored = False
        self._left, self._final = 0, False  # of the stored block at hand
        self._sum = self._size = 0  # CRC-32 and bytes of the member so far

    def read(self, count: int) -> bytes:
        """At most `count` bytes of one member; empty at the end. Raises `MalformedError`."""
        pieces: list[bytes] = []
        have = 0
        while have < count:
            if not self._stored and self._inflater is None:
                if have or not self._open():
                    break
            elif self._stored:
                have += self._copy(count - have, pieces)
            else:
                have += self._inflate(count - have, pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _need(self, count: int) -> bool:
        """Have `count` compressed bytes at hand; False when the range ends before."""
        while len(self._data) - self._at < count:
            piece = os.pread(self._fd, min(_CHUNK, self._end - self._position), self._position)
            if not piece:
                return False
            self.crc = gz.crc32(piece, self.crc)
            self._position += len(piece)
            self._data = self._data[self._at :] + piece if self._at < len(self._data) else piece
            self._at = 0
        return True

    def _open(self) -> bool:
        if not self._need(len(gz.HEADER) + 1):
            if self._at < len(self._data):
                raise self._broken("bytes after the last gzip member, or a member that was cut off")
            return False
        if not self._data.startswith(self._header, self._at):
            self.odd = True
        self._sum = self._size = 0
        if self._data.startswith(gz.HEADER, self._at) and self._all_stored():
            self._stored, self._left, self._final = True, 0, False
            self._at += len(gz.HEADER)
        else:
            self._inflater = isal_zlib.decompressobj(wbits=31)
        return True

    def _all_stored(self) -> bool:
        """Whether the member at hand is stored blocks only (RFC 1951 §3.2.4)."""
        ahead = self._at + len(gz.HEADER)
        while True:
            block = self._data[ahead : ahead + 5]
            if len(block) < 5:
                block = os.pread(self._fd, 5, self._position - len(self._data) + ahead)
            if len(block) < 5 or block[0] > 1 or block[1] ^ block[3] != 0xFF or block[2] ^ block[4] != 0xFF:
                return False
            if block[0] == 1:
                return True
            ahead += 5 + (block[1] | block[2] << 8)

    def _copy(self, count: int, pieces: list[bytes]) -> int:
        if not self._left:
            if self._final:
                self._close_stored()
                return 0
            if not self._need(5):
                raise self._broken("a gzip member that was cut off")
            data, at = self._data, self._at
            self._final, self._left = data[at] == 1, data[at + 1] | data[at + 2] << 8
            self._at += 5
            if not self._left:
                return 0
        if not self._need(1):
            raise self._broken("a gzip member that was cut off")
        piece = self._data[self._at : self._at + min(self._left, count)]
        self._at += len(piece)
        self._left -= len(piece)
        self._size += len(piece)
        self._sum = gz.crc32(piece, self._sum)
        pieces.append(piece)
        return len(piece)

    def _close_stored(self) -> None:
        if not self._need(8):
            raise self._broken("a gzip member that was cut off")
        trailer = self._data[self._at : self._at + 8]
        if trailer != self._sum.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"):
            raise self._broken("broken gzip data (its checksum does not agree)")
        self._at += 8
        self._stored = False
        self.sizes.append(self._size)

    def _inflate(self, count: int, pieces: list[bytes]) -> int:
        inflater = self._inflater
        if not self._need(1):
            raise self._broken("a gzip member that was cut off")
        given = self._data[self._at : self._at + (_FIRST if not self._size else _CHUNK)]
        try:
            piece: bytes = inflater.decompress(given, count)
        except (gz.GzipError, OverflowError, ValueError) as e:
            raise self._broken(f"broken gzip data ({e})") from e
        rest = len(inflater.unused_data) if inflater.eof else len(inflater.unconsumed_tail)
        self._at += len(given) - rest
        self._size += len(piece)
        if inflater.eof:
            self.sizes.append(self._size)
            self._inflater = None
        if piece:
            pieces.append(piece)
        return len(piece)

    def _broken(self, what: str) -> MalformedError:
        return MalformedError(what, f"offset {self._position - len(self._data) + self._at}")


class Stream:
    """Uncompressed bytes of a range, read in any lengths. `source` is None for a plain .warc.

    `exact`: member by member (`Members`); otherwise as one stream, which is quicker and enough where nothing is sealed.
    """

    def __init__(
        self, fd: int, start: int, end: int, *, compressed: bool, header: bytes = b"", exact: bool = True
    ) -> None:
        self.source = Members(fd, start, end, header) if compressed and exact else None
        plain = _Plain(fd, start, end)
        self._reader: Any = self.source or (isal_zlib._GzipReader(cast(Any, plain), _CHUNK) if compressed else plain)
        self.buffer = b""
        self.position = 0
        self.offset = 0  # uncompressed offset of buffer[0]

    def ensure(self, count: int) -> bool:
        """Have `count` bytes at buffer[position:]; False when the range ends before. Raises `MalformedError`."""
        while len(self.buffer) - self.position < count:
            try:
                more = self._reader.read(max(READ, count - (len(self.buffer) - self.position)))
            except (EOFError, OSError, OverflowError, ValueError, gz.GzipError) as e:
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
    """Bytes [start, end) of a file as they are; a file to the inflater."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd, self._position, self._end = fd, start, end

    def read(self, count: int) -> bytes:
        data = os.pread(self._fd, min(count, self._end - self._position), self._position)
        self._position += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        got = os.preadv(self._fd, [buffer[: self._end - self._position]], self._position)
        self._position += got
        return got


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
    left = len(inflater.unused_data)
    return b"".join(pieces) if inflater.eof and not left else None, size + left + _TAIL_TRY


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
