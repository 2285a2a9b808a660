"""What the house promises of its tree: layers, a quick start, no secrets, nothing of one machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"aiohttp", "asyncio", "sqlite3", "cryptography", "trafilatura", "apscheduler", "warcio", "ssl"}


def tracked() -> list[Path]:
    """The files that git has or would take, as far as they are there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    return [p for p in paths if p.is_file() and not p.is_symlink()]


def loaded_by(*words: str) -> set[str]:
    """Top-level modules that are loaded after a command, in a fresh interpreter."""
    code = (
        "import sys, json; from mirror.cli.main import main; main(sys.argv[1:]);"
        "sys.stderr.write(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, cwd=ROOT)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["verify", "--help"], ["nonsense"]], ids=" ".join)
def test_help_loads_nothing_heavy(words):
    assert not loaded_by(*words) & (HEAVY | {"socket"})


def test_help_of_a_command_loads_no_crawler_or_extractor():
    light = set(COMMANDS) - {"save"}
    for name in sorted(light):
        assert not loaded_by(name, "--help") & {"aiohttp", "asyncio", "trafilatura", "apscheduler"}, name


def test_layers_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_sub_packages_hold_only_a_docstring():
    for path in (ROOT / "mirror").rglob("__init__.py"):
        if path.parent.name != "mirror":
            assert re.fullmatch(r'"""[^"]+"""\n', path.read_text("utf-8")), path


def test_tree_holds_no_secret():
    secret = re.compile(rb'"seed"\s*:\s*"[A-Za-z0-9+/]{43}=|BEGIN [A-Z ]*PRIVATE KEY|"ct"\s*:\s*"[A-Za-z0-9+/]{64}')
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        assert not re.search(r"(^|/)state/|\.(key|skey|pem)$", name), name
        assert not secret.search(path.read_bytes()), name


def test_tree_names_no_machine():
    places = re.compile(r"(?<![\w./-])/(work|root|farm|home|Users|tmp)/[a-z]")
    allowed = {"/home/mirror"}  # in the container
    for path in tracked():
        if path.suffix in (".gz", ".tsr", ".ots", ".png") or "vectors" in path.parts:
            continue
        text = path.read_text("utf-8", errors="replace")
        for match in places.finditer(text):
            place = text[match.start() : match.start() + 40].split()[0]
            inside = path.relative_to(ROOT)
            assert inside.parts[0] == "tests" or any(place.startswith(a) for a in allowed), (inside, place)
            assert not re.match(r"/(work|root|farm)/", place), (inside, place)
