"""Merkle tree hash of RFC 6962 §2.1, and ranges of it that several processes compute side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from mirror.errors import MalformedError

Node = tuple[int, int, bytes]  # (level, index at that level, hash)


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def tree_hash(entries: Sequence[bytes]) -> bytes:
    """MTH of a list of entries; the empty list gives SHA-256 of nothing."""
    tree = Range(0)
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree.root()


class Range:
    """The fewest nodes that cover the leaves [start, end) of a tree (compact range).

    Ranges that follow each other join, so the root of millions of leaves needs a few dozen hashes of memory.
    """

    __slots__ = ("end", "nodes", "start")

    def __init__(self, start: int, nodes: Iterable[Node] = (), end: int | None = None) -> None:
        self.start = start
        self.end = start if end is None else end
        self.nodes: list[Node] = list(nodes)

    def append(self, leaf: bytes) -> None:
        """Add the hash of leaf number `end`."""
        self._push(0, self.end, leaf)
        self.end += 1

    def _push(self, level: int, index: int, value: bytes) -> None:
        nodes = self.nodes
        while nodes and index & 1 and nodes[-1][0] == level:
            value = sha256(b"\x01" + nodes.pop()[2] + value).digest()
            level += 1
            index >>= 1
        nodes.append((level, index, value))

    def join(self, following: Range) -> None:
        """Add the range that starts where this one ends."""
        if following.start != self.end:
            raise MalformedError(f"ranges do not meet: {self.end} and {following.start}")
        for level, index, value in following.nodes:
            self._push(level, index, value)
        self.end = following.end

    def root(self) -> bytes:
        """The tree hash of leaves [0, end)."""
        if self.start != 0:
            raise MalformedError("only a range that starts at 0 has a root")
        if not self.nodes:
            return sha256(b"").digest()
        value = self.nodes[-1][2]
        for _, _, left in reversed(self.nodes[:-1]):
            value = sha256(b"\x01" + left + value).digest()
        return value
