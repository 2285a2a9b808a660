"""A record's own digests: WARC-Block-Digest and WARC-Payload-Digest, recomputed while the block streams by.

Labels and encodings as they are found in the field: sha1, sha256, sha512, md5, blake2b; base32, hex, base64.
"""

from __future__ import annotations

import base64
import hashlib
import re

from mirror.errors import MalformedError
from mirror.formats.http1 import Dechunker

_ALGORITHMS = {
    "sha1": "sha1",
    "sha256": "sha256",
    "sha512": "sha512",
    "sha384": "sha384",
    "md5": "md5",
    "blake2b": "blake2b",
}
_FIELD = re.compile(
    rb"^(warc-type|warc-block-digest|warc-payload-digest|content-type|warc-segment-number):[ \t]*([^\r\n]*)",
    re.I | re.M,
)
_MAX_HTTP_HEAD = 512 << 10
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNKED = re.compile(rb"\ntransfer-encoding:[^\n]*chunked", re.I)
_NEW = {"sha256": hashlib.sha256, "sha1": hashlib.sha1}


_STATED = re.compile(rb"\r\nwarc-(block|payload)-digest: (sha256|sha1):([0-9a-z]+)(?=\r\n)")
_ELSEWHERE = (b"revisit", b"continuation", b"segment-number")
"""A head with one of these words may state the digest of a payload that stands elsewhere."""


def plain(
    lower: bytes, buffer: bytes, start: int, end: int, known: tuple[int, bytes] = (-1, b"")
) -> tuple[int, list[str]] | None:
    """Check a record whose block is buffer[start:end]: (digests checked, sentences about those that do not agree).

    `lower` is its head in lower case; `known`: the SHA-256 of buffer[known[0]:end], when it was taken already. The
    quick way for what is usual, and the same answers as `Record`, which is for everything else (None).
    """
    stated = _STATED.findall(lower)
    if len(stated) != lower.count(b"-digest:") or len(stated) > 2:
        return None
    for word in _ELSEWHERE:
        if word in lower:
            return None
    view = memoryview(buffer)
    wrong = []
    seen = b""
    for what, algorithm, text in stated:
        if what == seen:
            return None
        seen = what
        at = start
        if what == b"payload" and b"\r\ncontent-type: application/http" in lower:
            match = _HEAD_END.search(buffer, start, end)
            if match is None or _CHUNKED.search(buffer, start, match.end()):
                return None
            at = match.end()
        if at == known[0] and algorithm == b"sha256":
            digest = known[1]
        else:
            digest = _NEW[algorithm.decode()](view[at:end]).digest()
        if not _same(text, digest):
            wrong.append(f"the {what.decode()} does not have the digest its header states")
    return len(stated), wrong


class Record:
    """Feed the block of one record; `finish` gives a sentence for each digest that does not agree."""

    __slots__ = (
        "_block",
        "_chunks",
        "_coded",
        "_head",
        "_payload",
        "_wanted_block",
        "_wanted_payload",
        "checked",
        "unchecked",
    )

    def __init__(self, head: bytes) -> None:
        fields = {k.lower(): v.strip() for k, v in _FIELD.findall(head)}
        kind = fields.get(b"warc-type", b"").lower()
        self.checked = 0
        self.unchecked = 0
        self._wanted_block = self._wanted(fields.get(b"warc-block-digest"))
        payload = fields.get(b"warc-payload-digest")
        # a revisit's payload, and a continued record's, stand elsewhere
        elsewhere = kind in (b"revisit", b"continuation") or b"warc-segment-number" in fields
        self._wanted_payload = None if elsewhere or payload is None else self._wanted(payload)
        self._block = None if self._wanted_block is None else _new(self._wanted_block[0])
        self._payload: hashlib._Hash | None = None
        self._coded: hashlib._Hash | None = None
        self._chunks: Dechunker | None = None
        self._head: bytes | None = None
        if self._wanted_payload is not None:
            self._payload = _new(self._wanted_payload[0])
            if fields.get(b"content-type", b"").lower().startswith(b"application/http"):
                self._head = b""  # the HTTP head is not yet passed

    def _wanted(self, value: bytes | None) -> tuple[str, bytes] | None:
        if value is None:
            return None
        label, _, text = value.partition(b":")
        algorithm = _ALGORITHMS.get(label.decode("latin-1").lower().replace("-", ""))
        if algorithm is None:
            self.unchecked += 1
            return None
        return algorithm, text

    def feed(self, data: bytes | memoryview) -> None:
        if self._block is not None:
            self._block.update(data)
        if self._payload is None:
            return
        if self._head is None:
            self._feed_payload(data)
            return
        joined = self._head + data
        match = _HEAD_END.search(joined)
        if match is None and len(joined) <= _MAX_HTTP_HEAD:
            self._head = joined
            return
        end = match.end() if match else len(joined)
        self._head = None
        if _CHUNKED.search(joined, 0, end) and self._wanted_payload is not None:
            self._chunks, self._coded = Dechunker(), _new(self._wanted_payload[0])
        self._feed_payload(memoryview(joined)[end:])

    def _feed_payload(self, data: bytes | memoryview) -> None:
        if self._payload is None:
            return
        if self._coded is None:
            self._payload.update(data)
            return
        self._coded.update(data)  # some tools digest the body with its transfer coding
        if self._chunks is not None:
            try:
                for part in self._chunks.feed(bytes(data)):
                    self._payload.update(part)
            except MalformedError:
                self._chunks = None

    def result(self) -> tuple[int, list[str]]:
        """The same answer as `plain` gives: digests checked, and what `finish` says."""
        wrong = self.finish()
        return self.checked, wrong

    def finish(self) -> list[str]:
        """Sentences about what does not agree; empty when all that could be checked agrees."""
        wrong = []
        if self._wanted_block is not None and self._block is not None:
            self.checked += 1
            if not _same(self._wanted_block[1], self._block.digest()):
                wrong.append("the block does not have the digest its header states")
        if self._wanted_payload is not None and self._payload is not None:
            self.checked += 1
            digests = [self._payload.digest()] + ([self._coded.digest()] if self._coded is not None else [])
            if not any(_same(self._wanted_payload[1], d) for d in digests):
                wrong.append("the payload does not have the digest its header states")
        return wrong


def _new(algorithm: str) -> hashlib._Hash:
    make = _NEW.get(algorithm)
    return make() if make else hashlib.new(algorithm, usedforsecurity=False)


def _same(text: bytes, digest: bytes) -> bool:
    if len(text) == 2 * len(digest):
        return text.lower() == digest.hex().encode()
    text, coded = text.rstrip(b"="), base64.b32encode(digest).rstrip(b"=")
    if len(text) == len(coded):
        return text.upper() == coded
    return text == base64.b64encode(digest).rstrip(b"=")
