"""Capture when nothing is slow: CPU per page and pages per second, one and two processes, HTTP and TLS.

Ours: one sealed, durable, indexed file for each page, 21 requests each, in one long-lived process. The aiohttp clients
make the same requests; wget crawls the pages into one WARC and asks for what they share once (17 requests a page).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import newspaper
from measure import Row, Sample, child, compare, interleaved, median, told
from workplace import Work, free_port

PAGES = 240
PAGES_OF_SLOW_ONES = 40
AT_ONCE = 8
CONNECTIONS = 32
_HERE = Path(__file__).parent


def run(work: Work, rounds: int, only: str = "") -> tuple[list[Row], Any]:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    with work.server():
        for name, port in (("plain", newspaper.PLAIN), ("tls", newspaper.TLS)):
            if only in name:
                found = interleaved(_contenders(work, port), rounds)
                rows += (_plain_rows if name == "plain" else _tls_rows)(found)
                details[name] = {
                    k: {f: median(v, f) for f in ("cpu_ms", "pages_s", "requests")} for k, v in found.items()
                }
    return rows, details


def _plain_rows(found: dict[str, list[Sample]]) -> list[Row]:
    ours, two = found["mirror"], found["mirror, 2 processes"]
    cpu = partial(compare, key="cpu_ms", unit="ms CPU/page")
    speed = partial(compare, key="pages_s", unit="pages/s", less_is_better=False)
    return [
        cpu("capture: fetching and throwing away", ours, found["aiohttp fetch"], at_most=1.8),
        cpu("capture: aiohttp + warcio", ours, found["aiohttp + warcio"], at_least=2.8),
        cpu("capture: wget", ours, found["wget"], at_least=3.5),
        cpu("capture: warcprox", ours, found["warcprox"], at_least=7),
        speed("capture: wget", ours, found["wget"], at_least=4),
        speed("capture: two processes against one", two, ours, at_least=1.5),
        speed("capture: fetching and throwing away", ours, found["aiohttp fetch"]),
    ]


def _tls_rows(found: dict[str, list[Sample]]) -> list[Row]:
    ours, two = found["mirror"], found["mirror, 2 processes"]
    speed = partial(compare, key="pages_s", unit="pages/s", less_is_better=False)
    return [
        speed("capture, TLS: wget", ours, found["wget"], at_least=3),
        speed("capture, TLS: warcprox", ours, found["warcprox"], at_least=10),
        speed("capture, TLS: two processes against one", two, ours),
        compare("capture, TLS: fetching and throwing away", ours, found["aiohttp fetch"], "cpu_ms", unit="ms CPU/page"),
    ]


def _contenders(work: Work, port: int) -> dict[str, Callable[[], Sample]]:
    return {
        "mirror": lambda: mirror(work, port, PAGES),
        "aiohttp fetch": lambda: aiohttp(work, port, PAGES),
        "mirror, 2 processes": lambda: mirror_twice(work, port, PAGES),
        "aiohttp + warcio": lambda: aiohttp(work, port, PAGES // 2, warc=True),
        "wget": lambda: wget(work, port, PAGES_OF_SLOW_ONES),
        "warcprox": lambda: warcprox(work, port, PAGES_OF_SLOW_ONES),
    }


# -- contenders: each gives cpu_ms a page, pages_s, requests


def mirror(work: Work, port: int, pages: int, *, at_once: int = AT_ONCE, connections: int = CONNECTIONS) -> Sample:
    with work.folder() as folder:
        command = _mirror_command(work.home(folder / "home"), port, 0, pages, at_once, connections)
        return _sample(told(child(command, env=work.environment(), keep_output=True)))


def mirror_twice(work: Work, port: int, pages: int) -> Sample:
    """Two processes on one home, each with half of the pages and of the connections, started together."""
    with work.folder() as folder:
        home, half = work.home(folder / "home"), pages // 2
        commands = [
            _mirror_command(home, port, first, half, AT_ONCE // 2, CONNECTIONS // 2) for first in (0, pages - half)
        ]
        running = [
            subprocess.Popen([*c, "--gate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=work.environment())
            for c in commands
        ]
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        told_by = [json.loads(process.communicate(timeout=600)[0]) for process in running]
        whole = {key: sum(one[key] for one in told_by) for key in ("cpu", "pages", "requests")}
        return _sample({**whole, "wall": max(one["wall"] for one in told_by), "p50": told_by[0]["p50"]})


def aiohttp(
    work: Work, port: int, pages: int, *, warc: bool = False, at_once: int = AT_ONCE, connections: int = CONNECTIONS
) -> Sample:
    with work.folder() as folder:
        command = [sys.executable, str(_HERE / "client_aiohttp.py"), "--base", newspaper.base(port)]
        command += ["--count", str(pages), "--at-once", str(at_once), "--connections", str(connections)]
        if warc:
            command += ["--out", str(folder / "out.warc.gz")]
        return _sample(told(child(command, env=work.environment(), keep_output=True)))


def wget(work: Work, port: int, pages: int) -> Sample:
    start = newspaper.base(port) + newspaper.listing(work.root, pages)
    with work.folder() as folder:
        words = ["-q", "-r", "-l", "1", "-p", "-e", "robots=off", "--delete-after", "--warc-file=out",
                 "--no-warc-keep-log", "--no-check-certificate", "-P", "files", start]  # fmt: skip
        done = child([work.tool("wget"), *words], cwd=folder)
        assert (folder / "out.warc.gz").stat().st_size > pages * 400_000
        return _sample({"cpu": done["cpu"], "wall": done["wall"], "pages": pages, "requests": pages * 17 + 5})


def warcprox(work: Work, port: int, pages: int) -> Sample:
    """CPU of the proxy alone; wall until it has written everything. It refuses 127.0.0.1, hence 127.0.0.2."""
    with work.folder() as folder, Proxy(work, folder) as proxy:
        command = [sys.executable, str(_HERE / "client_aiohttp.py"), "--base", newspaper.base(port, "127.0.0.2")]
        command += ["--proxy", proxy.url, "--count", str(pages), "--at-once", str(AT_ONCE)]
        client = told(child(command, env=work.environment(), keep_output=True))
        drained = proxy.stop()
        wall = client["wall"] + drained["wall"]
        return _sample({"cpu": drained["cpu"], "wall": wall, "pages": pages, "requests": client["requests"]})


class Proxy:
    """A running warcprox."""

    def __init__(self, work: Work, folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        command = [work.peer("warcprox", "venv-warcprox"), "-p", str(self._port), "-d", "warcs", "-z", "-g", "sha256"]
        command += ["-j", "/dev/null", "--stats-db-file", "/dev/null", "-c", "ca.pem", "--certs-dir", "certs"]
        self._process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stopped = False

    def __enter__(self) -> Proxy:
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("warcprox does not start")

    def __exit__(self, *_: object) -> None:
        if not self._stopped:
            self._process.kill()
            self._process.wait()

    def stop(self) -> dict[str, float]:
        """Let it write what it still holds, and end."""
        began = time.perf_counter()
        self._process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode, self._stopped = os.waitstatus_to_exitcode(status), True
        return {"wall": time.perf_counter() - began, "cpu": usage.ru_utime + usage.ru_stime}


def _mirror_command(home: Path, port: int, first: int, pages: int, at_once: int, connections: int) -> list[str]:
    words = {"home": home, "base": newspaper.base(port), "first": first, "count": pages, "at-once": at_once,
             "connections": connections}  # fmt: skip
    options = [text for name, value in words.items() for text in (f"--{name}", str(value))]
    return [sys.executable, str(_HERE / "client_mirror.py"), *options]


def _sample(told: dict[str, Any]) -> Sample:
    pages = told["pages"]
    more = {"p50_ms": told["p50"] * 1000} if "p50" in told else {}
    return {
        "cpu_ms": told["cpu"] / pages * 1000, "pages_s": pages / told["wall"], "requests": told["requests"] / pages,
        "wall": told["wall"], **more,
    }  # fmt: skip
