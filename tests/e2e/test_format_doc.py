"""archives/FORMAT.md is tested: its commands run, its verifier agrees with `mirror verify` on every sample."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORMAT = (ROOT / "archives" / "FORMAT.md").read_text()
EXPECTED = json.loads((ROOT / "archives" / "expected.json").read_text())
CODE = re.compile(r"^```sh\n(?P<code>.*?)^```\n(?:```text\n(?P<output>.*?)^```\n)?", re.M | re.S)
VERIFIER = re.search(r"^```perl\n(.*?)^```\n", FORMAT, re.M | re.S)

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("sh", "perl", "openssl", "gzip", "basenc"))), reason="sh, perl, openssl, gzip, coreutils"
)


def test_commands_give_what_the_page_says() -> None:
    blocks = list(CODE.finditer(FORMAT))
    assert len(blocks) > 5
    mark = "--- end of block ---"
    script = "".join(f"{block['code']}echo '{mark}'\n" for block in blocks)
    done = subprocess.run(["sh", "-e", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split(f"{mark}\n")
    assert said == [*(block["output"] or "" for block in blocks), ""]
    assert done.stderr == ""


def test_verifier_has_fifty_lines() -> None:
    assert verifier().count("\n") <= 50


@pytest.mark.parametrize("name", EXPECTED)
def test_verifier_agrees_with_mirror(name: str, tmp_path: Path) -> None:
    (tmp_path / "verify.pl").write_text(verifier())
    done = subprocess.run(
        ["perl", tmp_path / "verify.pl", ROOT / "archives" / name, ROOT / "keys" / "mirror-sample.vkey"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    verified = EXPECTED[name]["verdict"] == "VERIFIED"
    assert done.stdout.startswith("VERIFIED" if verified else "NOT VERIFIED: ")
    assert done.returncode == (0 if verified else 1)


def test_every_name_in_expected_stands_in_the_page() -> None:
    for expected in EXPECTED.values():
        if expected["name"]:
            assert f"| {expected['verdict']} | `{expected['name']}` | {expected['exit_code']} |" in FORMAT


def verifier() -> str:
    assert VERIFIER is not None
    return VERIFIER[1]
