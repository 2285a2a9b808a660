"""Frames between the extraction child and its keeper."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import MalformedError
from mirror.text import wire

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MAYBE = st.none() | TEXT


@given(
    st.builds(
        wire.Request,
        url=TEXT,
        http_charset=MAYBE,
        captured=st.none() | st.datetimes(timezones=st.just(UTC)),
        length=st.integers(0, 1 << 40),
    )
)
def test_request_reads_back(request: wire.Request) -> None:
    assert wire.parse_request(wire.request_frame(request)[wire.FRAME_HEAD :]) == request


@given(
    st.builds(
        wire.Extract,
        title=MAYBE,
        author=MAYBE,
        date=MAYBE,
        language=MAYBE,
        text=TEXT,
        links=st.lists(TEXT).map(tuple),
        tool=TEXT,
        tool_version=TEXT,
        encoding=TEXT,
    )
    | st.builds(wire.ExtractFailure, reason=st.sampled_from(wire.FailureReason), detail=TEXT)
)
def test_answer_reads_back(answer: wire.Extract | wire.ExtractFailure) -> None:
    assert wire.parse_answer(wire.answer_frame(answer)[wire.FRAME_HEAD :]) == answer


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        wire.parse_answer(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b"{}",
        b'{"failure": "bored", "detail": ""}',
        b'{"failure": ["crash"], "detail": ""}',
        b'{"failure": "crash"}',
        b'{"title":1,"text":"","links":[],"tool":"","tool_version":"","encoding":""}',
        b'{"text":"","links":[1],"tool":"","tool_version":"","encoding":""}',
        b'{"text":null,"links":[],"tool":"","tool_version":"","encoding":""}',
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_wrong_answers_are_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        wire.parse_answer(payload)


@pytest.mark.parametrize("field", ['"length":-1', '"length":true', '"length":"5"', '"captured":"soon","length":1'])
def test_wrong_requests_are_malformed(field: str) -> None:
    with pytest.raises(MalformedError):
        wire.parse_request(b'{"url":"u","http_charset":null,' + field.encode() + b"}")


def test_naive_and_aware_capture_times_keep_their_zone() -> None:
    request = wire.Request(url="u", http_charset=None, captured=datetime(2025, 1, 1, tzinfo=UTC), length=0)
    assert wire.parse_request(wire.request_frame(request)[4:]).captured == request.captured
