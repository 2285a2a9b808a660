"""DSSE envelopes: the protocol's own test vector, one serialisation, and nothing but it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import LimitError, MalformedError
from mirror.formats import dsse

PROTOCOL = Path(__file__).parents[3] / "shared" / "vectors" / "dsse" / "protocol.md"
KEYID = "0" * 63 + "1"
GOOD = dsse.Envelope(b"{}", dsse.IN_TOTO, (dsse.Signature(KEYID, bytes(64)), dsse.Signature("f" * 64, b"s")))

envelopes = st.builds(
    dsse.Envelope,
    st.binary(max_size=80),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.dictionaries(st.binary(min_size=32, max_size=32), st.binary(max_size=70), min_size=1, max_size=4).map(
        lambda found: tuple(dsse.Signature(k.hex(), s) for k, s in sorted(found.items()))
    ),
)


@pytest.mark.skipif(not PROTOCOL.is_file(), reason="the shared vectors are not here")
def test_pae_is_that_of_the_protocols_example() -> None:
    text = PROTOCOL.read_text()
    (expected,) = re.findall(r"^\s*(DSSEv1 29 .*)$", text, re.M)
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == expected.strip().encode()


def test_pae_counts_bytes_and_keeps_them_apart() -> None:
    assert dsse.pae("", b"") == b"DSSEv1 0  0 "
    assert dsse.pae("đ", "đ".encode()) == "DSSEv1 2 đ 2 đ".encode()
    assert dsse.pae("a b", b"c") != dsse.pae("a", b"b c")


@given(envelopes)
def test_decode_and_encode_are_inverse(envelope: dsse.Envelope) -> None:
    assert dsse.decode(dsse.encode(envelope)) == envelope


def _document(**changes: object) -> dict[str, object]:
    return {**json.loads(dsse.encode(GOOD)), **changes}


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b"[]", b"null", b"1" * 5000, b"[" * 100_000, b'{"payload":"e30="}',
        dsse.encode(GOOD) + b"\n", b" " + dsse.encode(GOOD), dsse.encode(GOOD).replace(b":", b": "),
        dsse.encode(GOOD).replace(b"e30=", b"e30"), dsse.encode(GOOD).replace(b"e30=", b"e31="),
        dsse.encode(GOOD).replace(b'"sig"', b'"sig":"AA==","sig"'),
        json.dumps(_document(extra=1), separators=(",", ":")).encode(),
        json.dumps(json.loads(dsse.encode(GOOD)), sort_keys=True).encode(),
        dsse.encode(GOOD).decode().encode("utf-16"),
    ],
    ids=range(16),
)  # fmt: skip
def test_any_other_serialisation_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedError):
        dsse.decode(text)


SIG = base64.b64encode(bytes(64)).decode()


@pytest.mark.parametrize(
    "signatures",
    [
        [], [{"keyid": KEYID, "sig": SIG}] * 2, [{"keyid": "F" * 64, "sig": SIG}], [{"keyid": "", "sig": SIG}],
        [{"keyid": None, "sig": SIG}], [{"keyid": [KEYID], "sig": SIG}], [{"keyid": {}, "sig": SIG}],
        [{"keyid": 1, "sig": SIG}], [{"keyid": KEYID}], [KEYID], {"keyid": KEYID, "sig": SIG}, "aa", None, 3,
        [{"keyid": "f" * 64, "sig": SIG}, {"keyid": KEYID, "sig": SIG}],
    ],
    ids=range(15),
)  # fmt: skip
def test_signatures_of_another_kind_are_malformed(signatures: object) -> None:
    for text in (json.dumps(_document(signatures=signatures), separators=(",", ":")).encode(),):
        with pytest.raises(MalformedError):
            dsse.decode(text)


@pytest.mark.parametrize("value", [None, 1, [], {}, "\ud800", "ab"])
def test_payload_and_type_of_another_kind_are_malformed(value: object) -> None:
    for name in ("payload", "payloadType"):
        if (name, value) != ("payloadType", "ab"):
            text = json.dumps(_document(**{name: value}), separators=(",", ":")).encode()
            try:
                dsse.decode(text)
            except MalformedError:
                continue
            assert name == "payloadType" and type(value) is not str, value  # the verifier compares the type


def test_too_large_envelope_is_over_a_limit() -> None:
    with pytest.raises(LimitError):
        dsse.decode(bytes(dsse.MAX_ENVELOPE + 1))


@given(st.binary(max_size=100), st.integers(0, 300))
def test_garbage_is_malformed_and_nothing_worse(garbage: bytes, keep: int) -> None:
    good = dsse.encode(GOOD)
    for text in (garbage, good[:keep] + garbage, good[:keep] + garbage + good[keep:]):
        with contextlib.suppress(MalformedError):
            assert dsse.encode(dsse.decode(text)) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]), json_values)
def test_any_json_value_anywhere_is_malformed_and_nothing_worse(name: str, value: object) -> None:
    document = json.loads(dsse.encode(GOOD))
    if name in document:
        document[name] = value
    else:
        document["signatures"][0][name] = value
    with contextlib.suppress(MalformedError):
        dsse.decode(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))
