"""Several processes on one file say what one says, wherever the file is divided."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tamper
from made import KEY, Maker, answer
from make_samples import put_together, take_apart
from tamper import PAGE, TRUST

from mirror.cli import workers
from mirror.formats import gz, warc
from mirror.store import home
from mirror.verify import container, content, verifier
from mirror.verify.verdict import Outcome, Verdict

SIZE = verifier.PARALLEL_FROM


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = random.Random(3)
    exchanges = [
        answer(f"{PAGE}/{n}.jpg", chance.randbytes(chance.choice((300, 40_000, 3 << 20))), mime="image/jpeg")
        for n in range(34)
    ]
    exchanges.append(answer(f"{PAGE}/big.mp4", chance.randbytes(6 << 20), mime="video/mp4"))
    path = Maker(home.create(tmp_path_factory.mktemp("large") / "home")).capture(PAGE, exchanges)
    assert path.stat().st_size > SIZE
    return path


@pytest.fixture(scope="module")
def misleading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bodies are gzip members of WARC records, with ids that seem to say where they stand."""
    ids = warc.RecordIds(bytes(12))
    chance = random.Random(5)

    def body(size: int) -> bytes:
        parts: list[bytes] = []
        for _ in range(size // 1050):
            record = f"WARC/1.1\r\nWARC-Type: resource\r\nWARC-Record-ID: {ids[chance.randrange(90)]}\r\n".encode()
            parts.append(b"".join(gz.stored([record + chance.randbytes(900)])))
        return b"".join(parts)

    exchanges = [answer(f"{PAGE}/{n}.gz", body(5 << 20), mime="application/gzip") for n in range(7)]
    path = Maker(home.create(tmp_path_factory.mktemp("misleading") / "home")).capture(PAGE, exchanges)
    assert path.stat().st_size > SIZE
    return path


def _both(path: Path, jobs: int = 2, **options: bool) -> tuple[Verdict, Verdict]:
    return (
        verifier.verify(path, TRUST, **options),
        verifier.verify(path, TRUST, runner=workers.runner(jobs), **options),
    )


@pytest.mark.parametrize("deep", [False, True])
def test_several_processes_say_what_one_says(large: Path, deep: bool) -> None:
    one, several = _both(large, deep=deep)
    assert one.outcome is Outcome.VERIFIED
    assert one == several


def test_file_is_really_divided(large: Path) -> None:
    seen: list[int] = []

    def check(path: Path, jobs: Sequence[content.Job], opening: bytes) -> list[content.RangeResult]:
        seen.append(len(jobs))
        return verifier.HERE.check(path, jobs, opening)

    runner = verifier.Runner(jobs=8, check=check, scan=verifier.HERE.scan)
    assert verifier.verify(large, TRUST, runner=runner).outcome is Outcome.VERIFIED
    assert len(seen) == 1 and seen[0] > 3


def test_wrong_guesses_where_to_divide_change_nothing(misleading: Path) -> None:
    with misleading.open("rb") as file:
        guesses = container.split(file.fileno(), 0, SIZE, 8)
    assert len(guesses) > 3
    one, several = _both(misleading)
    assert one.outcome is Outcome.VERIFIED
    assert one == several


def test_broken_large_files_are_judged_alike(large: Path, tmp_path: Path) -> None:
    data = large.read_bytes()
    sealed = take_apart(data)
    middle = len(sealed.records) // 2
    records = list(sealed.records)
    records[middle] = records[middle][:-9] + b"x" + records[middle][-8:]
    records[3], records[5] = records[5], records[3]
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for changed in (
        put_together(replace(sealed, records=tuple(records))), bytes(flipped), data[: len(data) * 3 // 4], data + b"\0",
    ):  # fmt: skip
        path = tmp_path / "broken.warc.gz"
        path.write_bytes(changed)
        one, several = _both(path)
        assert one.outcome in (Outcome.REFUTED, Outcome.MALFORMED)
        assert (one.outcome, tamper.failing(one)) == (several.outcome, tamper.failing(several))


def test_unsealed_large_files_are_judged_alike(large: Path, misleading: Path, tmp_path: Path) -> None:
    for source in (large, misleading):
        sealed = take_apart(source.read_bytes())
        path = tmp_path / "unsealed.warc.gz"
        path.write_bytes(b"".join(b"".join(gz.stored([record])) for record in sealed.records[1:]))
        one, several = _both(path)
        assert one.outcome is Outcome.NOT_PROVEN
        assert one == several


def test_key_of_these_files_is_the_trusted_one() -> None:
    assert set(TRUST.keys) == {KEY.keyid}
