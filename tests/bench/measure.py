"""Measuring child processes, and what came of it against a goal.

Contenders run in turn (A B C A B C …) so that a busy minute of the machine meets all of them. CPU seconds are user and
system time of a process and of all it started; a ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Sample = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table: `goal` is like `>= 1.2`, None for figures that are only shown."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    goal: str | None = None
    met: bool | None = None


def child(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 900,
    keep_output: bool = False,
    good: Sequence[int] = (0,),
) -> dict[str, Any]:
    """Run a process to its end: wall and CPU seconds, with all it started; output when asked."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if keep_output else subprocess.DEVNULL,
        stderr=subprocess.PIPE if keep_output else subprocess.DEVNULL, env=env, cwd=cwd,
    )  # fmt: skip
    with _alarm(process, timeout):
        output = errors = b""
        if process.stdout and process.stderr:
            reader = threading.Thread(target=lambda: parts.append(process.stderr.read() if process.stderr else b""))
            parts: list[bytes] = []
            reader.start()
            output = process.stdout.read()
            reader.join()
            errors = parts[0]
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = code = os.waitstatus_to_exitcode(status)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
    if code not in good:
        raise RuntimeError(
            f"{' '.join(map(str, command))} ended with {code}: {errors.decode(errors='replace')[-2000:]}"
        )
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "code": code, "output": output}


class _alarm:
    """Kills a process that takes too long."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._timer = threading.Timer(seconds, process.kill)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def peak_memory(command: Sequence[str | Path], **how: Any) -> float:
    """Highest sum of proportional set sizes (MiB) of a process and its children, looked at every 30 ms."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how
    )  # (`ru_maxrss` would count what this process held when it forked)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_pss, _family(process.pid))))
        time.sleep(0.03)
    return peak / 1024


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for one in children for p in _family(int(one)))]


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass  # it ended meanwhile
    return 0


def told(result: dict[str, Any]) -> Any:
    """The JSON object on the last line of a child's output."""
    return json.loads(result["output"].strip().splitlines()[-1])


def interleaved(contenders: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Run each contender once a round."""
    found: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            sample = {k: v for k, v in run().items() if isinstance(v, (int, float))}
            found[name].append(sample)
            figures = " ".join(f"{key}={value:.4g}" for key, value in sample.items() if key != "code")
            say(f"  {number + 1}/{rounds} {name}: {figures}")
    return found


def median(samples: Sequence[Sample], key: str) -> float:
    return statistics.median(s[key] for s in samples)


def compare(
    name: str,
    ours: Sequence[Sample],
    peer: Sequence[Sample],
    key: str,
    *,
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
    less_is_better: bool = True,
) -> Row:
    """A row from samples. `at_most` limits ours / peer; `at_least` the factor by which ours is better."""
    turned = at_least is not None and less_is_better
    pairs = zip(ours, peer, strict=True)
    ratio = statistics.median(p[key] / o[key] if turned else o[key] / p[key] for o, p in pairs)
    return row(name, median(ours, key), median(peer, key), ratio, unit=unit, at_most=at_most, at_least=at_least)


def row(
    name: str,
    ours: float,
    peer: float,
    ratio: float,
    *,
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    goal = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}" if at_least is not None else None
    met = ratio <= at_most if at_most is not None else ratio >= at_least if at_least is not None else None
    return Row(name=name, ours=ours, peer=peer, unit=unit, ratio=ratio, goal=goal, met=met)


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| what | ours | peer | unit | ratio | goal | met |", "|---|--:|--:|---|--:|--:|---|"]
    for r in rows:
        met = "" if r.met is None else "yes" if r.met else "**no**"
        figures = f"{_short(r.ours)} | {_short(r.peer)} | {r.unit} | {r.ratio:.2f}"
        lines.append(f"| {r.name} | {figures} | {r.goal or ''} | {met} |")
    return "\n".join(lines)


def document(results: Mapping[str, tuple[list[Row], Any]]) -> dict[str, Any]:
    """Everything as one JSON object."""
    benches = {
        name: {"rows": [asdict(r) for r in rows], "details": details} for name, (rows, details) in results.items()
    }
    return {"machine": machine(), "benches": benches}


def machine() -> dict[str, object]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def warm(path: Path) -> None:
    """Read a file once, so that everybody finds it in the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 22):
            pass


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 or not value else f"{value:.2g}"
