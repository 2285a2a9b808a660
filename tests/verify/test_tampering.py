"""Whatever is changed in a sealed file by chance is never verified, and never ends in a traceback."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

import pytest
import tamper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import Maker, answer
from tamper import PAGE, TRUST, members

from mirror.store import home
from mirror.verify import verifier
from mirror.verify.verdict import Outcome

BROKEN = (Outcome.REFUTED, Outcome.MALFORMED)


@pytest.fixture(scope="module")
def sealed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    maker = Maker(home.create(tmp_path_factory.mktemp("sealed") / "home"))
    return maker.capture(PAGE, [answer(PAGE, b"<p>" + "Đồng Tâm ".encode() * 40, extra="Set-Cookie: a=1\r\n")])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_flipped_bit_is_verified(sealed_file: Path, tmp_path: Path) -> None:
    data = sealed_file.read_bytes()
    examined = tmp_path / "flipped.warc.gz"
    examined.write_bytes(data)
    fd = os.open(examined, os.O_RDWR)
    for at, byte in enumerate(data):
        for bit in range(8):
            os.pwrite(fd, bytes([byte ^ 1 << bit]), at)
            outcome = verifier.verify(examined, TRUST).outcome
            assert outcome in BROKEN, f"bit {bit} of byte {at}: {outcome}"
        os.pwrite(fd, bytes([byte]), at)
    os.close(fd)
    assert verifier.verify(examined, TRUST).outcome is Outcome.VERIFIED


@pytest.mark.slow
def test_no_length_but_the_whole_is_verified(sealed_file: Path, tmp_path: Path) -> None:
    data = sealed_file.read_bytes()
    examined = tmp_path / "cut.warc.gz"
    examined.write_bytes(data)
    for size in range(len(data) - 1, -1, -1):
        os.truncate(examined, size)
        assert verifier.verify(examined, TRUST).outcome is Outcome.MALFORMED, size


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, float, float, bytes]:
    kind = draw(st.sampled_from(["flip", "drop", "double", "swap", "cut", "insert", "overwrite"]))
    place = st.floats(0, 1, exclude_max=True)
    return kind, draw(place), draw(place), draw(st.binary(min_size=1, max_size=40))


def mutated(data: bytes, kind: str, a: float, b: float, new: bytes, *, whole: bool) -> bytes:
    """`whole`: of gzip members; else of bytes."""
    parts = members(data) if whole else [data[n : n + 1] for n in range(len(data))]
    i, j = sorted((int(a * len(parts)), int(b * len(parts))))
    if kind == "flip":
        parts[i] = bytes([parts[i][0] ^ (new[0] or 1), *parts[i][1:]])
    elif kind == "drop":
        del parts[i : j + 1]
    elif kind == "double":
        parts[j:j] = parts[i : j + 1]
    elif kind == "swap":
        parts[i], parts[j] = parts[j], parts[i]
    elif kind == "cut":
        del parts[i:]
    elif kind == "insert":
        parts.insert(i, new)
    else:
        parts[i : i + len(new)] = [new]
    return b"".join(parts)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(mutations(), min_size=1, max_size=3), whole=st.booleans())
def test_no_change_is_verified(sealed_file: Path, changes: list[tuple[str, float, float, bytes]], whole: bool) -> None:
    data = changed = sealed_file.read_bytes()
    for kind, a, b, new in changes:
        if changed:
            try:
                changed = mutated(changed, kind, a, b, new, whole=whole)
            except zlib.error:  # an earlier change broke the members
                changed = mutated(changed, kind, a, b, new, whole=False)
    if changed != data:
        found = tamper.verdict(sealed_file.parent, changed)
        if found.outcome not in BROKEN:  # what is left may be no capture at all: an unsealed record
            assert found.outcome is Outcome.NOT_PROVEN and found.facts["records"] < len(members(data))


def test_no_change_of_inflated_records_is_verified(sealed_file: Path, tmp_path: Path) -> None:
    """Changes within records, compressed again, with every gzip checksum and the file's own renewed."""
    sealed = tamper.take_apart(sealed_file.read_bytes())
    chance = random.Random(11)
    for _ in range(400):
        records = [bytearray(r) for r in sealed.records]
        record = chance.choice(records)
        at = chance.randrange(len(record))
        new = bytes(chance.randrange(256) for _ in range(chance.choice((1, 1, 4))))
        kind = chance.choice(("overwrite", "insert", "drop"))
        before = bytes(record)
        record[at : at + (0 if kind == "insert" else len(new))] = b"" if kind == "drop" else new
        if bytes(record) != before:
            changed = tamper.put_together(tamper.replace(sealed, records=tuple(map(bytes, records))))
            assert tamper.verdict(tmp_path, changed).outcome in BROKEN
