"""The values that stages hand to each other. No behaviour beyond small derived properties."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import BinaryIO, NewType

CaptureId = NewType("CaptureId", str)
"""A random UUID (version 4), lower-case with hyphens."""


class LinkKind(Enum):
    """What a link found in a document is for. The first group is needed to show the page, the second is not."""

    STYLE = "style"
    SCRIPT = "script"
    IMAGE = "image"
    FONT = "font"
    MEDIA = "media"  # video, audio, poster, tracks
    FRAME = "frame"  # iframe, frame, embed, object: a document of its own, whose requisites count too
    ICON = "icon"
    PREVIEW = "preview"  # OpenGraph, JSON-LD, oEmbed: images and data that describe the page
    OEMBED = "oembed"
    FEED_ITEM = "feed-item"
    SITEMAP_ITEM = "sitemap-item"
    NEXT_PART = "next-part"  # rel=next: the article's next part
    PAGE = "page"  # an ordinary <a href>


@dataclass(frozen=True, slots=True)
class Link:
    """A link found in a document: absolute URL without fragment, and what it is for."""

    url: str
    kind: LinkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A URL somebody wants kept, after cleaning. Nothing of who reported it exists here (threats: reporter)."""

    url: str
    removed: tuple[str, ...] = ()  # names of the query parameters that were stripped
    received: datetime | None = None  # rounded to the hour


class Completeness(Enum):
    """What a capture holds of what its page needs; computed when it is sealed, and sealed with it."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


class Truncation(Enum):
    """WARC-Truncated (ISO 28500 §5.13)."""

    LENGTH = "length"
    TIME = "time"
    DISCONNECT = "disconnect"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlRow:
    """One archived response, as the index knows it. `offset`/`length` in bytes of the compressed file."""

    surt: str
    date: str  # WARC-Date
    url: str
    status: int
    mime: str  # Content-Type without parameters, lower case, "" when absent
    digest: str  # WARC-Payload-Digest
    record: int  # number of the record in its file
    offset: int
    length: int
    revisit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRow:
    """One capture file, as the index knows it: all of it is in the file, so the index can be rebuilt."""

    id: CaptureId
    path: str  # relative to the home's archives/, with /
    target: str  # URL asked for
    surt: str
    started: str  # RFC 3339 UTC, microseconds, Z
    finished: str
    completeness: Completeness
    origin: str  # "captured" (later: "contributed", "third-party")
    missing: int  # requisites that could not be kept
    status: int  # HTTP status of the page after redirects, 0 without an answer
    page: int | None  # record number of the page's response
    records: int
    size: int  # bytes of the file
    root: str  # hex capture root that the seal signs
    signers: tuple[str, ...]  # keyids in the seal
    urls: tuple[UrlRow, ...] = field(default=())


@dataclass(slots=True, kw_only=True)
class Connection:
    """One connection, shared by the exchanges that went over it. Times are seconds of the wall clock (epoch)."""

    number: int
    host: str
    port: int
    peer: str | None = None  # address really connected to; None behind a proxy
    resolved: tuple[str, ...] = ()  # DNS answers
    tls: str | None = None  # "TLSv1.3"
    cipher: str | None = None
    verified: bool | None = None  # certificate chain checked against the trust store
    chain: tuple[bytes, ...] = ()  # DER, leaf first
    vantage: str = "direct"
    opened: float = 0.0
    seconds: float = 0.0  # name look-up, connect and TLS together
    noted: bytes | None = None  # its line in the exchange log, once it was written


class FailureKind(Enum):
    """Why an exchange has no whole answer."""

    BLOCKED_ADDRESS = "blocked-address"
    DNS = "dns"
    REFUSED = "connection-refused"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    PROXY = "proxy"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    LIMIT = "over-limit"
    BUDGET = "budget"  # not tried: the capture's own limits were reached
    HTTP = "http-status"
    REDIRECTS = "too-many-redirects"
    URL = "bad-url"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, for people: `detail` holds no address of ours."""

    kind: FailureKind
    detail: str


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and what came back, byte for byte.

    `body`: received body bytes in pieces, transfer coding kept; moved to `spool` (a file) above a size.
    """

    url: str
    method: str = "GET"
    request: bytes = b""
    started: float = 0.0
    first_byte: float | None = None  # seconds after `started`
    seconds: float = 0.0
    interim: tuple[bytes, ...] = ()
    head: bytes = b""
    body: list[bytes] = field(default_factory=list)
    spool: BinaryIO | None = None
    body_size: int = 0
    surplus: bytes = b""
    status: int = 0
    fields: tuple[tuple[str, str], ...] = ()
    chunked: bool = False
    truncated: Truncation | None = None
    malformed: str | None = None
    failure: Failure | None = None
    connection: Connection | None = None
    attempt: int = 1

    def header(self, name: str) -> str | None:
        """First value of a response field, or None."""
        for key, value in self.fields:
            if key == name:
                return value
        return None

    @property
    def answered(self) -> bool:
        """At least one byte of a response arrived."""
        return bool(self.head or self.body_size or self.interim)
