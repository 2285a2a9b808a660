"""Record and seal: exchanges become records of one WARC file, and the file ends with its opening and its seal.

The file is written front to back into a sink that nobody reads yet; making it durable and visible is the caller's
(`store.durable`), and only a file that ends with a seal is ever evidence.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from mirror.errors import LimitError, MalformedError
from mirror.formats import dsse, gz, merkle, segments, statement, warc
from mirror.formats.http1 import Dechunker
from mirror.model import CaptureId, Connection, Exchange

_FLUSH_BYTES = 1 << 20
_FLUSH_PARTS = 900
_CRLF = b"\r\n"

ALONE = re.compile(
    rb"^(?:set-cookie2?|cookie|(?:proxy-)?authorization|www-authenticate|location|referer|etag|content-md5|"
    rb"(?:content-|repr-|want-)?digest|x-[a-z-]*hash|x-[a-z-]*(?:ip|addr|address|token|user|session|request-id|csrf)|"
    rb"x-forwarded-[a-z]+|forwarded|via|true-client-ip|cf-connecting-ip|cf-ray|report-to|nel)[ \t]*:[^\n]*\n",
    re.I | re.M,
)
"""Header lines that may have to be withheld one day: each is a segment of its own."""

_COMPRESSED = re.compile(
    rb"^content-(?:encoding:[ \t]*(?!identity)|type:[ \t]*(?:image/(?!svg|bmp|x-ms-bmp)|video/|audio/|font/woff|"
    rb"application/(?:zip|gzip|x-gzip|pdf|vnd\.openxml|x-7z|font-woff)))",
    re.I | re.M,
)


class Sink(Protocol):
    """Where the file goes: an open temporary file (`store.durable.Staged`)."""

    def writev(self, parts: Sequence[bytes | memoryview]) -> None: ...


class Signer(Protocol):
    """A key that seals: `keyid` as in `formats.vkey`."""

    @property
    def keyid(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Written:
    """Where a record stands: its number, and offset and length in bytes of the compressed file."""

    number: int
    id: str
    date: str
    digest: str
    offset: int
    length: int
    revisit: bool = False


@dataclass(frozen=True, slots=True)
class Sealed:
    """What sealing gave: the hex capture root, counts, the seal's signers, the size of the file in bytes."""

    root: str
    records: int
    signers: tuple[str, ...]
    size: int


class Recorder:
    """Writes one capture file. Not for several threads at once.

    `random`: 44 fresh random bytes, of which 32 are the capture secret and 12 make the record ids.
    """

    def __init__(self, sink: Sink, capture: CaptureId, *, random: bytes) -> None:
        self._sink = sink
        self._capture = capture
        self._secret = random[: segments.SECRET_SIZE]
        self._ids = warc.RecordIds(random[segments.SECRET_SIZE :])
        self._committer = segments.Committer(self._secret)
        self._tree = merkle.Range(0)
        self._cuts: list[list[int]] = []
        self._parts: list[bytes | memoryview] = []
        self._pending = 0
        self._crc = 0
        self._size = 0
        self._second, self._second_text = -1, ""
        self._payloads: dict[str, Written] = {}
        self._urls: dict[str, str] = {}  # digest → URL of the first response with that payload
        self._log: list[bytes] = []
        self._connections: set[int] = set()
        self._certificates: set[str] = set()

    @property
    def records(self) -> int:
        """Records written so far."""
        return len(self._cuts)

    @property
    def size(self) -> int:
        """Bytes of the compressed file so far, those not yet flushed included."""
        return self._size + self._pending

    # -- what is recorded

    def info(self, software: str, started: float) -> None:
        """The `warcinfo` record. Nothing about host, user, address or path."""
        block = (
            f"software: {software}\r\nformat: WARC File Format 1.1\r\n"
            "conformsTo: http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/\r\n"
            f"isPartOf: urn:uuid:{self._capture}\r\n"
        ).encode()
        self._plain("warcinfo", None, "application/warc-fields", [block], self._date(started))

    def exchange(self, exchange: Exchange) -> Written | None:
        """Write response (or revisit), request, and what else came over the wire; None when no answer came."""
        written = None
        date = self._date(exchange.started)
        if exchange.answered:
            written = self._response(exchange, date)
        if exchange.request:
            self._request(exchange, date, written)
        for block in (*exchange.interim, exchange.surplus):
            if block:
                kind = "application/octet-stream" if block is exchange.surplus else "application/http; msgtype=response"
                self._plain("metadata", exchange.url, kind, [block], date, written)
        self._note(exchange, written)
        return written

    def metadata(self, name: str, content_type: str, pieces: Sequence[bytes], when: float) -> Written:
        """A `metadata` record about the capture as a whole; each piece is a segment of its own."""
        return self._plain("metadata", f"urn:mirror:{name}:{self._capture}", content_type, pieces, self._date(when))

    def resource(self, kind: str, uri: str, content_type: str, block: bytes, when: float) -> Written:
        """A `resource` or `conversion` record."""
        return self._plain(kind, uri, content_type, [block], self._date(when))

    def exchanges(self, when: float) -> Written:
        """The log of all exchanges so far: connections, certificates, timing, failures; a JSON object a line."""
        return self.metadata("exchanges", "application/jsonl", self._log or [b"\n"], when)

    # -- the end of the file

    def seal(self, signers: Sequence[Signer], *, started: float, finished: float, version: str) -> Sealed:
        """Write opening and seal, and hand the last bytes to the sink. The file is whole after this."""
        when = self._date(finished)
        records = len(self._cuts)
        root = self._tree.root().hex()
        keyids = tuple(sorted(s.keyid for s in signers))
        payload = statement.encode(
            statement.CaptureSeal(
                capture=self._capture, root=root, records=records, started=self._date(started), finished=when,
                signers=keyids, tool_version=version,
            )
        )  # fmt: skip
        message = dsse.pae(dsse.IN_TOTO, payload)
        signatures = tuple(dsse.Signature(s.keyid, s.sign(message)) for s in signers)
        opening = segments.write_opening(self._secret, self._cuts)
        envelope = dsse.encode(dsse.Envelope(payload, dsse.IN_TOTO, signatures))
        self._emit(
            gz.deflated([warc.closing("opening", self._capture, self._ids[records], when, "text/plain", opening)])
        )
        self._flush()
        seal = warc.closing("seal", self._capture, self._ids[records + 1], when, dsse.MEDIA_TYPE, envelope)
        last = gz.closing(seal, self._crc)
        self._sink.writev([last])
        self._size += len(last)
        return Sealed(root, records, keyids, self._size)

    # -- records

    def _response(self, exchange: Exchange, date: str) -> Written:
        if exchange.spool is not None:
            return self._spooled(exchange, date)
        head, body = exchange.head, exchange.body
        whole = sha256()
        for piece in body:
            whole.update(piece)
        if exchange.chunked:
            payload = sha256()
            for part in _dechunked(body):
                payload.update(part)
            digest = payload.hexdigest()
        else:
            digest = whole.hexdigest()
            first = self._payloads.get(digest)
            if first is not None and exchange.body_size and exchange.truncated is None:
                return self._revisit(exchange, date, first, digest)
        block = sha256(head)
        for piece in body:
            block.update(piece)
        whole.update(warc.TAIL)
        length = len(head) + exchange.body_size
        top, tops, cut = self._top("response", exchange, date, length, digest, block.hexdigest())
        digests = [sha256(part).digest() for part in tops]
        head_cut = _cut_head(_CRLF + head)
        digests += _digests(_CRLF + head, head_cut)
        if exchange.body_size > segments.BODY_CUT:
            joined = b"".join(body) + warc.TAIL
            body_cut = segments.cut_body(exchange.body_size, len(warc.TAIL))
            digests += _digests(joined, body_cut)
        else:
            body_cut = [exchange.body_size + len(warc.TAIL)]
            digests.append(whole.digest())
        parts = [top + _CRLF + head, *body, warc.TAIL]
        written = self._member(
            parts, [*cut, *head_cut, *body_cut], digests, date, digest, stored=bool(_COMPRESSED.search(head))
        )
        if not exchange.chunked and exchange.truncated is None:
            self._payloads[digest] = written
            self._urls[digest] = exchange.url
        return written

    def _top(
        self, kind: str, exchange: Exchange, date: str, length: int, payload: str, block: str, extra: str = ""
    ) -> tuple[bytes, list[bytes], list[int]]:
        """The WARC header lines, whole and in segments: general, address, digests."""
        connection = exchange.connection
        general = (
            f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: {self._ids[len(self._cuts)]}\r\nWARC-Date: {date}\r\n"
            f"WARC-Target-URI: {exchange.url}\r\nContent-Type: application/http; msgtype=response\r\n{extra}"
        )
        if exchange.truncated is not None:
            general += f"WARC-Truncated: {exchange.truncated.value}\r\n"
        if connection is not None and connection.tls:
            general += (
                f"WARC-Protocol: http/1.1\r\nWARC-Protocol: {connection.tls.replace('TLSv', 'tls/')}\r\n"
                f"WARC-Cipher-Suite: {connection.cipher}\r\n"
            )
        else:
            general += "WARC-Protocol: http/1.1\r\n"
        tops = [f"{general}Content-Length: {length}\r\n".encode()]
        if connection is not None and connection.peer:
            tops.append(f"WARC-IP-Address: {connection.peer}\r\n".encode())
        tops.append(f"WARC-Payload-Digest: sha256:{payload}\r\nWARC-Block-Digest: sha256:{block}\r\n".encode())
        return b"".join(tops), tops, [len(part) for part in tops]

    def _revisit(self, exchange: Exchange, date: str, first: Written, digest: str) -> Written:
        """Same payload as an earlier response of this capture: the head is kept, the body is referred to."""
        extra = (
            f"WARC-Profile: {warc.REVISIT_PROFILE}\r\nWARC-Refers-To: {first.id}\r\n"
            f"WARC-Refers-To-Target-URI: {self._urls[digest]}\r\nWARC-Refers-To-Date: {first.date}\r\n"
        )
        head = exchange.head
        top, tops, cut = self._top("revisit", exchange, date, len(head), digest, sha256(head).hexdigest(), extra)
        rest = _CRLF + head + warc.TAIL
        head_cut = _cut_head(rest)
        digests = [sha256(part).digest() for part in tops] + _digests(rest, head_cut)
        return self._member([top + rest], [*cut, *head_cut], digests, date, digest, stored=False, revisit=True)

    def _spooled(self, exchange: Exchange, date: str) -> Written:
        """A body that lies in a file: read twice in pieces of one segment, so memory does not grow with it."""
        head = exchange.head
        block, payload = sha256(head), sha256()
        body_cut = segments.cut_body(exchange.body_size, len(warc.TAIL))
        tail_digests: list[bytes] = []
        decoder = Dechunker() if exchange.chunked else None
        for number, piece in enumerate(_pieces(exchange)):
            block.update(piece)
            whole = sha256(piece)
            if number == len(body_cut) - 1:
                whole.update(warc.TAIL)
            tail_digests.append(whole.digest())
            if decoder is None:
                payload.update(piece)
                continue
            try:
                for part in decoder.feed(piece):
                    payload.update(part)
            except MalformedError:
                decoder = Dechunker()
                decoder.done = True  # what follows a broken chunk size is no payload
        digest = payload.hexdigest()
        first = None if exchange.chunked else self._payloads.get(digest)
        if first is not None and exchange.truncated is None:
            return self._revisit(exchange, date, first, digest)
        length = len(head) + exchange.body_size
        top, tops, cut = self._top("response", exchange, date, length, digest, block.hexdigest())
        head_cut = _cut_head(_CRLF + head)
        digests = [sha256(part).digest() for part in tops] + _digests(_CRLF + head, head_cut) + tail_digests
        offset, number, record_id = self.size, len(self._cuts), self._ids[len(self._cuts)]
        self._flush()
        pieces = self._chain([top + _CRLF + head], _pieces(exchange), [warc.TAIL])
        packed = gz.stored(pieces) if _COMPRESSED.search(head) else gz.deflated_stream(pieces)
        for chunk in packed:
            self._emit([chunk])
            if self._pending >= _FLUSH_BYTES:
                self._flush()
        self._commit([*cut, *head_cut, *body_cut], digests)
        written = Written(number, record_id, date, digest, offset, self.size - offset)
        if not exchange.chunked and exchange.truncated is None:
            self._payloads[digest] = written
            self._urls[digest] = exchange.url
        return written

    @staticmethod
    def _chain(*groups: Iterable[bytes]) -> Iterator[bytes]:
        for group in groups:
            yield from group

    def _request(self, exchange: Exchange, date: str, response: Written | None) -> None:
        request = exchange.request
        concurrent = f"WARC-Concurrent-To: {response.id}\r\n" if response else ""
        top = (
            f"WARC/1.1\r\nWARC-Type: request\r\nWARC-Record-ID: {self._ids[len(self._cuts)]}\r\nWARC-Date: {date}\r\n"
            f"WARC-Target-URI: {exchange.url}\r\n{concurrent}Content-Type: application/http; msgtype=request\r\n"
            f"Content-Length: {len(request)}\r\nWARC-Block-Digest: sha256:{sha256(request).hexdigest()}\r\n\r\n"
        ).encode()
        record = top + request + warc.TAIL
        cut = _cut_head(record)
        self._member([record], cut, _digests(record, cut), date, "", stored=False)

    def _plain(
        self,
        kind: str,
        uri: str | None,
        content_type: str,
        pieces: Sequence[bytes],
        date: str,
        about: Written | None = None,
    ) -> Written:
        block = sha256()
        for piece in pieces:
            block.update(piece)
        digest = block.hexdigest()
        record_id = self._ids[len(self._cuts)]
        top = (
            f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: {record_id}\r\nWARC-Date: {date}\r\n"
            + (f"WARC-Target-URI: {uri}\r\n" if uri else "")
            + (f"WARC-Concurrent-To: {about.id}\r\n" if about else "")
            + f"Content-Type: {content_type}\r\nContent-Length: {sum(map(len, pieces))}\r\n"
        ).encode()
        lines = f"WARC-Block-Digest: sha256:{digest}\r\n".encode()
        parts = [top, lines, _CRLF + pieces[0], *pieces[1:]]
        parts[-1] += warc.TAIL
        cut: list[int] = []
        digests: list[bytes] = []
        for part in parts:
            lengths = segments.cut_body(len(part), 0)
            cut += lengths
            digests += _digests(part, lengths)
        return self._member(parts, cut, digests, date, digest, stored=False)

    def _note(self, exchange: Exchange, written: Written | None) -> None:
        """A line of the exchange log, preceded by its connection and certificates when they are new."""
        connection = exchange.connection
        if connection is not None and connection.number not in self._connections:
            self._connections.add(connection.number)
            self._note_connection(connection)
        line: dict[str, Any] = {"type": "exchange", "url": exchange.url, "date": self._date(exchange.started)}
        line["record"] = written.number if written else None
        line["connection"] = connection.number if connection else None
        line["status"] = exchange.status
        line["seconds"] = round(exchange.seconds, 6)
        line["first_byte"] = None if exchange.first_byte is None else round(exchange.first_byte, 6)
        line["attempt"] = exchange.attempt
        if exchange.truncated:
            line["truncated"] = exchange.truncated.value
        if exchange.malformed:
            line["malformed"] = exchange.malformed
        if exchange.failure:
            line["failure"] = {"kind": exchange.failure.kind.value, "detail": exchange.failure.detail}
        self._log.append(_json_line(line))

    def _note_connection(self, connection: Connection) -> None:
        names = []
        for der in connection.chain:
            name = sha256(der).hexdigest()
            names.append(name)
            if name not in self._certificates:
                self._certificates.add(name)
                self._log.append(
                    _json_line({"type": "certificate", "sha256": name, "der": base64.b64encode(der).decode()})
                )
        line = {
            "type": "connection", "number": connection.number, "host": connection.host, "port": connection.port,
            "vantage": connection.vantage, "peer": connection.peer, "resolved": list(connection.resolved),
            "tls": connection.tls, "cipher": connection.cipher, "verified": connection.verified, "chain": names,
            "opened": self._date(connection.opened), "seconds": round(connection.seconds, 6),
        }  # fmt: skip
        self._log.append(_json_line(line))

    # -- members

    def _member(
        self, parts: Sequence[bytes], cut: list[int], digests: list[bytes], date: str, digest: str, *, stored: bool,
        revisit: bool = False,
    ) -> Written:  # fmt: skip
        offset, number = self.size, len(self._cuts)
        self._emit(gz.stored(parts) if stored else gz.deflated(parts))
        self._commit(cut, digests)
        if self._pending >= _FLUSH_BYTES or len(self._parts) >= _FLUSH_PARTS:
            self._flush()
        return Written(number, self._ids[number], date, digest, offset, self.size - offset, revisit)

    def _commit(self, cut: list[int], digests: list[bytes]) -> None:
        if len(cut) != len(digests):
            raise MalformedError(f"{len(cut)} segments but {len(digests)} digests")
        number = len(self._cuts)
        self._cuts.append(cut)
        self._tree.append(merkle.leaf_hash(self._committer.leaf(number, digests)))

    def _emit(self, parts: Iterable[bytes | memoryview]) -> None:
        for part in parts:
            self._parts.append(part)
            self._pending += len(part)

    def _flush(self) -> None:
        crc = self._crc
        for part in self._parts:
            crc = gz.crc32(part, crc)
        self._crc = crc
        self._sink.writev(self._parts)
        self._size += self._pending
        self._parts, self._pending = [], 0

    def _date(self, epoch: float) -> str:
        second = int(epoch)
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((epoch - second) * 1e6):06d}Z"


def _cut_head(head: bytes) -> list[int]:
    """Cut header lines so that each of `ALONE` stands by itself; a head longer than a segment is cut again."""
    cut: list[int] = []
    position = 0
    for match in ALONE.finditer(head):
        if match.start() > position:
            cut.append(match.start() - position)
        cut.append(match.end() - match.start())
        position = match.end()
    if position < len(head):
        cut.append(len(head) - position)
    return cut


def _digests(data: bytes, cut: Sequence[int]) -> list[bytes]:
    if len(cut) == 1:
        return [sha256(data).digest()]
    view, position, out = memoryview(data), 0, []
    for length in cut:
        out.append(sha256(view[position : position + length]).digest())
        position += length
    return out


def _dechunked(body: Iterable[bytes]) -> Iterator[bytes]:
    decoder = Dechunker()
    for piece in body:
        try:
            yield from decoder.feed(piece)
        except MalformedError:
            return


def _pieces(exchange: Exchange) -> Iterator[bytes]:
    """The spooled body in pieces of one segment. Raises `LimitError` when the file is shorter than counted."""
    spool = exchange.spool
    if spool is None:
        return
    spool.seek(0)
    left = exchange.body_size
    while left:
        piece = spool.read(min(segments.BODY_CUT, left))
        if not piece:
            raise LimitError("a spooled body is shorter than what was received; is the disk full?")
        left -= len(piece)
        yield piece


def _json_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
