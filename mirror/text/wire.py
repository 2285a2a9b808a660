"""What the extraction child and its keeper say to each other: values, and frames of length-prefixed JSON, no pickle.

A request is a frame with a JSON header, then `length` bytes of body. An answer is one frame. A frame is four bytes of
length, big-endian, then that many bytes of UTF-8. The child works on hostile input, so its answers are parsed strictly.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from mirror.errors import MalformedError

FRAME_HEAD = 4
LONGEST_REQUEST_HEADER = 1 << 18
LONGEST_ANSWER = 1 << 27
READY = b"\x00\x00\x00\x00"
"""An empty frame: the child has loaded everything and waits for its first document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """What a page says, as derived data: never evidence, recomputed when the index is rebuilt.

    `text` is NFC; `date` an ISO 8601 day; `language` an ISO 639 code in lower case; `links` are absolute http(s) URLs
    without fragment, in document order, once each.
    """

    title: str | None
    author: str | None
    date: str | None
    language: str | None
    text: str
    links: tuple[str, ...]
    tool: str
    tool_version: str
    encoding: str


class FailureReason(Enum):
    """Why a document has no extract."""

    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASH = "crash"
    REFUSED = "refused"
    TOO_LARGE = "too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractFailure:
    """The document was given up; `detail` is one sentence for a person, without the URL."""

    reason: FailureReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The header of a request; `length` bytes of body follow it."""

    url: str
    http_charset: str | None
    captured: datetime | None
    length: int


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(FRAME_HEAD, "big") + payload


def request_frame(request: Request) -> bytes:
    captured = request.captured.isoformat() if request.captured else None
    return frame(json.dumps(asdict(request) | {"captured": captured}).encode())


def parse_request(payload: bytes) -> Request:
    fields = _fields(payload)
    captured = _text_or_none(fields, "captured")
    length = fields.get("length")
    if type(length) is not int or length < 0:
        raise MalformedError("a request to the extractor needs a length", "length")
    try:
        when = datetime.fromisoformat(captured) if captured is not None else None
    except ValueError as e:
        raise MalformedError("a request to the extractor has a date that is none", "captured") from e
    return Request(
        url=_text(fields, "url"), http_charset=_text_or_none(fields, "http_charset"), captured=when, length=length
    )


def answer_frame(answer: Extract | ExtractFailure) -> bytes:
    if isinstance(answer, ExtractFailure):
        fields: dict[str, Any] = {"failure": answer.reason.value, "detail": answer.detail}
    else:
        fields = asdict(answer)
    return frame(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace"))


def parse_answer(payload: bytes) -> Extract | ExtractFailure:
    """Read an answer. Raises `MalformedError` if it is not exactly one."""
    fields = _fields(payload)
    if "failure" in fields:
        try:
            reason = FailureReason(fields["failure"])
        except ValueError as e:
            raise MalformedError("an answer of the extractor has an unknown reason", "failure") from e
        return ExtractFailure(reason=reason, detail=_text(fields, "detail"))
    links = fields.get("links")
    if not isinstance(links, list) or not all(isinstance(link, str) for link in links):
        raise MalformedError("an answer of the extractor has no list of links", "links")
    return Extract(
        title=_text_or_none(fields, "title"),
        author=_text_or_none(fields, "author"),
        date=_text_or_none(fields, "date"),
        language=_text_or_none(fields, "language"),
        text=_text(fields, "text"),
        links=tuple(links),
        tool=_text(fields, "tool"),
        tool_version=_text(fields, "tool_version"),
        encoding=_text(fields, "encoding"),
    )


def _fields(payload: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(payload.decode())
    except (ValueError, RecursionError) as e:
        raise MalformedError("what came through the extractor's pipe is not JSON") from e
    if not isinstance(fields, dict):
        raise MalformedError("what came through the extractor's pipe is not a JSON object")
    return fields


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise MalformedError("a text is missing in what came through the extractor's pipe", name)
    return value


def _text_or_none(fields: dict[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)
