"""A server that waits 50 ms before each answer: throughput of many captures, and how long one takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bench_capture
import newspaper
from measure import Row, child, interleaved, median, row, told
from workplace import Work

PAGES = 400
AT_ONCE = 16
CONNECTIONS = 64
RUNS = 30
FLOOR_S = 2 * newspaper.LATENCY_S  # the page, then what it needs
_HERE = Path(__file__).parent


def run(work: Work, rounds: int, only: str = "") -> tuple[list[Row], Any]:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    with work.server():
        if only in "many":
            found, details["many"] = _many(work, rounds)
            rows += found
        for name, port, goal in (("http", newspaper.SLOW, 1.3), ("tls", newspaper.TLS_SLOW, 1.5)):
            if only in name:
                found, details[name] = _one(work, name, port, goal, rounds)
                rows += found
    return rows, details


def _many(work: Work, rounds: int) -> tuple[list[Row], Any]:
    found = interleaved(
        {
            "mirror": lambda: bench_capture.mirror(
                work, newspaper.SLOW, PAGES, at_once=AT_ONCE, connections=CONNECTIONS
            ),
            "aiohttp fetch": lambda: bench_capture.aiohttp(
                work, newspaper.SLOW, PAGES, at_once=AT_ONCE, connections=CONNECTIONS
            ),
        },
        rounds,
    )
    bound = CONNECTIONS / newspaper.LATENCY_S / newspaper.REQUESTS
    speed = {name: median(samples, "pages_s") for name, samples in found.items()}
    rows = [
        row("50 ms, 64 connections: the latency bound", speed["mirror"], bound, speed["mirror"] / bound,
            unit="pages/s", at_least=0.88),
        row("50 ms, 64 connections: fetching and throwing away / the bound", speed["aiohttp fetch"], bound,
            speed["aiohttp fetch"] / bound, unit="pages/s"),
    ]  # fmt: skip
    return rows, {k: {f: median(v, f) for f in ("cpu_ms", "pages_s", "requests")} for k, v in found.items()}


def _one(work: Work, name: str, port: int, goal: float, rounds: int) -> tuple[list[Row], Any]:
    """New connections each time; the index and the process stand ready."""

    def mirror() -> Any:
        with work.folder() as folder:
            command = [sys.executable, _HERE / "client_mirror.py", "--home", work.home(folder / "home"), "--cold"]
            return told(child([*command, *common], env=work.environment(), keep_output=True))

    def fetch() -> Any:
        command = [sys.executable, _HERE / "client_aiohttp.py", "--cold", *common]
        return told(child(command, env=work.environment(), keep_output=True))

    common = ["--base", newspaper.base(port), "--count", str(RUNS)]
    found = interleaved({"mirror": mirror, "aiohttp fetch": fetch}, rounds)
    ours, fetched = median(found["mirror"], "p50") * 1000, median(found["aiohttp fetch"], "p50") * 1000
    floor = FLOOR_S * 1000
    title = f"report to sealed, {name}"
    rows = [
        row(f"{title}: the floor", ours, floor, ours / floor, unit="ms p50", at_most=goal),
        row(f"{title}: fetching and throwing away", ours, fetched, ours / fetched, unit="ms p50"),
    ]
    return rows, {k: {f: median(v, f) for f in v[0]} for k, v in found.items()}
