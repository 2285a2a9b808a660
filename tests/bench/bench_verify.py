"""Verify: sealed archives and unsealed ones, against `fastwarc check` and `warcio check`, on one and two processes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from measure import Row, child, compare, interleaved, median, peak_memory, row, say, warm
from workplace import Work

MEMORY_MIB = 100


def run(work: Work, rounds: int, only: str = "") -> tuple[list[Row], Any]:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for name, goals in (("mixed", _MIXED), ("small", _SMALL)):
        if only in name:
            found, detail = _corpus(work, name, goals, rounds)
            rows += found
            details[name] = detail
    return rows, details


_MIXED = {"sealed": 1.2, "deep": 0.75, "unsealed": 0.9, "wall": 1.6, "warcio": 3.5}
_SMALL = {"sealed": 0.7, "deep": 0.75, "unsealed": 0.9, "wall": 1.6, "warcio": 7.0}


def _corpus(work: Work, name: str, goals: dict[str, float], rounds: int) -> tuple[list[Row], Any]:
    plain, (sealed, trust) = work.corpus(name), work.sealed(name)
    verify = [*work.mirror, "verify", "-q"]
    trusted, nobody = ["--trust", str(trust)], ["--no-trust"]
    fastwarc = [work.peer("fastwarc"), "check", "-p", "-q"]
    warcio = [work.peer("warcio"), "check"]
    for path in (plain, sealed):
        warm(path)
    _check_verdict(work, sealed, trust)
    contenders = {
        "sealed": [*verify, "--jobs", "1", *trusted, sealed],
        "sealed, 2 processes": [*verify, "--jobs", "2", *trusted, sealed],
        "sealed --deep": [*verify, "--jobs", "1", "--deep", *trusted, sealed],
        "sealed --deep, 2 processes": [*verify, "--jobs", "2", "--deep", *trusted, sealed],
        "fastwarc check, sealed": [*fastwarc, sealed],
        "warcio check, sealed": [*warcio, sealed],
        "unsealed": [*verify, "--jobs", "1", *nobody, plain],
        "unsealed, 2 processes": [*verify, "--jobs", "2", *nobody, plain],
        "fastwarc check": [*fastwarc, plain],
        "warcio check": [*warcio, plain],
    }
    found = interleaved({k: partial(child, words, good=_GOOD) for k, words in contenders.items()}, rounds)
    ours, peer = found["sealed"], found["fastwarc check, sealed"]
    both = found["sealed, 2 processes"]
    rows = [
        compare(f"verify {name}: sealed / fastwarc, CPU", ours, peer, "cpu", unit="s", at_least=goals["sealed"]),
        compare(f"verify {name}: --deep / fastwarc, CPU", found["sealed --deep"], peer, "cpu", unit="s",
                at_least=goals["deep"]),
        compare(f"verify {name}: unsealed / fastwarc, CPU", found["unsealed"], found["fastwarc check"], "cpu",
                unit="s", at_least=goals["unsealed"]),
        compare(f"verify {name}: two cores / fastwarc, wall", both, peer, "wall", unit="s", at_least=goals["wall"]),
        compare(f"verify {name}: two cores / warcio, wall", both, found["warcio check, sealed"], "wall", unit="s",
                at_least=goals["warcio"]),
    ]  # fmt: skip
    say("  memory of all processes together …")
    peaks = {k: peak_memory(contenders[k]) for k in ("sealed", "sealed, 2 processes", "unsealed, 2 processes")}
    worst = max(peaks.values())
    rows.append(row(f"verify {name}: peak memory", worst, MEMORY_MIB, worst / MEMORY_MIB, unit="MiB", at_most=1))
    detail = {k: {"cpu": median(v, "cpu"), "wall": median(v, "wall")} for k, v in found.items()}
    sizes = {"sealed_bytes": sealed.stat().st_size, "plain_bytes": plain.stat().st_size}
    return rows, {"runs": detail, "peak_memory_mib": peaks, **sizes}


_GOOD = (0, 4)  # what nobody sealed is not proven: exit status 4


def _check_verdict(work: Work, path: Path, trust: Path) -> None:
    done = child([*work.mirror, "verify", "--json", "--trust", trust, path], keep_output=True)
    assert json.loads(done["output"])["verdict"] == "VERIFIED", done["output"]
