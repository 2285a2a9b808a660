"""Files made to hurt the verifier end soon, in little memory, with a verdict; trust that is wrong is named as such."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from pathlib import Path

import pytest
import tamper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import KEY
from make_samples import packed
from tamper import TRUST, limited, members

from mirror.errors import HomeError, MirrorError
from mirror.formats import gz
from mirror.verify import policy, verifier
from mirror.verify.verdict import Outcome

VERIFY = """
    import resource, sys
    from pathlib import Path
    from mirror.verify import verifier
    from mirror.verify.policy import NO_TRUST
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = verifier.verify(Path(sys.argv[1]), NO_TRUST)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(found.outcome.code, grown // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_utime)
"""


def _examined(path: Path) -> int:
    """Exit code of the verdict; fails when it takes long or grows above 160 MB."""
    code, megabytes, seconds = limited(VERIFY, path).split()
    assert int(megabytes) < 160 and float(seconds) < 20
    return int(code)


def _bomb(start: bytes, size: int) -> bytes:
    """A gzip member of `start` and then zeros, `size` bytes of them; its checksum is not right."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = compressor.compress(start) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return gz.HEADER + head + block * (size >> 20) + compressor.flush() + bytes(8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tamper.capture_file(tmp_path_factory.mktemp("sealed")).read_bytes()


TEN_GB = 10 << 30
ENDLESS = b"WARC/1.1\r\nWARC-Type: resource\r\nX: "
ANNOUNCED = b"WARC/1.1\r\nWARC-Type: resource\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    "start", [b"", b"WARC/1.1\r\n", ENDLESS, ANNOUNCED], ids=["zeros", "version", "head", "length"]
)
def test_bomb_ends_soon(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "bomb.warc.gz"
    path.write_bytes(_bomb(start, TEN_GB))
    assert _examined(path) == 5


def test_bomb_in_place_of_a_sealed_record_ends_soon(tmp_path: Path, data: bytes) -> None:
    *front, seal = members(data)
    path = tmp_path / "bomb.warc.gz"
    for number in (0, 3, len(front) - 2, len(front) - 1):
        start = gzip.decompress(front[number])
        path.write_bytes(tamper.closed([*front[:number], _bomb(start, TEN_GB), *front[number + 1 :]], seal))
        assert _examined(path) in (3, 5)


def test_bomb_as_the_seal_ends_soon(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bomb.warc.gz"
    path.write_bytes(b"".join(members(data)[:-1]) + _bomb(b"WARC/1.1\r\n", TEN_GB))
    assert _examined(path) in (3, 5)


def test_thousands_of_bombs_at_the_end_end_soon(tmp_path: Path, data: bytes) -> None:
    bombs = _bomb(b"", 47 << 20) * 600
    path = tmp_path / "bombs.warc.gz"
    path.write_bytes(bombs + b"!")
    assert _examined(path) == 5
    path.write_bytes(data[: -len(members(data)[-1])] + bombs + members(data)[-1])
    assert _examined(path) in (3, 5)


def test_file_full_of_member_starts_ends_soon(tmp_path: Path) -> None:
    path = tmp_path / "starts.warc.gz"
    path.write_bytes(b"\x1f\x8b\x08" * 3_000_000)
    assert _examined(path) == 5


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\x1f", b"\x1f\x8b\x08", b"hello", b"<html>", b"WARC/1.1\r\n", b"WARC/1.1\r\n\r\n", b"\x1f\x8b" * 99,
     gzip.compress(b""), gzip.compress(b"text"), b"PK\x03\x04" + bytes(99), os.urandom(9999), bytes(70_000)],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_warc_is_malformed(tmp_path: Path, content: bytes) -> None:
    assert tamper.verdict(tmp_path, content).outcome is Outcome.MALFORMED


def test_what_is_no_regular_file_is_malformed(tmp_path: Path) -> None:
    fifo, loop, gone = tmp_path / "fifo", tmp_path / "loop", tmp_path / "gone"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    for path in (fifo, loop, gone, tmp_path, Path("/dev/zero"), tmp_path / ("n" * 300)):
        assert verifier.verify(path, TRUST).outcome is Outcome.MALFORMED, path


def test_link_to_a_capture_is_followed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "link").symlink_to("file")
    assert verifier.verify(tmp_path / "link", TRUST).outcome is Outcome.VERIFIED


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(garbage=st.binary(max_size=300), kind=st.sampled_from(["raw", "gzip", "record", "closing"]))
def test_garbage_is_never_verified_and_never_raises(data: bytes, tmp_path: Path, garbage: bytes, kind: str) -> None:
    record = b"WARC/1.1\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n" % (len(garbage), garbage)
    target = b"WARC/1.1\r\nWARC-Target-URI: urn:mirror:seal:\r\n" + garbage + b"\r\n\r\n"
    content = {
        "raw": garbage, "gzip": packed([garbage]), "record": packed([record]),
        "closing": b"".join(members(data)[:-1]) + packed([target]),
    }[kind]  # fmt: skip
    assert tamper.verdict(tmp_path, content).outcome is not Outcome.VERIFIED


# -- trust


def _trust(folder: Path, text: str) -> Path:
    (folder / "trust.toml").write_text(text, "utf-8", "surrogatepass")
    (folder / "a.vkey").write_text(KEY.verifier.format() + "\n")
    return folder


def test_trust_folder_is_read(tmp_path: Path) -> None:
    text = 'version = 1\nrequire = ["intact", "sealed", "logged"]\n[seal]\nthreshold = 1\nkeys = ["a"]\n'
    found = policy.load(_trust(tmp_path, text))
    assert (found.threshold, set(found.keys), len(found.require)) == (1, {KEY.keyid}, 3)


@pytest.mark.parametrize(
    "text",
    [
        "", "version = 2", "version = '1'", "version = 1\nmore = 1", "version = 1\nrequire = 1",
        "version = 1\nrequire = 'intact'", "version = 1\nrequire = ['all']", "version = 1\nrequire = [['intact']]",
        "version = 1\nseal = 1", "version = 1\nseal = []", "version = 1\n[seal]\nkeys = 'a'",
        "version = 1\n[seal]\nkeys = [1]", "version = 1\n[seal]\nkeys = ['../a']", "version = 1\n[seal]\nkeys = ['b']",
        "version = 1\n[seal]\nkeys = ['.a']", 'version = 1\n[seal]\nkeys = ["\\u0000"]',
        "version = 1\n[seal]\nkeys = ['" + "n" * 300 + "']", "version = 1\n[seal]\nthreshold = 0\nkeys = ['a']",
        "version = 1\n[seal]\nthreshold = 2\nkeys = ['a']", "version = 1\n[seal]\nthreshold = 2\nkeys = ['a', 'a']",
        "version = 1\n[seal]\nthreshold = true\nkeys = ['a']", "version = 1\n[seal]\nmore = 1", "version = ",
        "version = 1\nrequire = " + "[" * 50_000,
    ],
    ids=range(24),
)  # fmt: skip
def test_trust_that_cannot_be_understood_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(MirrorError):
        policy.load(_trust(tmp_path, text))


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    st.text(max_size=80),
    st.sampled_from(["", "version = 1\n", "version = 1\n[seal]\nkeys = ", "version = 1\nrequire = "]),
)
def test_garbage_as_trust_raises_nothing_else(tmp_path: Path, garbage: str, start: str) -> None:
    with contextlib.suppress(MirrorError):
        policy.load(_trust(tmp_path, start + garbage))


def test_trust_that_cannot_be_read_is_an_error_of_the_home(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", Path("/dev/null")):
        with pytest.raises(HomeError):
            policy.load(folder)
    (tmp_path / "trust.toml").mkdir()
    with pytest.raises(HomeError):
        policy.load(tmp_path)
