"""The seal's statement: written, read back, and refused when anything in it is of another kind."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import MalformedError
from mirror.formats import statement
from mirror.model import CaptureId

GOOD = statement.CaptureSeal(
    capture=CaptureId("1b4e28ba-2fa1-41d2-883f-0016d3cca427"), root="ab" * 32, records=7,
    started="2026-11-21T10:02:03.000000Z", finished="2026-11-21T10:02:04.500000Z", signers=("00" * 32, "ff" * 32),
    tool_version="1.0",
)  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, v in inner for p in _leaves(v, (*path, key)))]


PLACES = _leaves(json.loads(statement.encode(GOOD)))[1:]


def _with(path: tuple[Any, ...], value: object) -> bytes:
    document = json.loads(statement.encode(GOOD))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(document).encode()


def test_statement_has_the_shape_of_the_proof_contract() -> None:
    document = json.loads(statement.encode(GOOD))
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["subject"] == [{"name": "capture", "digest": {"mirrorSegmentsV1": "ab" * 32}}]
    assert document["predicateType"].endswith("capture-seal/v1")
    assert document["predicate"]["claimed"]["clock"] == {"source": "system", "offset": None}


def test_decode_and_encode_are_inverse() -> None:
    full = replace(
        GOOD, clock_offset=0.25, tool_commit="abc", not_before=({"kind": "drand", "round": 1},), log="a.example/log",
        series={"id": "00", "seq": 2, "prev": None}, roster={"version": 1, "sha256": "00"},
    )  # fmt: skip
    for seal in (GOOD, full):
        assert statement.decode(statement.encode(seal)) == seal


@pytest.mark.parametrize("path", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_missing_doubled_and_unknown_fields_are_malformed(path: tuple[Any, ...]) -> None:
    document = json.loads(statement.encode(GOOD))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if not isinstance(inner, dict):
        return
    inner["more"] = 1
    with pytest.raises(MalformedError):
        statement.decode(json.dumps(document).encode())
    del inner["more"]
    member = json.dumps({path[-1]: inner[path[-1]]})[1:-1]
    text = json.dumps(document)
    assert text.count(member) == 1
    with pytest.raises(MalformedError, match="twice"):
        statement.decode(text.replace(member, f"{member}, {member}").encode())
    del inner[path[-1]]
    with pytest.raises(MalformedError):
        statement.decode(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"), (("predicateType",), "urn:mirror:predicate:capture-seal/v2"),
        (("subject",), []), (("subject", 0, "name"), "other"), (("predicate", "records"), 0),
        (("predicate", "records"), -1), (("predicate", "records"), True), (("predicate", "records"), 7.0),
        (("predicate", "records"), "7"), (("predicate", "records"), 1 << 32), (("predicate", "signers"), []),
        (("predicate", "signers"), ["ff" * 32, "00" * 32]), (("predicate", "signers"), ["00" * 32] * 2),
        (("predicate", "signers"), [f"{n:064x}" for n in range(17)]), (("predicate", "signers"), ["0" * 63]),
        (("predicate", "signers"), ["A" * 64]), (("predicate", "capture"), "1B4E28BA-2FA1-41D2-883F-0016D3CCA427"),
        (("predicate", "capture"), "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
        (("predicate", "capture"), "1b4e28ba-2fa1-41d2-883f-0016d3cca427\n"),
        (("subject", 0, "digest", "mirrorSegmentsV1"), "AB" * 32),
        (("subject", 0, "digest", "mirrorSegmentsV1"), "ab" * 31),
        (("predicate", "claimed", "started"), "2026-11-21T10:02:03Z"),
        (("predicate", "claimed", "started"), "2026-11-21T10:02:03.000000+00:00"),
        (("predicate", "claimed", "finished"), "２026-11-21T10:02:03.000000Z"),
        (("predicate", "claimed", "clock", "offset"), "0"), (("predicate", "tool", "version"), "x" * 201),
    ],
)  # fmt: skip
def test_value_out_of_form_is_malformed(path: tuple[Any, ...], value: object) -> None:
    with pytest.raises(MalformedError):
        statement.decode(_with(path, value))


@given(st.sampled_from(PLACES), json_values)
def test_any_json_value_anywhere_is_malformed_and_nothing_worse(path: tuple[Any, ...], value: object) -> None:
    with contextlib.suppress(MalformedError):
        statement.decode(_with(path, value))


@given(st.binary(max_size=200), st.integers(0, 900))
def test_garbage_is_malformed_and_nothing_worse(garbage: bytes, keep: int) -> None:
    good = statement.encode(GOOD)
    for text in (garbage, good[:keep] + garbage, good[:keep] + garbage + good[keep:], b"[" * 200_000, b"9" * 9999):
        with contextlib.suppress(MalformedError):
            statement.decode(text)
