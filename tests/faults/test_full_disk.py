"""A disk that is full, fails or cannot be written; a clock that jumps; two processes in one home."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeping import Checker, command, environment, leftovers, new_home, objects, on_disk, save, served

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
needs_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0,
    reason="no mount namespaces here",
)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    pages = {"/1": ("text/html", b"<p>one"), "/big": ("application/zip", bytes(range(256)) * 20_000)}
    with served(pages) as url:
        yield url


FAILURES = [
    ("writev", 1, "ENOSPC"), ("writev", 2, "ENOSPC"), ("linkat", 1, "ENOSPC"), ("mkdir", 3, "ENOSPC"),
    ("pwrite64", 11, "ENOSPC"), ("fdatasync", 3, "ENOSPC"), ("fsync", 1, "EIO"), ("fsync", 2, "EIO"),
    ("fsync", 7, "EIO"),
]  # fmt: skip
"""Calls that fail: of which kind, the how many-th of a thread, and with what."""


@needs_strace
@pytest.mark.slow
def test_failed_call_is_exit_6_and_what_was_kept_stays(site: str, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    checker = Checker(home)
    codes = []
    for call, number, error in FAILURES:
        before = len(on_disk(home))
        strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}")
        inject = ("-e", f"inject={call}:error={error}:when={number}")
        done = save(home, "--json", "--no-text", f"{site}/1", before=(*strace, *inject))
        codes.append(done.returncode)
        after = len(on_disk(home))
        if done.returncode == 0:  # SQLite can do without that step
            assert after == before + 1
        else:
            assert done.returncode == 6, done.stderr
            assert done.stderr.startswith("mirror: ") and "disk" in done.stderr, done.stderr
            assert done.stdout == "" and after in (before, before + 1)
        checker.check({o["id"] for o in objects(done)})
    assert codes.count(6) >= 7
    assert save(home, "--no-text", f"{site}/1").returncode == 0
    checker.check(set())
    assert leftovers(home) == []


FULL = """
mount -t tmpfs -o size=3m tmpfs "$1" && cd "$1" && mirror="$2 -m mirror" && site=$3
$mirror init home --no-passphrase >/dev/null 2>&1 || exit 90
cd home
for n in 1 2 3; do $mirror save --allow-private-hosts --no-text --json $site/1 >>../said || exit 91; done
$mirror save --allow-private-hosts --no-text $site/big; echo "big $?"
head -c 4000000 /dev/zero >../filler 2>/dev/null
$mirror save --allow-private-hosts --no-text $site/1; echo "full $?"
$mirror verify -q archives; echo "verify $?"
$mirror list --json >/dev/null; echo "list $?"
rm ../filler
$mirror save --allow-private-hosts --no-text --json $site/1 >/dev/null; echo "again $?"
$mirror verify -q archives; echo "verified $?"
echo "captures $(find archives -name '*.warc.gz' | wc -l) listed $($mirror list --json | wc -l)"
echo "leftovers $(find . -name '.tmp-*' | wc -l)"
"""


@needs_mounts
def test_full_disk_is_exit_6_and_nothing_is_lost(site: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", FULL, "sh", tmp_path, sys.executable, site],
        capture_output=True, text=True, env=environment(), timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    said = [line for line in done.stdout.splitlines() if not line.startswith(("http", " "))]
    assert said[:6] == ["big 6", "full 6", "verify 0", "list 0", "again 0", "verified 0"], done
    assert said[6:] == ["captures 4 listed 4", "leftovers 0"]
    assert done.stderr.count("the disk is full") == 2


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && mirror="$2 -m mirror"
$mirror save --allow-private-hosts --no-text $3/1; echo "save $?"
$mirror list --json >/dev/null; echo "list $?"
$mirror verify -q archives; echo "verify $?"
"""


@needs_mounts
def test_read_only_home_is_exit_6_for_saving_and_good_for_reading(site: str, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    assert save(home, "--no-text", f"{site}/1").returncode == 0
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", home, sys.executable, site],
        capture_output=True, text=True, env=environment(), timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["save 6", "list 0", "verify 0"], done
    assert "read-only" in done.stderr


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_clock_that_jumps_loses_nothing(site: str, tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    for when in ("2030-05-06 07:08:09", "1999-12-31 23:59:59", "2026-11-21 10:00:00"):
        assert save(home, "--no-text", f"{site}/1", before=("faketime", when)).returncode == 0
    Checker(home).check(set())
    assert len(on_disk(home)) == 3
    years = sorted(path.relative_to(home / "archives" / "captures").parts[0] for path in on_disk(home).values())
    assert years[0] <= "2000" and years[-1] == "2030"


def test_two_processes_save_into_one_home(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    pages = {f"/{n}": ("text/html", b"<p>%d" % n) for n in range(24)}
    with served(pages) as url:
        words = [command("save", "--home", home, "--allow-private-hosts", "--no-text", *(f"{url}/{n}" for n in half))
                 for half in (range(12), range(12, 24), range(6, 18))]  # fmt: skip
        processes = [
            subprocess.Popen(w, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()) for w in words
        ]
        for process in processes:
            assert process.stderr is not None
            with process.stderr as errors:
                assert errors.read() == b""
            assert process.wait(60) == 0
    Checker(home).check(set())
    assert len(on_disk(home)) == 36
