"""What a person sees of a capture and of a verdict, and whose keys count."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sample_site
from made import KEY, Maker

from mirror.cli.main import main
from mirror.store import home as homes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site():
    with sample_site.served() as url:
        yield url


@pytest.fixture
def place(tmp_path):
    assert main(["init", str(tmp_path / "h"), "--no-passphrase"]) == 0
    return tmp_path / "h"


def mirror(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(p for p in (env.pop("FIRST", ""), str(ROOT)) if p)
    return subprocess.run(
        [sys.executable, "-m", "mirror", *map(str, words)], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, env={**os.environ, "PYTHONPATH": path, "MIRROR_LANG": "en", "MIRROR_HOME": "", **env},
    )  # fmt: skip


def test_page_is_kept_and_verified_without_an_extractor(place, site, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "trafilatura.py").write_text("raise ImportError('not installed')\n")
    done = mirror("save", "--allow-private-hosts", site, site + "gone", cwd=place, FIRST=str(tmp_path / "first"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  VERIFIED - ") == 2
    assert done.stderr.count("`mirror index rebuild` tries again") == 2
    assert mirror("index", "rebuild", cwd=place).returncode == 0
    assert mirror("search", "dong tam", cwd=place).stdout.count("Đồng Tâm") >= 1


def test_error_page_is_called_one_and_what_was_cleaned_is_named(place, site):
    done = mirror("save", "--no-text", "--allow-private-hosts", f"{site}gone?fbclid=x&id=7", "no address", cwd=place)
    assert done.returncode == 2
    assert "error page" in done.stdout and "left out of the address: fbclid\n" in done.stdout
    assert done.stderr.startswith("mirror: URL 2: ") and "no address" not in done.stderr
    assert "  HTTP 404  " in mirror("list", cwd=place).stdout


def test_failed_page_says_why_once(place, site):
    done = mirror("save", "--no-text", site, cwd=place)
    assert done.returncode == 7 and done.stdout.count("not public") == 1
    assert "archives/captures/" in done.stdout and str(place) not in done.stdout


def test_keys_that_come_with_a_file_are_not_trusted(tmp_path, capsys, monkeypatch):
    bundle = homes.create(tmp_path / "bundle")
    path = Maker(bundle).capture()
    (bundle.keys / "k.vkey").write_text(KEY.verifier.format() + "\n")
    bundle.trust_path.write_text('version = 1\nrequire = ["intact", "sealed"]\n[seal]\nkeys = ["k"]\n')
    monkeypatch.setenv("MIRROR_LANG", "en")
    monkeypatch.delenv("MIRROR_HOME", raising=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["verify", str(path)]) == 4
    out = capsys.readouterr().out
    assert "SIGNER-UNKNOWN" in out and out.endswith(
        "trusted: nobody; --trust FOLDER names the public keys that you trust\n"
    )
    assert main(["verify", "--trust", str(bundle.keys), str(path)]) == 0
    assert f"trusted: the keys in {bundle.keys}; required: intact, sealed" in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("script"), reason="script(1) makes the terminal")
def test_verdict_fits_the_terminal(tmp_path):
    path = Maker(homes.create(tmp_path / "h")).capture()
    command = f"stty cols 60; exec {sys.executable} -m mirror verify --no-trust {path.name}"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], cwd=path.parent, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT), "MIRROR_LANG": "en"},
    )  # fmt: skip
    checks = [line for line in done.stdout.splitlines() if line.startswith(("  + ", "  ? ", "  - ", " " * 19))]
    assert len(checks) > 6 and max(map(len, checks)) <= 60, done.stdout
