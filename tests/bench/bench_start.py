"""Cold start: what a person waits before the command does anything, against an interpreter that does nothing."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Row, Sample, child, compare, interleaved, median
from workplace import Work

RUNS = 20
MOST = 5.0


def run(work: Work, rounds: int, only: str = "") -> tuple[list[Row], Any]:
    del rounds, only
    with work.folder() as folder:
        archive, trust = _small_archive(work, folder)
        contenders: dict[str, list[str | Path]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "mirror --help": [*work.mirror, "--help"],
            "mirror verify": [*work.mirror, "verify", "--trust", trust, archive],
        }
        found = interleaved({name: _runner(words) for name, words in contenders.items()}, RUNS)
    nothing = found["python -c pass"]
    rows = [
        compare(f"cold start: {name}, {key}", found[name], nothing, key, unit="s",
                at_most=MOST if key == "wall" else None)
        for name in ("mirror --help", "mirror verify") for key in ("wall", "cpu")
    ]  # fmt: skip
    return rows, {name: {f: median(v, f) for f in ("wall", "cpu")} for name, v in found.items()}


def _runner(words: list[str | Path]) -> Callable[[], Sample]:
    return lambda: child(words)


def _small_archive(work: Work, folder: Path) -> tuple[Path, Path]:
    """A capture of a page of 10 kB, and the keys of its home."""
    home = work.home(folder / "home")
    with work.server():
        source = work.root / "site" / "p" / f"{random.Random(1).randrange(1000):05d}.html"
        (work.root / "site" / "small.html").write_bytes(source.read_bytes()[:200] + b"</title></head><body>x</body>")
        command = [*work.mirror, "save", "--home", str(home), "--no-text", "--allow-private-hosts", "--json"]
        done = child([*command, "http://127.0.0.1:8081/small.html"], keep_output=True)
    path = folder / "small.warc.gz"
    shutil.copy(json.loads(done["output"])["path"], path)
    return path, home / "keys"
