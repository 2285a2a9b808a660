"""`mirror save` killed with -9: what it reported stands, nothing half-written is a capture, and all is repaired."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeping import Checker, command, environment, leftovers, new_home, on_disk, save, served

STEPS = ("mkdir", "fsync", "writev", "linkat", "unlink", "fdatasync", "ftruncate", "pwrite64")
EVERY = {"pwrite64": 7, "mkdir": 2}
"""How far apart the calls of a kind are at which the process is killed; 1 if not named."""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    pages = {f"/{n}": ("text/html", b"<p>%d" % n) for n in range(20)}
    with served(pages) as url:
        yield url


def _words(home: Path, urls: list[str]) -> list[str]:
    return command("save", "--home", home, "--allow-private-hosts", "--no-text", "--json", *urls)


def _reported(stdout: bytes) -> set[str]:
    """Ids in the whole lines that came out."""
    lines = stdout.split(b"\n")[:-1]
    return {o["id"] for o in map(json.loads, lines) if o["verdict"] == "VERIFIED"}


@needs_strace
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", STEPS)
def test_kill_at_each_durable_step(step: str, site: str, tmp_path: Path) -> None:
    """A thread is killed as it enters its n-th call of a kind; calls are counted per thread."""
    home = new_home(tmp_path / "home")
    checker = Checker(home)
    for number in range(1, 60, EVERY.get(step, 1)):
        inject = f"inject={step}:signal=KILL:when={number}"
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={step}", "-e", inject]
        done = subprocess.run(
            [*strace, *_words(home, [f"{site}/1"])], capture_output=True, env=environment(), timeout=60
        )
        assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        checker.check(_reported(done.stdout))
        if done.returncode == 0:
            break
    assert done.returncode == 0 and number > 1
    assert save(home, "--no-text", f"{site}/2").returncode == 0
    checker.check(set())
    assert leftovers(home) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_at_random_times(site: str, tmp_path: Path) -> None:
    """Two hundred pages in forty processes, each killed at another time."""
    home = new_home(tmp_path / "home")
    checker, chance = Checker(home), random.Random(17)
    reported: set[str] = set()
    for _ in range(40):
        urls = [f"{site}/{n}?{chance.random()}" for n in range(5)]
        process = subprocess.Popen(
            _words(home, urls), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), bufsize=0
        )
        assert process.stdout is not None
        if chance.random() < 0.6:  # counted from the first answer: most of the work is done then
            first = process.stdout.readline()
            threading.Event().wait(chance.uniform(0, 0.02))
        else:
            first = b""
            threading.Event().wait(chance.uniform(0.2, 0.9))
        process.kill()
        with process.stdout as rest:
            reported |= _reported(first + rest.read())
        process.wait()
        checker.check(reported)
    assert reported
    assert save(home, "--no-text", f"{site}/1").returncode == 0
    checker.check(reported)
    assert leftovers(home) == []


def test_interrupted_save_leaves_nothing_half_done(site: str, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    process = subprocess.Popen(
        _words(home, [f"{site}/{n}" for n in range(20)]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    with process.stdout as rest, process.stderr as errors:
        reported, said = _reported(first + rest.read()), errors.read()
    assert process.wait(60) in (0, 130)
    assert b"Traceback" not in said
    Checker(home).check(reported)
    assert [p for p in leftovers(home) if p.parent != home / "state"] == []


def test_capture_that_was_not_indexed_is_listed_at_once(site: str, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    assert save(home, "--no-text", f"{site}/1").returncode == 0
    (found,) = on_disk(home).values()
    crash = f"""
import os, sys
from pathlib import Path
from mirror.store import home
with home.at_work(home.Home(Path({str(home)!r}))):
    Path({str(home / "state" / "index.sqlite3")!r}).unlink()
    from mirror.store.index import Index
    Index.open(Path({str(home / "state" / "index.sqlite3")!r})).close()
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", crash], timeout=60).returncode == 9
    assert found.exists() and len(leftovers(home)) == 1
    Checker(home).check(set())
    assert leftovers(home) == []


def test_home_that_cannot_be_written_is_listed_as_it_is(site: str, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    assert save(home, "--no-text", f"{site}/1").returncode == 0
    (home / "state" / ".tmp-0123456789abcdef").touch()
    for folder in (home / "state", home / "state" / "locks"):
        folder.chmod(0o500)
    try:
        Checker(home).check(set())
    finally:
        for folder in (home / "state", home / "state" / "locks"):
            folder.chmod(0o700)
    assert os.path.exists(home / "state" / "index.sqlite3")
