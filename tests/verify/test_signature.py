"""Ed25519 through the verifier's own check: the edge cases others published (CCTV)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirror.errors import MalformedError
from mirror.formats import vkey
from mirror.verify import verifier

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "ed25519" / "ed25519vectors.json"
REFUSED = {"low_order_residue", "non_canonical_R", "reencoded_k"}
"""What RFC 8032 verification without cofactor and with canonical encodings must refuse when the key is accepted."""


@pytest.mark.skipif(not VECTORS.is_file(), reason="the shared vectors are not here")
def test_published_edge_cases_are_decided_as_rfc_8032_has_them() -> None:
    refused = accepted = 0
    for case in json.loads(VECTORS.read_text()):
        public, flags = bytes.fromhex(case["key"]), set(case["flags"] or ())
        try:
            vkey.check_public(public)
        except MalformedError:
            continue
        good = verifier._signed(public, bytes.fromhex(case["sig"]), case["msg"].encode())
        assert good == (not flags & REFUSED), case
        refused += not good
        accepted += good
    assert refused > 50 and accepted > 10


def test_signature_of_another_length_is_refused() -> None:
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    for size in (0, 63, 65, 1000):
        assert not verifier._signed(public, bytes(size), b"")
