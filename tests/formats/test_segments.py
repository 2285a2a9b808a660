"""The salted segment tree against its definition, and openings read strictly."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import LimitError, MalformedError
from mirror.formats import merkle, segments

SECRET = bytes(range(32))
cuts = st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), max_size=20)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**32), st.lists(st.binary(max_size=9), min_size=1))
def test_leaf_is_that_of_the_definition(secret: bytes, record: int, parts: list[bytes]) -> None:
    commits = []
    for number, part in enumerate(parts):
        message = b"mirror/segment-salt/v1" + record.to_bytes(8) + number.to_bytes(8)
        salt = hmac.digest(secret, message, "sha256")
        commits.append(sha256(b"mirror/segment/v1\0" + salt + sha256(part).digest()).digest())
    committer = segments.Committer(secret)
    expected = len(parts).to_bytes(8) + merkle.tree_hash(commits)
    assert committer.leaf(record, [sha256(part).digest() for part in parts]) == expected
    assert committer.salt(record, 0) == hmac.digest(
        secret, b"mirror/segment-salt/v1" + record.to_bytes(8) + bytes(8), "sha256"
    )


@given(cuts)
def test_opening_is_read_as_it_was_written(lengths: list[list[int]]) -> None:
    opening = segments.Opening(segments.write_opening(SECRET, lengths))
    assert (opening.secret, len(opening)) == (SECRET, len(lengths))
    assert [list(opening.cut(n)) for n in range(len(opening))] == lengths


@given(st.integers(0, 5 << 20), st.integers(0, 10))
def test_body_is_cut_every_mebibyte_and_the_tail_joins_the_last(length: int, tail: int) -> None:
    cut = segments.cut_body(length, tail)
    assert sum(cut) == length + tail
    assert all(n == segments.BODY_CUT for n in cut[:-1])
    assert not cut or 0 < cut[-1] <= segments.BODY_CUT + tail


BASE64 = base64.b64encode(SECRET)
MAGIC = b"mirror-opening/v1\n"


@pytest.mark.parametrize(
    "block",
    [
        b"", MAGIC, MAGIC[:-1], b"mirror-opening/v2\n" + BASE64 + b"\n1\n", MAGIC + BASE64, MAGIC + BASE64 + b"\n1",
        MAGIC + BASE64 + b"\n\n", MAGIC + BASE64 + b"\n0\n", MAGIC + BASE64 + b"\n01\n", MAGIC + BASE64 + b"\n1  2\n",
        MAGIC + BASE64 + b"\n1 \n", MAGIC + BASE64 + b"\n 1\n", MAGIC + BASE64 + b"\n-1\n", MAGIC + BASE64 + b"\n1\r\n",
        MAGIC + BASE64 + b"\n" + b"9" * 16 + b"\n", MAGIC + BASE64 + b"\n1\n\n", MAGIC + BASE64[:-2] + b"9=\n1\n",
        MAGIC + BASE64.rstrip(b"=") + b"\n1\n", MAGIC + BASE64.replace(b"AAEC", b"-AEC") + b"\n1\n",
        MAGIC + BASE64 + "\n１\n".encode(), MAGIC + base64.b64encode(SECRET[:31]) + b"\n1\n",
    ],
)  # fmt: skip
def test_opening_in_another_form_is_malformed(block: bytes) -> None:
    with pytest.raises(MalformedError):
        segments.Opening(block)


@given(st.binary(max_size=300), st.integers(0, 80))
def test_garbage_is_malformed_and_nothing_worse(garbage: bytes, keep: int) -> None:
    good = segments.write_opening(SECRET, [[10, 20], [30]])
    for block in (garbage, good[:keep] + garbage, good + garbage):
        try:
            opening = segments.Opening(block)
        except MalformedError:
            continue
        lengths = [list(opening.cut(n)) for n in range(len(opening))]
        assert segments.write_opening(opening.secret, lengths) == block


def test_too_large_openings_are_neither_read_nor_written() -> None:
    with pytest.raises(LimitError):
        segments.Opening(bytes(segments.MAX_OPENING + 1))
    with pytest.raises(LimitError, match="one record"):
        segments.Opening(MAGIC + BASE64 + b"\n" + b"1 " * (1 << 19) + b"11\n")
    with pytest.raises(LimitError, match="too many records"):
        segments.write_opening(SECRET, [[10**14] * 1000] * 2200)


def test_secret_of_another_size_is_malformed() -> None:
    for size in (0, 31, 33):
        with pytest.raises(MalformedError):
            segments.Committer(bytes(size))


def test_record_without_segments_has_no_leaf() -> None:
    with pytest.raises(MalformedError):
        segments.Committer(SECRET).leaf(0, [])
