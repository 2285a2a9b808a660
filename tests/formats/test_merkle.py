"""Tree hashes: against another implementation's log, and ranges that join."""

from __future__ import annotations

import base64
import itertools
import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import MalformedError
from mirror.formats import merkle

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not here")


def by_definition(entries: list[bytes]) -> bytes:
    """MTH as RFC 6962 §2.1 writes it down."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return sha256(b"\1" + by_definition(entries[:k]) + by_definition(entries[k:])).digest()


@needs_vectors
def test_known_answers_of_the_empty_tree_and_the_empty_leaf() -> None:
    known = json.loads((VECTORS / "kat.json").read_text())["rfc6962"]
    assert merkle.tree_hash([]).hex() == known["empty_root_sha256"]
    assert merkle.tree_hash([b""]).hex() == merkle.leaf_hash(b"").hex() == known["empty_leaf"]


@needs_vectors
def test_roots_are_those_of_a_tessera_log() -> None:
    log = VECTORS / "tessera-log" / "log"
    for size in range(1, 16):
        bundle = (log / f"tile/entries/000.p/{size}").read_bytes()
        entries, at = [], 0
        while at < len(bundle):
            length = int.from_bytes(bundle[at : at + 2])
            entries.append(bundle[at + 2 : at + 2 + length])
            at += 2 + length
        _, count, root, *_ = (log / f"checkpoint.{size}").read_text().split("\n")
        assert (len(entries), merkle.tree_hash(entries)) == (int(count), base64.b64decode(root))


@needs_vectors
def test_published_inclusion_proofs_lead_to_their_roots() -> None:
    """A proof's nodes are those of the ranges before and after the leaf, so they join to the root."""
    folder = VECTORS / "rfc6962" / "testdata" / "inclusion"
    for path in sorted(folder.glob("*/happy-path.json")):
        case = json.loads(path.read_text())
        proof = [base64.b64decode(p) for p in case["proof"] or ()]
        index, size = case["leafIdx"], case["treeSize"]
        value, last = base64.b64decode(case["leafHash"]), size - 1
        for node in proof:
            while not index & 1 and index == last:
                index, last = index >> 1, last >> 1
            value = merkle.node_hash(node, value) if index & 1 else merkle.node_hash(value, node)
            index, last = index >> 1, last >> 1
        assert value == base64.b64decode(case["root"]), path.parent.name


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_root_is_that_of_the_definition(entries: list[bytes]) -> None:
    assert merkle.tree_hash(entries) == by_definition(entries)


@given(st.integers(0, 300), st.lists(st.integers(0, 300), max_size=12))
def test_any_division_into_ranges_gives_the_same_root(size: int, cuts: list[int]) -> None:
    entries = [n.to_bytes(4) for n in range(size)]
    edges = [0, *sorted(c for c in cuts if c <= size), size]
    whole = merkle.Range(0)
    for start, end in itertools.pairwise(edges):
        part = merkle.Range(start)
        for entry in entries[start:end]:
            part.append(merkle.leaf_hash(entry))
        whole.join(merkle.Range(part.start, part.nodes, part.end))
    assert (whole.end, whole.root()) == (size, merkle.tree_hash(entries))


@given(st.integers(1, 200), st.integers(0, 199))
def test_any_other_leaf_gives_another_root(size: int, at: int) -> None:
    entries = [n.to_bytes(4) for n in range(size)]
    root = merkle.tree_hash(entries)
    entries[at % size] += b"!"
    assert merkle.tree_hash(entries) != root


def test_ranges_that_do_not_meet_are_refused() -> None:
    for start in (0, 2):
        with pytest.raises(MalformedError, match="do not meet"):
            merkle.Range(0, [(0, 0, bytes(32))], 1).join(merkle.Range(start))
    with pytest.raises(MalformedError, match="starts at 0"):
        merkle.Range(1).root()
