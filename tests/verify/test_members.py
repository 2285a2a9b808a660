"""Where gzip members end: what hides in a header is found, and what a server sends cannot make a member seem to end."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from made import KEY, Maker, answer
from make_samples import members, put_together
from tamper import PAGE, STRANGER, TRUST, capture_file, closed, failing, signed, take_apart, verdict

from mirror.formats import dsse, gz, segments
from mirror.model import Exchange
from mirror.record import _cut_head
from mirror.store import home
from mirror.verify.verdict import Outcome


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(content) + packer.flush()
    return gz.HEADER + body + zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")


def _inflated(member: bytes) -> bytes:
    return zlib.decompress(member, 31)


def test_bytes_hidden_in_a_member_header_are_malformed(tmp_path: Path) -> None:
    first, second, *rest, seal = members(capture_file(tmp_path).read_bytes())
    size = len(_inflated(first)).to_bytes(4, "little")
    hidden = _deflated(b"WARC/1.1\r\nWARC-Type: resource\r\nContent-Length: 6\r\n\r\nFORGED\r\n\r\n") + size + gz.HEADER
    field = b"XX" + len(hidden).to_bytes(2, "little") + hidden
    header = gz.HEADER[:3] + b"\x04" + gz.HEADER[4:] + len(field).to_bytes(2, "little") + field
    carrier = header + _deflated(_inflated(second))[len(gz.HEADER) :]
    assert _inflated(carrier) == _inflated(second)
    found = verdict(tmp_path, closed([_deflated(_inflated(first)), carrier, *rest], seal))
    assert (found.outcome, failing(found)) == (Outcome.MALFORMED, ["MALFORMED"])


@pytest.mark.parametrize("text", [0, 4000, 100_000])
@pytest.mark.parametrize("noise", [2000, 100_000, 900_000])
def test_body_that_looks_like_the_end_of_its_member_is_verified(tmp_path: Path, text: int, noise: int) -> None:
    maker, source = Maker(home.create(tmp_path / "home")), random.Random(3)
    body = b"tin " * (text // 4) + source.randbytes(noise // 2)
    plain = maker.capture(PAGE, [answer(PAGE, body + bytes(14) + source.randbytes(noise // 2))])
    size = max(len(_inflated(member)) for member in members(plain.read_bytes()))
    trap = size.to_bytes(4, "little") + gz.HEADER
    full = body + trap + random.Random(4).randbytes(noise // 2)
    made = maker.capture(PAGE, [answer(PAGE, full)])
    assert max(len(_inflated(member)) for member in members(made.read_bytes())) == size
    assert verdict(tmp_path, made.read_bytes(), deep=True).outcome is Outcome.VERIFIED


def test_server_cannot_fill_the_opening_with_header_lines(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + b"etag:\r\n" * 30_000 + b"\r\n"
    assert len(_cut_head(head)) < 200
    flood = Exchange(url=PAGE, request=b"GET / HTTP/1.1\r\n\r\n", head=head, body=[b"x"], body_size=1, status=200)
    path = Maker(home.create(tmp_path / "home")).capture(PAGE, [flood])
    assert verdict(tmp_path, path.read_bytes()).outcome is Outcome.VERIFIED


def test_opening_holds_four_bytes_a_record() -> None:
    opening = segments.Opening(segments.write_opening(bytes(32), [[10, 20], [30], [1] * 500]))
    assert [opening.cut(n) for n in range(len(opening))] == [[10, 20], [30], [1] * 500]


def test_further_signers_are_named_as_not_checked(tmp_path: Path) -> None:
    sealed = take_apart(capture_file(tmp_path).read_bytes())
    two = signed(sealed, KEY, STRANGER)
    found = verdict(tmp_path, put_together(two), TRUST)
    assert found.outcome is Outcome.VERIFIED
    assert "1 more by keys that this reader's trust does not name, not checked" in found.headline
    short = tuple(
        dsse.Signature(s.keyid, s.sig[:63]) if s.keyid == STRANGER.keyid else s for s in two.signatures
    )  # no signature at all
    found = verdict(tmp_path, put_together(replace(two, signatures=short)), TRUST)
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["SEAL-INVALID"])
