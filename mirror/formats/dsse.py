"""DSSE envelopes, v1 (secure-systems-lab/dsse): what is signed is the PAE, never the JSON.

Mirror accepts one serialisation only, the one `encode` writes: no white space, keys in this order, signatures sorted
by keyid, padded standard base64. Two readings of one envelope are then impossible.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass

from mirror.errors import LimitError, MalformedError

IN_TOTO = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
MAX_ENVELOPE = 1 << 20
_KEYID = re.compile(r"[0-9a-f]{64}")


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Signature:
    """`keyid` = lower-case hex SHA-256 of the raw Ed25519 public key; `sig` = 64 bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type, and the signatures over `pae`."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @property
    def pae(self) -> bytes:
        return pae(self.payload_type, self.payload)


def encode(envelope: Envelope) -> bytes:
    """The one JSON serialisation of an envelope."""
    document = {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": [
            {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode()}
            for s in sorted(envelope.signatures, key=lambda s: s.keyid)
        ],
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def decode(text: bytes) -> Envelope:
    """Parse an envelope. Raises `MalformedError` when `encode` would not have written exactly these bytes."""
    if len(text) > MAX_ENVELOPE:
        raise LimitError("larger than 1 MiB", "envelope")
    try:
        document = json.loads(text)
        signatures = tuple(
            Signature(s["keyid"], base64.b64decode(s["sig"], validate=True)) for s in document["signatures"]
        )
        envelope = Envelope(base64.b64decode(document["payload"], validate=True), document["payloadType"], signatures)
        same = encode(envelope) == text
    except (ValueError, binascii.Error, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise MalformedError("not a DSSE envelope", "envelope") from e
    if not same:
        raise MalformedError("not in the canonical serialisation", "envelope")
    keyids = [s.keyid for s in signatures]
    if not all(type(k) is str and _KEYID.fullmatch(k) for k in keyids) or not 1 <= len(set(keyids)) == len(keyids):
        raise MalformedError("signatures need distinct keyids of 64 hex digits, at least one", "envelope")
    return envelope
