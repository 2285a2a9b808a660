"""The reader's own trust: which keys count, and what must be shown before Mirror says VERIFIED.

A trust folder holds `trust.toml` and the `*.vkey` files (C2SP signed-note verifier keys) that it names:

    version = 1
    require = ["intact", "sealed"]      # also: logged, witnessed, not-after, not-before
    [seal]
    threshold = 1
    keys = ["mirror-seal-1a2b3c4d"]

Trust never comes from the file under examination.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.errors import HomeError, MalformedError
from mirror.formats import vkey
from mirror.verify.verdict import Claim

MAX_KEYS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """`keys`: keyid → key. Requiring nothing is allowed and never gives VERIFIED."""

    source: str = "no trust given"
    require: frozenset[Claim] = frozenset({Claim.INTACT, Claim.SEALED})
    threshold: int = 1
    keys: Mapping[str, vkey.VerifierKey] = field(default_factory=dict)


NO_TRUST = TrustPolicy()
"""What holds without a trust folder: nobody is trusted."""


def load(folder: Path) -> TrustPolicy:
    """Read a trust folder. Raises `HomeError` when it has no trust.toml, `MalformedError` when one is wrong."""
    import tomllib  # only where a policy is read: the verifier's start stays short

    path = folder / "trust.toml"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise HomeError(f"{folder} has no trust.toml; name a folder with one: --trust DIR") from None
    except (OSError, UnicodeDecodeError) as e:
        raise HomeError(f"{path} cannot be read: {e}") from e
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise MalformedError(str(e), str(path)) from e
    return _policy(document, folder, str(path))


def _policy(document: dict[str, Any], folder: Path, place: str) -> TrustPolicy:
    unknown = set(document) - {"version", "require", "seal"}
    if unknown or document.get("version") != 1:
        raise MalformedError(f"unknown keys or version: {', '.join(sorted(unknown)) or document.get('version')}", place)
    seal = document.get("seal", {})
    if type(seal) is not dict or type(document.get("require", [])) is not list:
        raise MalformedError("[seal] is a table and require is a list of names", place)
    names, threshold = seal.get("keys", []), seal.get("threshold", 1)
    if set(seal) - {"keys", "threshold"} or type(threshold) is not int or threshold < 1:
        raise MalformedError("[seal] takes keys and a threshold of at least 1", place)
    if type(names) is not list or len(names) > MAX_KEYS or not all(type(n) is str for n in names):
        raise MalformedError("[seal] keys is a list of names", place)
    try:
        require = frozenset(Claim(c) for c in document.get("require", []))
    except (ValueError, TypeError) as e:
        raise MalformedError(f"require: {e}; possible: {', '.join(c.value for c in Claim)}", place) from e
    keys = {}
    for name in names:
        key = _key(folder, name, place)
        keys[vkey.keyid(key.public)] = key
    if threshold > max(1, len(keys)):
        raise MalformedError(f"threshold {threshold} is above the {len(keys)} distinct keys", place)
    return TrustPolicy(source=str(folder), require=require, threshold=threshold, keys=keys)


def _key(folder: Path, name: str, place: str) -> vkey.VerifierKey:
    if "/" in name or name.startswith(".") or not name.isprintable():
        raise MalformedError(f"{name!r} is not the name of a key beside this file", place)
    path = folder / f"{name}.vkey"
    try:
        return vkey.parse(path.read_text("ascii").strip())
    except (OSError, UnicodeDecodeError) as e:
        raise HomeError(f"the key {path} named in {place} cannot be read: {e}") from e
