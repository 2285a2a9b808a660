"""`mirror verify` as a person and as a program call it: files, folders, pipes, trust, exit codes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest
import tamper
from keeping import command, environment, mirror, objects
from tamper import KEY, STRANGER


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "a.vkey").write_text(KEY.verifier.format() + "\n")
    (folder / "trust.toml").write_text('version = 1\nrequire = ["intact", "sealed"]\n[seal]\nkeys = ["a"]\n')
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A file for each exit code."""
    folder = tmp_path_factory.mktemp("files")
    data = tamper.capture_file(folder / "made").read_bytes() if (folder / "made").mkdir() is None else b""
    sealed = tamper.take_apart(data)
    altered = tamper.replace(sealed, seal=tamper.replace(sealed.seal, log="a.example"))
    contents = {
        0: data, 3: tamper.put_together(altered), 4: tamper.put_together(tamper.signed(sealed, STRANGER)),
        5: data[:-100],
    }  # fmt: skip
    paths = {code: folder / f"{code}.warc.gz" for code in contents}
    for code, path in paths.items():
        path.write_bytes(contents[code])
    return paths


@pytest.mark.parametrize("code", [0, 3, 4, 5])
def test_exit_code_is_that_of_the_verdict(files: dict[int, Path], keys: Path, code: int) -> None:
    done = mirror("verify", "--trust", keys, files[code])
    assert (done.returncode, done.stderr) == (code, "")
    word = {0: "VERIFIED", 3: "REFUTED - SEAL-INVALID", 4: "SELF-CONSISTENT, SIGNER-UNKNOWN", 5: "MALFORMED"}[code]
    assert done.stdout.startswith(f"{files[code]}: {word}")


@pytest.mark.parametrize("codes", [(0, 0), (0, 4), (4, 5), (5, 3), (0, 4, 5, 3), (3, 0), (5, 4, 0)])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_worst_of_several_files_decides(files: dict[int, Path], keys: Path, codes: tuple[int, ...], jobs: str) -> None:
    done = mirror("verify", "--trust", keys, "--json", "--jobs", jobs, *(files[c] for c in codes))
    severity = (0, 4, 5, 3)
    assert done.returncode == max(codes, key=severity.index)
    assert [(o["path"], o["exit_code"]) for o in objects(done)] == [(str(files[c]), c) for c in codes]


def test_json_has_the_documented_shape(files: dict[int, Path], keys: Path) -> None:
    (found,) = objects(mirror("verify", "--trust", keys, "--json", "--deep", files[0]))
    assert set(found) == {"path", "verdict", "exit_code", "headline", "facts", "checks"}
    assert {"capture", "root", "records", "signers", "claimed", "tool", "trust", "bytes", "raw_bytes"} <= set(
        found["facts"]
    )
    assert found["facts"]["signers"] == [{"keyid": KEY.keyid, "name": KEY.name}]
    for check in found["checks"]:
        assert set(check) == {"check", "claim", "status", "verdict", "sentence", "place"}
        assert check["status"] in ("passed", "failed", "missing", "untrusted") and check["sentence"]
    assert [c["check"] for c in found["checks"]] == [
        "container", "content", "record-digests", "seal", "log", "witnesses", "not-after", "not-before"
    ]  # fmt: skip


def test_quiet_says_nothing(files: dict[int, Path], keys: Path) -> None:
    for code, path in files.items():
        done = mirror("verify", "--trust", keys, "--quiet", path)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("code", [0, 3, 4, 5])
def test_file_from_a_pipe(files: dict[int, Path], keys: Path, code: int) -> None:
    done = mirror("verify", "--trust", keys, "-", stdin=files[code].read_bytes())
    assert done.returncode == code
    assert mirror("verify", "--trust", keys, "-", "--quiet", stdin=b"").returncode == 5


def test_folder_is_verified_in_one_order_whatever_the_processes(
    files: dict[int, Path], keys: Path, tmp_path: Path
) -> None:
    for number in range(30):
        folder = tmp_path / f"{number % 3}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.warc.gz").write_bytes(files[(0, 4)[number % 2]].read_bytes())
    (tmp_path / "0" / ".tmp-1.warc.gz").write_bytes(b"half")
    (tmp_path / "0" / "notes.txt").write_bytes(b"text")
    outputs = [mirror("verify", "--trust", keys, "--json", "--jobs", n, tmp_path) for n in (1, 2, 5)]
    assert {o.returncode for o in outputs} == {4}
    assert len({o.stdout for o in outputs}) == 1
    paths = [o["path"] for o in objects(outputs[0])]
    assert paths == sorted(paths) and len(paths) == 30
    said = mirror("verify", "--trust", keys, tmp_path).stdout
    assert "30 files: 15 VERIFIED, 15 NOT PROVEN" in said


def test_plain_warc_in_a_folder_is_found(files: dict[int, Path], keys: Path, tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(gzip.decompress(files[0].read_bytes()))
    assert mirror("verify", "--trust", keys, tmp_path).returncode == 0


def test_what_is_not_there_is_never_verified(keys: Path, tmp_path: Path) -> None:
    done = mirror("verify", "--trust", keys, tmp_path / "none.warc.gz")
    assert done.returncode == 5
    assert "No such file" in done.stdout
    assert mirror("verify", "--trust", keys, tmp_path).returncode == 2
    assert mirror("verify", "--trust", keys).returncode == 2


def test_trust_that_cannot_be_read_is_exit_6(files: dict[int, Path], tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", files[0]):
        done = mirror("verify", "--trust", folder, files[0])
        assert (done.returncode, done.stdout) == (6, "")
    (tmp_path / "trust.toml").write_text("version = 9")
    assert mirror("verify", "--trust", tmp_path, files[0]).returncode == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_trust_without_permission_is_exit_6(files: dict[int, Path], tmp_path: Path) -> None:
    tmp_path.chmod(0)
    assert mirror("verify", "--trust", tmp_path, files[0]).returncode == 6
    tmp_path.chmod(0o700)


def test_keys_beside_the_file_are_not_trusted(tmp_path: Path) -> None:
    path = tamper.capture_file(tmp_path)
    folder = tmp_path / "home" / "keys"
    (folder / "a.vkey").write_text(KEY.verifier.format())
    (folder / "trust.toml").write_text('version = 1\nrequire = ["intact", "sealed"]\n[seal]\nkeys = ["a"]\n')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert mirror("verify", path, cwd=elsewhere).returncode == 4
    assert mirror("verify", path, cwd=path.parent).returncode == 0
    assert mirror("verify", path, cwd=elsewhere, MIRROR_HOME=str(tmp_path / "home")).returncode == 0
    assert mirror("verify", "--no-trust", path, cwd=path.parent).returncode == 4


def test_wrong_use_is_exit_2(files: dict[int, Path], keys: Path) -> None:
    for words in (["--jobs", "0"], ["--jobs", "x"], ["--none"], ["--no-trust", "--trust", keys]):
        assert mirror("verify", *words, files[0]).returncode == 2


def test_hostile_file_name_cannot_steer_the_terminal(files: dict[int, Path], keys: Path, tmp_path: Path) -> None:
    path = tmp_path / "\x1b[2J\n.warc.gz"
    path.write_bytes(files[0].read_bytes())
    done = mirror("verify", "--trust", keys, path)
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert os.fsdecode(json.loads(mirror("verify", "--trust", keys, "--json", path).stdout)["path"]) == str(path)


def test_reader_that_goes_away_ends_the_command_quietly(files: dict[int, Path], keys: Path, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.warc.gz").symlink_to(files[4])
    process = subprocess.Popen(
        command("verify", "--trust", keys, "--jobs", "2", tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(),
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
