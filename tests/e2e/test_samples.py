"""The sample evidence of the repository: each file gets its verdict, and no secret came along."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import make_samples
import pytest
from made import KEY

from mirror.store import secrets

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "MIRROR_HOME"}


def test_every_sample_gets_its_verdict() -> None:
    found = verdicts(ROOT)
    assert found == json.loads((ROOT / "archives" / "expected.json").read_text())


def test_new_samples_get_the_same_verdicts(tmp_path: Path) -> None:
    make_samples.main(tmp_path)
    assert verdicts(tmp_path) == json.loads((tmp_path / "archives" / "expected.json").read_text())
    assert {p.name for p in (tmp_path / "archives" / "samples").iterdir()} == {
        p.name for p in (ROOT / "archives" / "samples").iterdir()
    }


@pytest.mark.parametrize("verdict", ["VERIFIED", "REFUTED", "NOT PROVEN", "MALFORMED"])
def test_samples_show_every_verdict(verdict: str) -> None:
    expected = json.loads((ROOT / "archives" / "expected.json").read_text())
    assert verdict in {e["verdict"] for e in expected.values()}


def test_without_trust_the_intact_sample_only_agrees_with_itself() -> None:
    found = mirror("verify", "--no-trust", "--json", str(ROOT / "archives/samples/intact.warc.gz"))
    assert found.returncode == 4
    assert json.loads(found.stdout)["headline"].startswith("SELF-CONSISTENT, SIGNER-UNKNOWN")


def test_intact_sample_names_no_machine() -> None:
    data = (ROOT / "archives" / "samples" / "intact.warc.gz").read_bytes()
    records = b"".join(gzip.decompress(member) for member in make_samples.members(data))
    assert set(re.findall(rb"(?im)^(?:host|warc-ip-address): ([^\r:]*)", records)) == {b"127.0.0.1"}
    assert re.findall(rb"(?im)^server: ([^\r]*)", records) == [b"sample"] * 3
    assert not re.search(rb"(?i)last-modified|hostname|operator|(?<![a-z/:.])/(?:home|root|tmp|work|var|usr)/", records)


def test_repository_holds_no_secret_key() -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    files = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    assert ROOT / "keys" / "trust.toml" in files
    assert not [path for path in files if path.is_file() and holds_secret(path.read_bytes())]


def test_a_secret_key_would_be_found() -> None:
    plain = json.loads(secrets.seal(KEY, None))
    assert holds_secret(secrets.seal(KEY, None))
    assert holds_secret(json.dumps(plain, indent=4).encode())
    assert holds_secret(b"-----BEGIN " + b"PRIVATE KEY-----\n")


def holds_secret(data: bytes) -> bool:
    pem = re.search(rb"-----BEGIN [A-Z ]*PRIVATE" + rb" KEY-----", data)
    ours = re.search(rb'"(?:seed|ct)"\s*:\s*"[A-Za-z0-9+/]{40,}={0,2}"', data)
    return bool(pem or ours)


def verdicts(folder: Path) -> dict[str, Any]:
    """What `mirror verify` says of the samples, in the form of expected.json."""
    found = mirror("verify", "--json", "archives", cwd=folder)
    documents = [json.loads(line) for line in found.stdout.splitlines()]
    expected = json.loads((folder / "archives" / "expected.json").read_text())
    assert found.returncode == 3, found.stderr
    return {name: expected[name] | _said(documents, name) for name in expected} | {
        _name(d): {} for d in documents if _name(d) not in expected
    }


def _said(documents: list[dict[str, Any]], name: str) -> dict[str, Any]:
    document = next(d for d in documents if _name(d) == name)
    required = [c for c in document["checks"] if c["status"] == "failed" or c["claim"] in ("intact", "sealed")]
    wrong = sorted((c for c in required if c["verdict"]), key=lambda c: c["status"] != "failed")
    named = next((c["verdict"] for c in wrong if c["verdict"] in document["headline"]), None)
    return {"verdict": document["verdict"], "name": named, "exit_code": document["exit_code"]}


def _name(document: dict[str, Any]) -> str:
    return Path(document["path"]).relative_to("archives").as_posix()


def mirror(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mirror", *words], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
