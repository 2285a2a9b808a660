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
from itertools import islice
from typing import Any, Protocol

from mirror.errors import LimitError, MalformedError
from mirror.formats import dsse, gz, merkle, segments, statement, warc
from mirror.model import CaptureId, Connection, Exchange

_FLUSH_BYTES = 1 << 20
_FLUSH_PARTS = 900
_TINY = 1200
_MOST_ALONE = 64
_LINES_ALONE, _LINES_TOGETHER = 1000, 64
"""Lines of the exchange log stand alone, as segments, in a capture of ordinary size; in a huge one 64 go together."""
_CRLF = b"\r\n"

ALONE = re.compile(
    rb"\n((?:(?:set-)?cookie2?|(?:proxy-)?authorization|forwarded|true-client-ip|cf-connecting-ip|etag|content-md5|"
    rb"(?:content-|repr-)?digest|x-[a-z0-9-]*(?:ip|addr|address|token|user|session|csrf|hash|md5|forwarded-for))"
    rb"[ \t]*:[^\n]*)(?=\n)",
    re.I,
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
        self._log: list[bytes] = []  # connections and certificates
        self._exchanges: list[bytes] = []
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
        """The log of all exchanges so far, a JSON object a line: connections and certificates first, then each exchange
        (timing, failure), which is a segment of its own."""
        lines = self._exchanges
        if len(lines) > _LINES_ALONE:
            lines = [b"".join(lines[i : i + _LINES_TOGETHER]) for i in range(0, len(lines), _LINES_TOGETHER)]
        pieces = [b"".join(self._log), *lines] if self._log else lines
        return self.metadata("exchanges", "application/jsonl", pieces or [b"\n"], when)

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
        digest = whole.hexdigest()  # transfer coding included, as warcio, fastwarc and others compute and check it
        first = None if exchange.chunked else self._payloads.get(digest)
        if first is not None and exchange.head and exchange.body_size and exchange.truncated is None:
            return self._revisit(exchange, date, first, digest)
        block = sha256(head)
        for piece in body:
            block.update(piece)
        whole.update(warc.TAIL)
        length = len(head) + exchange.body_size
        alone, general = self._top("response", exchange, date, length, digest, block.hexdigest())
        heads, cut, digests = _heads(alone, general + head)
        if exchange.body_size > segments.BODY_CUT:
            joined = b"".join(body) + warc.TAIL
            body_cut = segments.cut_body(exchange.body_size, len(warc.TAIL))
            digests += _digests(joined, body_cut)
        else:
            body_cut = [exchange.body_size + len(warc.TAIL)]
            digests.append(whole.digest())
        parts = [heads, *body, warc.TAIL]
        stored = bool(_COMPRESSED.search(head))
        written = self._member(parts, cut + body_cut, digests, date, digest, stored=stored)
        if exchange.head and not exchange.chunked and exchange.truncated is None:
            self._payloads[digest] = written
            self._urls[digest] = exchange.url
        return written

    def _top(
        self, kind: str, exchange: Exchange, date: str, length: int, payload: str, block: str, extra: str = ""
    ) -> tuple[list[bytes], bytes]:
        """The WARC header: first the lines that stand alone (digests; address), then all others and the empty line.

        The digests come first, so that a body can be withheld with them and all else still be shown.
        """
        connection = exchange.connection
        # without an HTTP head readers do not agree where a payload begins: the block's digest says it all
        payload_line = f"WARC-Payload-Digest: sha256:{payload}\r\n" if exchange.head else ""
        digests = f"WARC/1.1\r\n{payload_line}WARC-Block-Digest: sha256:{block}\r\n"
        alone = [digests.encode()]
        if connection is not None and connection.peer:
            alone.append(f"WARC-IP-Address: {connection.peer}\r\n".encode())
        general = (
            f"WARC-Type: {kind}\r\nWARC-Record-ID: {self._ids[len(self._cuts)]}\r\nWARC-Date: {date}\r\n"
            f"WARC-Target-URI: {exchange.url}\r\nContent-Type: application/http; msgtype=response\r\n{extra}"
        )
        if exchange.truncated is not None:
            general += f"WARC-Truncated: {exchange.truncated.value}\r\n"
        general += "WARC-Protocol: http/1.1\r\n"
        if connection is not None and connection.tls:
            version = connection.tls.replace("TLSv", "tls/")
            general += f"WARC-Protocol: {version}\r\nWARC-Cipher-Suite: {connection.cipher}\r\n"
        return alone, f"{general}Content-Length: {length}\r\n\r\n".encode()

    def _revisit(self, exchange: Exchange, date: str, first: Written, digest: str) -> Written:
        """Same payload as an earlier response of this capture: the head is kept, the body is referred to."""
        extra = (
            f"WARC-Profile: {warc.REVISIT_PROFILE}\r\nWARC-Refers-To: {first.id}\r\n"
            f"WARC-Refers-To-Target-URI: {self._urls[digest]}\r\nWARC-Refers-To-Date: {first.date}\r\n"
        )
        head = exchange.head
        alone, general = self._top("revisit", exchange, date, len(head), digest, sha256(head).hexdigest(), extra)
        record, cut, digests = _heads(alone, general + head + warc.TAIL)
        return self._member([record], cut, digests, date, digest, stored=False, revisit=True)

    def _spooled(self, exchange: Exchange, date: str) -> Written:
        """A body that lies in a file: read twice in pieces of one segment, so memory does not grow with it."""
        head = exchange.head
        block, payload = sha256(head), sha256()
        body_cut = segments.cut_body(exchange.body_size, len(warc.TAIL))
        tail_digests: list[bytes] = []
        for number, piece in enumerate(_pieces(exchange)):
            block.update(piece)
            payload.update(piece)
            whole = sha256(piece)
            if number == len(body_cut) - 1:
                whole.update(warc.TAIL)
            tail_digests.append(whole.digest())
        digest = payload.hexdigest()
        first = None if exchange.chunked else self._payloads.get(digest)
        if first is not None and exchange.head and exchange.truncated is None:
            return self._revisit(exchange, date, first, digest)
        length = len(head) + exchange.body_size
        alone, general = self._top("response", exchange, date, length, digest, block.hexdigest())
        heads, cut, digests = _heads(alone, general + head)
        offset, number, record_id = self.size, len(self._cuts), self._ids[len(self._cuts)]
        self._flush()
        pieces = self._chain([heads], _pieces(exchange), [warc.TAIL])
        packed = gz.stored(pieces) if _COMPRESSED.search(head) else gz.deflated_stream(pieces)
        for chunk in packed:
            self._emit([chunk])
            if self._pending >= _FLUSH_BYTES:
                self._flush()
        self._commit(cut + body_cut, digests + tail_digests)
        written = Written(number, record_id, date, digest, offset, self.size - offset)
        if exchange.head and not exchange.chunked and exchange.truncated is None:
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
        cut = _cut_head(record)  # one segment, unless a cookie or the like may have to be withheld
        if len(cut) > 1:
            position = top.index(b"\r\nWARC-Block-Digest: ") + 2  # then the digest over it stands alone as well
            cut[:1] = [position, len(top) - 2 - position, cut[0] - (len(top) - 2)]
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
        """A line of the exchange log; its connection and certificates get lines of their own when they are new."""
        connection = exchange.connection
        if connection is not None and connection.number not in self._connections:
            self._connections.add(connection.number)
            self._note_connection(connection)
        first = "null" if exchange.first_byte is None else f"{exchange.first_byte:.6f}"
        line = (
            f'{{"type":"exchange","url":{_quoted(exchange.url)},"date":"{self._date(exchange.started)}",'
            f'"record":{written.number if written else "null"},'
            f'"connection":{connection.number if connection else "null"},'
            f'"status":{exchange.status},"seconds":{exchange.seconds:.6f},"first_byte":{first},'
            f'"attempt":{exchange.attempt}'
        )
        if exchange.truncated:
            line += f',"truncated":"{exchange.truncated.value}"'
        if exchange.malformed:
            line += f',"malformed":{_quoted(exchange.malformed)}'
        if exchange.failure:
            detail = _quoted(exchange.failure.detail)
            line += f',"failure":{{"kind":"{exchange.failure.kind.value}","detail":{detail}}}'
        self._exchanges.append(f"{line}}}\n".encode("utf-8", "backslashreplace"))

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
        if connection.noted is None:
            connection.noted = self._connection_line(connection, names)
        self._log.append(connection.noted)

    def _connection_line(self, connection: Connection, names: list[str]) -> bytes:
        line = {
            "type": "connection", "number": connection.number, "host": connection.host, "port": connection.port,
            "vantage": connection.vantage, "peer": connection.peer, "resolved": list(connection.resolved),
            "tls": connection.tls, "cipher": connection.cipher, "verified": connection.verified, "chain": names,
            "opened": self._date(connection.opened), "seconds": round(connection.seconds, 6),
        }  # fmt: skip
        return _json_line(line)

    # -- members

    def _member(
        self, parts: Sequence[bytes], cut: list[int], digests: list[bytes], date: str, digest: str, *, stored: bool,
        revisit: bool = False,
    ) -> Written:  # fmt: skip
        offset, number = self.size, len(self._cuts)
        if sum(map(len, parts)) < _TINY:  # compressing so little costs more time than it saves room
            self._emit([gz.stored_small(b"".join(parts))])
        else:
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
    """Cut header lines so that each of `ALONE` stands by itself (the first 64 of a head: a server decides how many)."""
    cut: list[int] = []
    position = 0
    for match in islice(ALONE.finditer(head), _MOST_ALONE):
        start, end = match.start(1), match.end() + 1
        if start > position:
            cut.append(start - position)
        cut.append(end - start)
        position = end
    if position < len(head):
        cut.append(len(head) - position)
    return cut


def _heads(alone: list[bytes], rest: bytes) -> tuple[bytes, list[int], list[bytes]]:
    """Header lines in one piece, their cut, and the digests of its segments."""
    rest_cut = _cut_head(rest)
    cut = [*map(len, alone), *rest_cut]
    digests = [sha256(line).digest() for line in alone]
    return b"".join([*alone, rest]), cut, digests + _digests(rest, rest_cut)


def _digests(data: bytes, cut: Sequence[int]) -> list[bytes]:
    if len(cut) == 1:
        return [sha256(data).digest()]
    view, position, out = memoryview(data), 0, []
    for length in cut:
        out.append(sha256(view[position : position + length]).digest())
        position += length
    return out


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


_quoted = json.encoder.encode_basestring
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _json_line(value: dict[str, Any]) -> bytes:
    return _encode(value).encode() + b"\n"
