"""`mirror verify` opens no socket, writes nothing, and loads nothing that could."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tamper
from tamper import KEY, limited

FORBIDDEN = (
    "socket", "_socket", "asyncio", "ssl", "_ssl", "aiohttp", "sqlite3", "trafilatura", "apscheduler", "subprocess",
    "pickle", "multiprocessing", "uvloop", "urllib.request", "http.client", "lxml", "warcio", "ctypes",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tamper.capture_file(tmp_path)
    keys = tmp_path / "home" / "keys"
    (keys / "a.vkey").write_text(KEY.verifier.format())
    (keys / "trust.toml").write_text('version = 1\nrequire = ["intact", "sealed"]\n[seal]\nkeys = ["a"]\n')
    assert path.is_relative_to(tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_verifying_loads_no_network_no_database_no_crawler(home: Path, jobs: str) -> None:
    program = """
        import sys
        from mirror.cli.main import main
        code = main(sys.argv[1:])
        print(code, *sorted(sys.modules), file=sys.stdout)
    """
    first = next(home.rglob("*.warc.gz"))
    (first.parent / "second.warc.gz").write_bytes(first.read_bytes())
    for what in (first, home / "archives"):
        code, *modules = limited(
            program, "verify", "--trust", home / "keys", "--quiet", "--deep", "--jobs", jobs, what
        ).split()
        assert code == "0"
        assert sorted(set(FORBIDDEN) & set(modules)) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_verifying_makes_no_socket_and_opens_nothing_for_writing(home: Path, tmp_path: Path) -> None:
    trace, paths = tmp_path / "trace", [home / "archives", next(home.rglob("*.warc.gz"))]
    calls = "trace=network,open,openat,creat,unlink,rename,mkdir,truncate,execve"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", trace, "-e", calls,
         sys.executable, "-B", "-m", "mirror", "verify", "--jobs", "2", "--trust", home / "keys", *paths],
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = trace.read_text()
    assert "trust.toml" in calls and ".warc.gz" in calls
    for pattern in (
        r"socket\(", r"connect\(", r"sendto\(", r"bind\(", r"O_WRONLY", r"O_RDWR", r"O_CREAT", r"O_TMPFILE",
        r"unlink", r"rename", r"mkdir", r"truncate\(",
    ):  # fmt: skip
        assert not re.search(pattern, calls), re.findall(f".*{pattern}.*", calls)[:3]
    assert calls.count("execve(") == calls.count(" execve(") and len(re.findall(r"execve\(.*= 0", calls)) == 1
