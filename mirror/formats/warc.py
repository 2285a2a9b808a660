"""WARC 1.1 records (ISO 28500:2017): writing heads byte for byte, and reading them back.

Record ids are version 8 UUIDs (RFC 9562): random per capture, the last 32 bits count the records of the file from 0.
A reader can tell from any record where it stood, so that ranges of a file can be verified side by side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from mirror.errors import MalformedError

VERSION = b"WARC/1.1\r\n"
TAIL = b"\r\n\r\n"
MAX_HEAD = 128 << 10
REVISIT_PROFILE = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"

_FIELD = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*\r?$", re.M)
_LENGTH = re.compile(rb"\r\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-[Ll][Ee][Nn][Gg][Tt][Hh]:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_NUMBER = re.compile(
    rb"\r\nWARC-Record-ID: <urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{4}([0-9a-f]{8})>\r\n"
)


class RecordIds:
    """The record ids of one capture."""

    __slots__ = ("_prefix",)

    def __init__(self, random: bytes) -> None:
        """`random`: 12 bytes nobody can guess."""
        h = random.hex()
        self._prefix = f"<urn:uuid:{h[:8]}-{h[8:12]}-8{h[12:15]}-{'89ab'[random[10] & 3]}{h[15:18]}-{h[20:24]}"

    def __getitem__(self, number: int) -> str:
        return f"{self._prefix}{number:08x}>"


def record_number(head: bytes) -> int | None:
    """The number that a record's id carries, or None for the ids of others."""
    match = _NUMBER.search(head)
    return int(match[1], 16) if match else None


def date(epoch: float) -> str:
    """WARC-Date with microseconds, UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def content_length(record: bytes, end: int) -> int | None:
    """Content-Length of the head in `record[:end]`; None when absent, malformed or given twice."""
    found = _LENGTH.findall(record, 0, end + 4)
    return int(found[0]) if len(found) == 1 and found[0].isdigit() and len(found[0]) <= 18 else None


@dataclass(frozen=True, slots=True)
class RecordHead:
    """Parsed view of a record's head; names in lower case, values as text."""

    version: str
    fields: tuple[tuple[str, str], ...]
    size: int  # bytes of the head, with its empty line

    def get(self, name: str) -> str | None:
        for key, value in self.fields:
            if key == name:
                return value
        return None

    def require(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise MalformedError(f"a record without {name}", "WARC record")
        return value


def parse_head(data: bytes) -> RecordHead:
    """Parse the head at the start of `data`. Raises `MalformedError` when there is none within MAX_HEAD."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0 or not data.startswith(b"WARC/"):
        raise MalformedError("no WARC header", "WARC record")
    first = data.find(b"\r\n")
    try:
        fields = tuple((k.decode().lower(), v.decode()) for k, v in _FIELD.findall(data, first + 2, end + 2))
        return RecordHead(data[:first].decode(), fields, end + 4)
    except UnicodeDecodeError as e:
        raise MalformedError("header is not UTF-8", "WARC record") from e


def closing(kind: str, capture: str, record_id: str, when: str, content_type: str, block: bytes) -> bytes:
    """The opening or the seal as a whole record; its arguments decide every byte, so a verifier can rebuild it."""
    head = (
        f"WARC/1.1\r\nWARC-Type: metadata\r\nWARC-Record-ID: {record_id}\r\nWARC-Date: {when}\r\n"
        f"WARC-Target-URI: urn:mirror:{kind}:{capture}\r\nWARC-Block-Digest: sha256:{sha256(block).hexdigest()}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + TAIL
