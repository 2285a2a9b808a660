"""Verifier keys of signed notes (C2SP signed-note, "Verifier keys"), Ed25519 only.

    <name>+<8 hex digits: key hash>+<base64(0x01 || 32 bytes: public key)>
    key hash = first 4 bytes of SHA-256(name || 0x0A || 0x01 || public key)

The key id of our DSSE envelopes is a different thing: `keyid`, over the raw public key.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass

from mirror.errors import LimitError, MalformedError

ED25519 = 0x01
MAX_LENGTH = 1024  # characters of one verifier key; real ones have about 80

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_ORDER_8_Y = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
# The y coordinates of the eight points whose order divides 8; with them one signature can fit every message.
_LOW_ORDER_Y = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})
_HEX8 = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public Ed25519 key with the name it signs under; `key_hash` is 4 bytes, `public` 32."""

    name: str
    key_hash: bytes
    public: bytes

    @property
    def keyid(self) -> str:
        return keyid(self.public)

    def format(self) -> str:
        """Return the one-line text form, without a newline; `parse` gives the same value back."""
        key = binascii.b2a_base64(bytes([ED25519]) + self.public, newline=False).decode("ascii")
        return f"{self.name}+{self.key_hash.hex()}+{key}"


def make(name: str, public: bytes) -> VerifierKey:
    """Return the verifier key of `public` (32 bytes) under `name`; raises `MalformedError` if either is refused."""
    check_name(name)
    check_public(public)
    return VerifierKey(name=name, key_hash=key_hash(name, public), public=public)


def parse(text: str) -> VerifierKey:
    """Read one verifier key, without surrounding white space.

    Raises `MalformedError` (`LimitError` if longer than `MAX_LENGTH`) for another algorithm, a key hash that does not
    match, base64 that is not canonical, and keys that `check_public` refuses.
    """
    if len(text) > MAX_LENGTH:
        raise LimitError(f"longer than {MAX_LENGTH} characters; a verifier key is one short line", "verifier key")
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise MalformedError("expected <name>+<8 hex digits>+<base64>", "verifier key")
    name, hash_hex, key_b64 = parts
    check_name(name)
    if not _HEX8.fullmatch(hash_hex):
        raise MalformedError("the key hash is not 8 lower-case hex digits", "verifier key")
    try:
        typed = binascii.a2b_base64(key_b64.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as e:
        raise MalformedError("the key is not base64", "verifier key") from e
    if binascii.b2a_base64(typed, newline=False).decode("ascii") != key_b64:
        raise MalformedError("the key's base64 is not canonical", "verifier key")
    if len(typed) != 33 or typed[0] != ED25519:
        raise MalformedError("not an Ed25519 key (expected type 0x01 and 32 bytes)", "verifier key")
    public = typed[1:]
    if key_hash(name, public).hex() != hash_hex:
        raise MalformedError("the key hash does not belong to this name and key", "verifier key")
    check_public(public)
    return VerifierKey(name=name, key_hash=bytes.fromhex(hash_hex), public=public)


def parse_file(data: bytes, place: str = "verifier key") -> VerifierKey:
    """Read a `.vkey` file: one key in ASCII or UTF-8, at most one newline after it; `place` names it in errors."""
    if len(data) > 4 * MAX_LENGTH:
        raise LimitError("too large for a file of one verifier key", place)
    try:
        return parse(data.decode("utf-8").removesuffix("\n"))
    except UnicodeDecodeError as e:
        raise MalformedError("not UTF-8 text", place) from e
    except MalformedError as e:
        raise type(e)(str(e), place) from e


def key_hash(name: str, public: bytes) -> bytes:
    """Return the 4 bytes that stand before every signature of this key (signed-note, "Signatures")."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + bytes([ED25519]) + public).digest()[:4]


def keyid(public: bytes) -> str:
    """Return the key id of our DSSE envelopes: lower-case hex SHA-256 of the 32 raw public key bytes."""
    return hashlib.sha256(public).hexdigest()


def check_name(name: str) -> None:
    """Refuse key names that are empty or hold white space, a plus, or anything that does not print."""
    if not name or "+" in name or " " in name or not name.isprintable():
        raise MalformedError("a key's name is printable text without spaces and without +", "verifier key")


def check_public(public: bytes) -> None:
    """Refuse public keys that are not 32 bytes, not canonical, not on the curve, or of low order (RFC 8032 §5.1.3).

    Raises `MalformedError`. Keys of mixed order pass, as they do in RFC 8032 verification.
    """
    if len(public) != 32:
        raise MalformedError(f"an Ed25519 public key has 32 bytes, not {len(public)}", "public key")
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _P:
        raise MalformedError("the Ed25519 key is not in canonical form", "public key")
    if y in _LOW_ORDER_Y:  # includes both points with x = 0, whose sign bit would be ambiguous
        raise MalformedError("the Ed25519 key is of low order and proves nothing", "public key")
    # x² = (y² − 1) / (d y² + 1); a/b is a square exactly when a·b is. The denominator is never zero.
    yy = y * y % _P
    if pow((yy - 1) * (_D * yy + 1) % _P, (_P - 1) // 2, _P) != 1:
        raise MalformedError("the Ed25519 key is not a point of the curve", "public key")
