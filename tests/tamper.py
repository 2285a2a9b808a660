"""Sealed captures to break: what tests of the verifier share. Taking apart and putting together: `make_samples`."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from made import KEY, Maker, answer, chunked
from make_samples import Sealed, members, put_together, take_apart

from mirror.formats import dsse, gz, statement
from mirror.store import home, secrets
from mirror.store.secrets import SecretKey
from mirror.verify import verifier
from mirror.verify.policy import TrustPolicy
from mirror.verify.verdict import Claim, Verdict

PAGE = "https://example.vn/tin"
SEALED = frozenset({Claim.INTACT, Claim.SEALED})
STRANGER = secrets.generate("stranger")


def trust(*keys: SecretKey, threshold: int = 1, require: Iterable[Claim] = SEALED) -> TrustPolicy:
    """A reader's trust in `keys`, in the tests' own key when none is named."""
    known = {key.keyid: key.verifier for key in keys or (KEY,)}
    return TrustPolicy(source="test", require=frozenset(require), threshold=threshold, keys=known)


TRUST = trust()


def capture_file(folder: Path) -> Path:
    """A small real capture: a page, its chunked frame, a picture twice (the second is a revisit)."""
    picture = bytes(range(256)) * 2
    exchanges = [
        answer(PAGE, b"<p>" + "Đồng Tâm ".encode() * 30, extra="Set-Cookie: a=1\r\nX-Request-Id: 9\r\n"),
        chunked(PAGE + "/frame", [b"<p>mot</p>", b"<p>hai</p>"]),
        answer(PAGE + "/1.png", picture, mime="image/png"),
        answer(PAGE + "/2.png", picture, mime="image/png"),
    ]
    return Maker(home.create(folder / "home")).capture(PAGE, exchanges)


def verdict(folder: Path, data: bytes, policy: TrustPolicy = TRUST, **options: object) -> Verdict:
    path = folder / "examined.warc.gz"
    path.write_bytes(data)
    return verifier.verify(path, policy, **options)


def failing(found: Verdict) -> list[str]:
    """The named verdicts of the checks that failed, each once."""
    return sorted({c.name.value for c in found.checks if c.status.value == "failed" and c.name})


def signed(sealed: Sealed, *keys: SecretKey) -> Sealed:
    """Sealed again by `keys`, which the statement names."""
    keyids = tuple(sorted(k.keyid for k in keys))
    seal = replace(sealed.seal, signers=keyids)
    message = dsse.pae(dsse.IN_TOTO, statement.encode(seal))
    return replace(sealed, seal=seal, signatures=tuple(dsse.Signature(k.keyid, k.sign(message)) for k in keys))


def closed(front: list[bytes], seal_member: bytes) -> bytes:
    """Members as they are, and the seal's member with the checksum that fits them."""
    start = b"".join(front)
    return start + gz.closing(gz.isal_zlib.decompressobj(31).decompress(seal_member), gz.crc32(start, 0))


def limited(program: str, *arguments: object, seconds: float = 60, memory: int = 0) -> str:
    """Run a Python program in a fresh interpreter; `memory`: bytes of address space it may have. Returns its stdout."""

    def before() -> None:
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True, text=True, timeout=seconds, preexec_fn=before,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


__all__ = [
    "KEY", "PAGE", "STRANGER", "TRUST", "Sealed", "capture_file", "closed", "failing", "limited", "members",
    "put_together", "signed", "take_apart", "trust", "verdict",
]  # fmt: skip
