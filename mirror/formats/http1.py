"""Reading HTTP/1.x responses off the wire without losing a byte (RFC 9112), tolerant of what servers really send.

Nothing here changes what was received: the reader finds where a response ends, and offers a parsed *view* of it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from mirror.errors import LimitError, MalformedError

MAX_HEAD = 256 << 10
"""Bytes of one response head (status line and header lines) that are read before the connection is closed."""

MAX_INTERIM = 32
"""1xx responses accepted before the final one."""

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/(\d)\.(\d)[ \t]+(\d{3})(?:[ \t]|\r|\n|$)")
_LINE = re.compile(rb"\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_MAX_CHUNK_LINE = 16 << 10
_NO_BODY = frozenset({204, 304})


class Framing(Enum):
    """How the end of a body is known."""

    NONE = "none"
    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Head:
    """Parsed view of a head: status (0 when there is no status line) and header fields, names in lower case."""

    version: tuple[int, int]
    status: int
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """First value of a field, or None."""
        for key, value in self.fields:
            if key == name:
                return value
        return None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


def parse_head(head: bytes) -> Head:
    """View of a head; lines without a colon are left out of the view. Values are decoded as UTF-8, else Latin-1."""
    match = _STATUS.match(head)
    version, status = ((int(match[1]), int(match[2])), int(match[3])) if match else ((0, 0), 0)
    if head.isascii() and b"\n " not in head and b"\n\t" not in head:  # nearly every head: one decoding for all lines
        return Head(version, status, tuple(_plain_fields(head.decode("ascii"))))
    fields: list[tuple[str, str]] = []
    for line in _LINE.split(head)[1:]:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t") and fields:  # obs-fold (RFC 9112 §5.2)
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {_text(line.strip())}")
        elif colon:
            fields.append((name.strip().lower().decode("latin-1"), _text(value.strip())))
    return Head(version, status, tuple(fields))


def _plain_fields(head: str) -> Iterator[tuple[str, str]]:
    for line in head.replace("\r\n", "\n").split("\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(_SPACE).lower(), value.strip(_SPACE)


_SPACE = " \t\n\r\x0b\x0c"  # what bytes.strip takes off


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Dechunker:
    """Takes chunked transfer coding off, piece by piece (RFC 9112 §7.1)."""

    __slots__ = ("_broken", "_buffer", "_left", "_state", "done", "rest")

    def __init__(self) -> None:
        self._broken: str | None = None
        self._buffer = b""
        self._left = 0
        self._state = 0  # 0 size line, 1 data, 2 line end after data, 3 trailer
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Payload pieces of the next bytes. After the last chunk `done` is true and `rest` holds what follows.

        Raises `MalformedError` at a size line that is none; pieces before it are returned first, by the call before.
        """
        self.check()
        pieces: list[bytes] = []
        buffer = self._buffer + data if self._buffer else data
        position, end = 0, len(buffer)
        while position < end and not self.done:
            if self._state == 1:
                take = min(self._left, end - position)
                pieces.append(buffer[position : position + take])
                position += take
                self._left -= take
                if not self._left:
                    self._state = 2
            elif self._state == 2:
                line = position + (buffer[position] == 13)
                if line == end:
                    break
                if buffer[line] != 10:
                    self._broken = "no line end after a chunk"
                    break
                position = line + 1
                self._state = 0
            elif self._state == 0:
                match = _CHUNK.match(buffer, position)
                if match is None:
                    if end - position > _MAX_CHUNK_LINE or b"\n" in buffer[position:]:
                        self._broken = "not a chunk size"
                    break
                position = match.end()
                self._left = int(match[1], 16)
                self._state = 1 if self._left else 3
            else:
                line = buffer.find(b"\n", position)
                if line < 0:
                    if end - position > _MAX_CHUNK_LINE:
                        self._broken = "endless trailer"
                    break
                self.done = buffer[position:line] in (b"", b"\r")
                position = line + 1
        if self.done:
            self.rest, self._buffer = buffer[position:], b""
        else:
            self._buffer = buffer[position:]
        if not pieces:
            self.check()
        return pieces

    def check(self) -> None:
        """Raises `MalformedError` when what was fed last broke the coding."""
        if self._broken is not None:
            raise MalformedError(self._broken, "chunked body")


def dechunk(pieces: Iterable[bytes]) -> bytes:
    """Payload of a chunked body; of a broken one, what could be read before the break."""
    decoder, out = Dechunker(), []
    for piece in pieces:
        try:
            out += decoder.feed(piece)
        except MalformedError:
            break
    return b"".join(out)


class ResponseReader:
    """Finds the end of one response in a stream of received bytes; `body` gets every body byte as received.

    After `feed` returns, `done` says whether the response is whole. `eof` closes a response that ends with the
    connection. `malformed` names the first thing that a strict client would have refused.
    """

    __slots__ = (
        "_body", "_buffer", "_chunks", "_left", "_method", "body_size", "done", "framing", "head", "interim",
        "keep_alive", "malformed", "surplus", "view",
    )  # fmt: skip

    def __init__(self, method: str, body: Callable[[bytes], None]) -> None:
        self._method = method
        self._body = body
        self._buffer = b""
        self._chunks: Dechunker | None = None
        self._left = 0
        self.body_size = 0
        self.interim: list[bytes] = []
        self.head = b""
        self.view: Head | None = None
        self.framing = Framing.NONE
        self.done = False
        self.keep_alive = False
        self.malformed: str | None = None
        self.surplus = b""

    @property
    def unfinished(self) -> bytes:
        """Received bytes of a head whose end has not come."""
        return self._buffer

    def feed(self, data: bytes) -> None:
        """Take the next received bytes. Raises `LimitError` at a head above MAX_HEAD or too many 1xx responses."""
        if self.done:
            self.surplus += data
            self.keep_alive = False
        elif self.view is None:
            self._feed_head(data)
        else:
            self._feed_body(data)

    def eof(self) -> bool:
        """The peer closed. True when the response is whole."""
        if self.view is None and self._buffer:
            self._take_head(self._buffer, b"", "no end of the header lines")
            self.done = False
        elif self.view is not None and self.framing is Framing.CLOSE:
            self.done = True
        self.keep_alive = False
        return self.done

    def _feed_head(self, data: bytes) -> None:
        searched = max(0, len(self._buffer) - 3)
        buffer = self._buffer + data if self._buffer else data
        if not buffer.startswith(b"HTTP/"[: len(buffer)]):
            self._take_head(b"", buffer, "no HTTP status line")
            return
        match = _HEAD_END.search(buffer, searched)
        if match is None or match.end() > MAX_HEAD:
            if len(buffer) > MAX_HEAD:
                self._take_head(buffer[:MAX_HEAD], b"", "header lines without end")
                raise LimitError(f"response head above {MAX_HEAD} bytes")
            self._buffer = buffer
            return
        self._buffer = b""
        head, rest = buffer[: match.end()], buffer[match.end() :]
        status = _STATUS.match(head)
        if status and status[3][:1] == b"1" and status[3] != b"101":
            self.interim.append(head)
            if len(self.interim) > MAX_INTERIM:
                raise LimitError(f"more than {MAX_INTERIM} interim responses")
            if rest:
                self._feed_head(rest)
            return
        self._take_head(head, rest, None if status else "bad HTTP status line")

    def _take_head(self, head: bytes, rest: bytes, malformed: str | None) -> None:
        self.head, self.malformed, self._buffer = head, malformed, b""
        view = self.view = parse_head(head)
        self._frame(view)
        if self.framing is Framing.NONE or (self.framing is Framing.LENGTH and not self._left):
            self.done = True
            if rest:
                self.surplus = rest
                self.keep_alive = False
        elif rest:
            self._feed_body(rest)

    def _frame(self, view: Head) -> None:
        """Message body length, RFC 9112 §6.3; what is ambiguous is read until the peer closes."""
        connection = (view.get("connection") or "").lower()
        self.keep_alive = self.malformed is None and (
            "close" not in connection if view.version >= (1, 1) else "keep-alive" in connection
        )
        coding = view.all("transfer-encoding")
        lengths = {length.strip() for value in view.all("content-length") for length in value.split(",")}
        if self._method == "HEAD" or view.status in _NO_BODY:
            self.framing = Framing.NONE
        elif coding:
            if coding[-1].lower().rstrip().endswith("chunked"):
                self.framing, self._chunks = Framing.CHUNKED, Dechunker()
                if lengths:
                    self.malformed = self.malformed or "both Content-Length and Transfer-Encoding"
                    self.keep_alive = False
            else:
                self.framing = Framing.CLOSE
        elif len(lengths) == 1 and (length := lengths.pop()).isascii() and length.isdigit() and len(length) < 16:
            self.framing, self._left = Framing.LENGTH, int(length)
        else:
            self.framing = Framing.CLOSE
            if view.get("content-length") is not None:
                self.malformed = self.malformed or "contradictory or unreadable Content-Length"
        if self.framing is Framing.CLOSE:
            self.keep_alive = False

    def _feed_body(self, data: bytes) -> None:
        if self.framing is Framing.LENGTH:
            if len(data) > self._left:
                self.surplus, data = data[self._left :], data[: self._left]
                self.keep_alive = False
            self._left -= len(data)
            self.done = not self._left
        elif self._chunks is not None:
            try:
                self._chunks.feed(data)
                self._chunks.check()
            except MalformedError as e:
                self.malformed = self.malformed or str(e)
                self._chunks, self.framing, self.keep_alive = None, Framing.CLOSE, False
            else:
                if self._chunks.done:
                    self.done = True
                    if self._chunks.rest:
                        self.surplus = self._chunks.rest
                        data = data[: len(data) - len(self.surplus)]
                        self.keep_alive = False
        self.body_size += len(data)
        self._body(data)


def decode_content(payload: bytes, coding: str, *, limit: int) -> bytes:
    """Take content codings off (gzip, deflate, br; RFC 9110 §8.4), at most `limit` bytes of result.

    A broken or cut-off stream gives what could be read; an unknown coding raises `MalformedError`.
    """
    return decode_whole(payload, coding, limit=limit)[0]


def decode_whole(payload: bytes, coding: str, *, limit: int) -> tuple[bytes, bool]:
    """`decode_content`, and whether that is all: False for a broken, cut-off or too large stream."""
    whole = True
    for name in reversed([c.strip().lower() for c in coding.split(",") if c.strip()]):
        if name in ("gzip", "x-gzip"):
            payload, ended = _inflate(payload, 31, limit)
        elif name == "deflate":
            payload, ended = _inflate(payload, 15 if _is_zlib(payload) else -15, limit)
        elif name == "br":
            payload, ended = _unbrotli(payload, limit)
        elif name == "identity":
            continue
        else:
            raise MalformedError(f"unknown content coding {name!r}", "Content-Encoding")
        whole = whole and ended
    return payload[:limit], whole and len(payload) <= limit


def _is_zlib(data: bytes) -> bool:
    """RFC 1950 §2.2; else it is the bare deflate stream that some servers send under this name."""
    return len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _inflate(data: bytes, window: int, limit: int) -> tuple[bytes, bool]:
    """Inflate, all members of a gzip stream; the common case, one sound member, is one call."""
    inflater = zlib.decompressobj(window)
    try:
        first = inflater.decompress(data, limit + 1)
    except zlib.error:
        return _inflate_in_steps(data, window, limit)
    if inflater.eof and (window != 31 or not inflater.unused_data):
        return first, True
    if not inflater.eof:
        return first, not data
    return _inflate_in_steps(data, window, limit)


def _inflate_in_steps(data: bytes, window: int, limit: int) -> tuple[bytes, bool]:
    """What a stream of many members, or a damaged one, gives before its damage. Linear, however short the members."""
    out: list[bytes] = []
    size, position = 0, 0
    inflater = zlib.decompressobj(window)
    while position < len(data) and size <= limit:
        step = data[position : position + _STEP]
        try:
            piece = inflater.decompress(step, limit + 1 - size)
        except zlib.error:
            return b"".join(out), False
        out.append(piece)
        size += len(piece)
        position += len(step) - len(inflater.unused_data)
        if inflater.eof:
            if window != 31 or not data.startswith(_GZIP, position):  # padding after the last member is no damage
                break
            inflater = zlib.decompressobj(window)
    return b"".join(out), inflater.eof and size <= limit


_STEP = 1024
_GZIP = b"\x1f\x8b"


def _unbrotli(data: bytes, limit: int) -> tuple[bytes, bool]:
    import brotli  # not needed by the verifier: kept off its start

    decoder, out, size = brotli.Decompressor(), [], 0
    try:
        for start in range(0, len(data), _BROTLI_STEP):
            piece = decoder.process(data[start : start + _BROTLI_STEP], output_buffer_limit=_BROTLI_STEP)
            while True:
                out.append(piece)
                size += len(piece)
                if size > limit or decoder.can_accept_more_data() or not piece:
                    break
                piece = decoder.process(b"", output_buffer_limit=_BROTLI_STEP)
            if size > limit or decoder.is_finished():
                break
    except brotli.error:
        return b"".join(out), False
    return b"".join(out), decoder.is_finished() and size <= limit


_BROTLI_STEP = 64 << 10
