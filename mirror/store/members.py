"""Read capture files member by member: WARC heads, blocks in pieces, exact offsets, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip_lib, isal_zlib

from mirror.errors import LimitError, MalformedError
from mirror.formats import http1, warc
from mirror.store import durable

_PIECE = 1 << 16
_URN = "urn:mirror:"


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Errors of the disk become `HomeError`."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb", buffering=0) as file:
            yield file
    except OSError as e:
        raise durable.explain(e, path) from e


def records(file: BinaryIO, offset: int) -> Iterator[Record]:
    """The records from `offset` on; the caller calls `finish` on each."""
    source = _Source(file, offset)
    while not source.is_at_end():
        yield Record(source)


class _Source:
    """The compressed bytes of a file, in pieces, with the offset of the next one."""

    __slots__ = ("_file", "_rest", "offset")

    def __init__(self, file: BinaryIO, offset: int) -> None:
        file.seek(offset)
        self._file = file
        self._rest = b""
        self.offset = offset

    def take(self) -> bytes:
        data, self._rest = self._rest or self._file.read(_PIECE), b""
        self.offset += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        self._rest = data
        self.offset -= len(data)

    def is_at_end(self) -> bool:
        if not self._rest:
            self._rest = self._file.read(_PIECE)
        return not self._rest


class Record:
    """A record while its member is being inflated: head at once, block in pieces, length after `finish`."""

    __slots__ = ("_inflate", "_left", "_ready", "_source", "head", "length", "offset", "raw_head")

    def __init__(self, source: _Source) -> None:
        self.offset = source.offset
        self.length = 0
        self._source = source
        self._inflate: Any = isal_zlib.decompressobj(31)
        data = b""
        while b"\r\n\r\n" not in data and len(data) < warc.MAX_HEAD and (piece := self._more()):
            data += piece
        try:
            self.head = warc.parse_head(data)
        except MalformedError as e:
            raise MalformedError("no WARC head", self.place) from e
        self.raw_head, self._ready = data[: self.head.size], data[self.head.size :]
        length = warc.content_length(data, self.head.size - 4)
        if length is None:
            raise MalformedError("no single Content-Length", self.place)
        self._left = length

    @property
    def place(self) -> str:
        return f"record at byte {self.offset}"

    def kind(self) -> tuple[str, str, str]:
        """WARC-Type; and of a `urn:mirror:<name>:<capture>` metadata record, name and capture."""
        kind = self.require("warc-type")
        uri = self.head.get("warc-target-uri") or ""
        if kind != "metadata" or not uri.startswith(_URN):
            return kind, "", ""
        name, _, owner = uri.removeprefix(_URN).partition(":")
        return kind, name, owner

    def require(self, name: str) -> str:
        value = self.head.get(name)
        if value is None:
            raise MalformedError(f"no {name} in the WARC head", self.place)
        return value

    def pieces(self) -> Iterator[bytes]:
        """The rest of the block."""
        while self._left:
            piece = self._ready or self._more()
            if not piece:
                raise MalformedError("shorter than its Content-Length", self.place)
            self._ready = piece[self._left :]
            if self._ready:
                piece = piece[: self._left]
            self._left -= len(piece)
            yield piece

    def block(self, limit: int) -> bytes:
        if self._left > limit:
            raise LimitError(f"larger than {limit} bytes", self.place)
        return b"".join(self.pieces())

    def finish(self) -> None:
        """Read to the member's end. Raises `MalformedError` if the record does not end there too."""
        if self.length:
            return
        for _ in self.pieces():
            pass
        tail = self._ready
        while len(tail) <= len(warc.TAIL) and (piece := self._more()):
            tail += piece
        if tail != warc.TAIL:
            raise MalformedError("does not end with its gzip member", self.place)
        self.length = self._source.offset - self.offset

    def _more(self) -> bytes:
        """The next inflated bytes, at most `_PIECE`; b"" at the member's end."""
        inflate = self._inflate
        while not inflate.eof:
            data = inflate.unconsumed_tail or self._source.take()
            try:
                piece: bytes = inflate.decompress(data, _PIECE)
            except igzip_lib.IsalError as e:  # type: ignore[misc]
                raise MalformedError("broken gzip member", self.place) from e
            if inflate.eof:
                self._source.give_back(inflate.unused_data)
            elif not data and not piece:
                raise MalformedError("the file ends inside the record", self.place)
            if piece:
                return piece
        return b""


class HttpBlock:
    """The HTTP response in a record's block: its head, then its payload in pieces."""

    __slots__ = ("_body", "_pieces", "_reader", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._body: list[bytes] = []
        self._reader = http1.ResponseReader("GET", self._body.append)
        self._pieces = record.pieces()

    def view(self) -> http1.Head:
        while self._reader.view is None:
            piece = next(self._pieces, None)
            try:
                if piece is None:
                    self._reader.eof()
                    break
                self._reader.feed(piece)
            except LimitError:
                break  # the recorder stopped at the same place: what it kept of the head is in `view`
        return self._reader.view or http1.Head((0, 0), 0, ())

    @property
    def head(self) -> bytes:
        self.view()
        return self._reader.head

    def payload(self) -> Iterator[bytes]:
        """The body without chunked coding; of a broken one, what stands before the break."""
        coding = self.view().all("transfer-encoding")
        decoder = http1.Dechunker() if coding and coding[-1].lower().rstrip().endswith("chunked") else None
        for piece in self._bodies():
            if decoder is None:
                yield piece
                continue
            try:
                yield from decoder.feed(piece)
            except MalformedError:
                return  # the payload digest ends here too
            if decoder.done:
                return

    def _bodies(self) -> Iterator[bytes]:
        yield from self._body
        yield from self._pieces
