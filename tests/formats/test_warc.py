"""WARC heads: record ids that count, heads read strictly, closing records rebuilt byte for byte."""

from __future__ import annotations

import contextlib
import re
import uuid
from hashlib import sha256
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from mirror.errors import MalformedError
from mirror.formats import warc

HEAD = b"WARC/1.1\r\nWARC-Type: metadata\r\nContent-Length: 3\r\n\r\n"


@given(st.binary(min_size=12, max_size=12), st.integers(0, 2**32 - 1))
def test_record_id_is_a_version_8_uuid_that_carries_its_number(random: bytes, number: int) -> None:
    text = warc.RecordIds(random)[number]
    found = uuid.UUID(text.removeprefix("<urn:uuid:").removesuffix(">"))
    assert (found.version, found.variant) == (8, uuid.RFC_4122)
    assert warc.record_number(f"WARC/1.1\r\nWARC-Record-ID: {text}\r\n".encode()) == number


def test_ids_of_others_carry_no_number() -> None:
    for text in ("<urn:uuid:1b4e28ba-2fa1-41d2-883f-0016d3cca427>", "urn:x", ""):
        assert warc.record_number(f"WARC/1.1\r\nWARC-Record-ID: {text}\r\n".encode()) is None


@given(st.floats(0, 4e9))
def test_date_has_microseconds_and_is_utc(epoch: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", warc.date(epoch))


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (HEAD, 3), (HEAD.replace(b"Content-Length", b"content-LENGTH"), 3), (HEAD.replace(b": 3", b":3 "), 3),
        (HEAD.replace(b"Content-Length: 3\r\n", b""), None), (HEAD.replace(b": 3", b": -3"), None),
        (HEAD.replace(b": 3", b": 3x"), None), (HEAD.replace(b": 3", b": " + b"9" * 19), None),
        (HEAD.replace(b"Content", b"Content-Length: 3\r\nContent"), None),
    ],
)  # fmt: skip
def test_content_length_is_one_number_or_none(head: bytes, length: int | None) -> None:
    assert warc.content_length(head + b"abc\r\n\r\n", len(head) - 4) == length


def test_content_length_in_the_block_does_not_count() -> None:
    record = HEAD + b"\r\nContent-Length: 9\r\n\r\n"
    assert warc.content_length(record, len(HEAD) - 4) == 3


def test_head_is_read_with_names_in_lower_case() -> None:
    head = warc.parse_head(HEAD + b"abc")
    assert (head.version, head.size, head.get("warc-type"), head.get("x")) == ("WARC/1.1", len(HEAD), "metadata", None)
    with pytest.raises(MalformedError, match="without x"):
        head.require("x")


@given(st.binary(max_size=300), st.integers(0, 60))
def test_garbage_is_malformed_and_nothing_worse(garbage: bytes, keep: int) -> None:
    for data in (garbage, HEAD[:keep] + garbage, HEAD[:keep] + garbage + HEAD[keep:], b"WARC/" + garbage + b"\r\n\r\n"):
        with contextlib.suppress(MalformedError):
            warc.parse_head(data)
        warc.record_number(data)
        warc.content_length(data, data.find(b"\r\n\r\n"))


def test_endless_head_is_malformed() -> None:
    with pytest.raises(MalformedError):
        warc.parse_head(b"WARC/1.1\r\n" + b"A: b\r\n" * 30_000 + b"\r\n")


def test_closing_record_is_read_by_others_and_states_its_digest() -> None:
    data = warc.closing("opening", "an-id", "<urn:uuid:a>", "2026-11-21T10:02:03.000000Z", "text/plain", b"block\n")
    (record,) = [
        (r.rec_headers, r.content_stream().read()) for r in ArchiveIterator(BytesIO(data), no_record_parse=True)
    ]
    headers, block = record
    assert block == b"block\n"
    assert headers.get_header("WARC-Target-URI") == "urn:mirror:opening:an-id"
    assert headers.get_header("WARC-Block-Digest") == f"sha256:{sha256(block).hexdigest()}"
