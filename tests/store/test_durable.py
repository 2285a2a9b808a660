import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import HomeError
from mirror.store import durable
from mirror.store.durable import Staged

ROOT = Path(__file__).parents[2]


def python(code: str, *args: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", code, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".tmp-")]


def test_new_file_has_content_and_mode_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a"
    durable.write_new(path, b"one", mode=0o600)
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a"]


def test_chunks_are_written_in_order(tmp_path):
    durable.write_new(tmp_path / "a", (b"%d," % i for i in range(1000)))
    assert (tmp_path / "a").read_bytes() == b"".join(b"%d," % i for i in range(1000))


def test_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "a"
    durable.write_new(path, b"one")
    with pytest.raises(HomeError, match="not overwritten"):
        durable.write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_dangling_symlink_is_not_written_through(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HomeError):
        durable.write_new(tmp_path / "a", b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_replace_swaps_content_in_one_step(tmp_path):
    path = tmp_path / "a"
    durable.replace(path, b"one")
    durable.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


def test_of_many_writers_of_one_name_exactly_one_wins(tmp_path):
    won, lost = [], []

    def write(i: int) -> None:
        try:
            durable.write_new(tmp_path / "a", b"%d" % i)
            won.append(i)
        except HomeError:
            lost.append(i)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1 and len(lost) == 15
    assert (tmp_path / "a").read_bytes() == b"%d" % won[0]


def test_rename_without_hard_links_does_not_overwrite_either(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    with pytest.raises(FileExistsError):
        durable._rename_new(tmp_path / "b", tmp_path / "a")
    durable._rename_new(tmp_path / "b", tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == ["a", "c"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=30))
def test_writev_appends_what_write_would(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("w")
    with Staged.open(folder, ".warc.gz") as staged:
        staged.writev(parts)
        staged.write(b"end")
        assert staged.size == sum(map(len, parts)) + 3
        staged.publish(folder / "a")
    assert (folder / "a").read_bytes() == b"".join(parts) + b"end"


def test_writev_takes_more_parts_than_one_system_call(tmp_path):
    with Staged.open(tmp_path) as staged:
        staged.writev([b"x"] * 5000)
        staged.publish(tmp_path / "a")
    assert (tmp_path / "a").stat().st_size == 5000


def test_short_writes_of_writev_are_completed():
    rests = []

    class Watched(Staged):
        def write(self, data):
            rests.append(memoryview(data).nbytes)
            super().write(data)

    read, write = os.pipe()
    staged = Watched(write, Path("/nonexistent/.tmp-x"))
    parts = [bytes([i]) * 50_000 for i in range(8)]
    got = bytearray()

    def drain() -> None:  # a signal that meets a writer on a full pipe makes the kernel write short
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        time.sleep(0.1)
        while chunk := os.read(read, 70_000):
            got.extend(chunk)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    reader = threading.Thread(target=drain)
    reader.start()
    staged.writev(parts)
    assert staged.size == 400_000
    staged.discard()
    reader.join()
    signal.signal(signal.SIGUSR1, before)
    os.close(read)
    assert bytes(got) == b"".join(parts)
    assert len(rests) == 7 and rests[0] < 50_000 and rests[1:] == [50_000] * 6


def test_unpublished_file_is_discarded(tmp_path):
    with Staged.open(tmp_path, ".warc.gz") as staged:
        staged.write(b"x")
        (name,) = leftovers(tmp_path)
        assert name.endswith(".warc.gz")
    assert os.listdir(tmp_path) == []
    staged.discard()


def test_temporary_names_carry_no_information(tmp_path):
    names = set()
    for _ in range(20):
        with Staged.open(tmp_path) as staged:
            names.add(staged.path.name)
    assert len(names) == 20
    assert all(len(n) == 21 and set(n[5:]) <= set("0123456789abcdef") for n in names)


def test_sweep_spares_the_living_and_removes_the_dead(tmp_path):
    with Staged.open(tmp_path) as alive:
        (tmp_path / ".tmp-dead").write_bytes(b"half")
        (tmp_path / "kept").write_bytes(b"")
        (tmp_path / ".tmp-folder").mkdir()
        (tmp_path / ".tmp-link").symlink_to(tmp_path / "kept")
        os.mkfifo(tmp_path / ".tmp-fifo")
        assert durable.sweep(tmp_path) == 1
        assert alive.path.exists()
    assert sorted(os.listdir(tmp_path)) == [".tmp-fifo", ".tmp-folder", ".tmp-link", "kept"]


def test_sweep_in_another_process_spares_a_live_writer(tmp_path):
    code = """if True:
        import sys; from pathlib import Path; from mirror.store import durable
        print(durable.sweep(Path(sys.argv[1])))"""
    with Staged.open(tmp_path) as staged:
        assert python(code, tmp_path).stdout == "0\n"
        staged.publish(tmp_path / "a")
    assert (tmp_path / "a").exists()


def test_file_of_a_killed_writer_is_swept(tmp_path):
    code = """if True:
        import os, sys; from pathlib import Path; from mirror.store.durable import Staged
        s = Staged.open(Path(sys.argv[1])); s.write(b"half"); os.kill(os.getpid(), 9)"""
    assert python(code, tmp_path).returncode == -signal.SIGKILL
    assert len(leftovers(tmp_path)) == 1
    assert durable.sweep(tmp_path) == 1
    assert os.listdir(tmp_path) == []


def test_writers_and_sweepers_at_once_lose_nothing(tmp_path):
    stop = threading.Event()
    errors = []

    def sweeper() -> None:
        while not stop.is_set():
            durable.sweep(tmp_path)

    def writer(n: int) -> None:
        try:
            for i in range(60):
                durable.write_new(tmp_path / f"{n}-{i}", b"x")
        except HomeError as e:
            errors.append(e)

    sweeping = threading.Thread(target=sweeper)
    writing = [threading.Thread(target=writer, args=(n,)) for n in range(3)]
    sweeping.start()
    for t in writing:
        t.start()
    for t in writing:
        t.join()
    stop.set()
    sweeping.join()
    assert errors == []
    assert len(os.listdir(tmp_path)) == 180


def test_after_a_failed_fsync_nothing_is_published_any_more(tmp_path):
    code = """if True:
        import os, sys; from pathlib import Path
        from mirror.errors import HomeError; from mirror.store import durable
        folder = Path(sys.argv[1])
        durable.write_new(folder / "before", b"")
        staged = durable.Staged.open(folder)
        os.dup2(os.pipe()[1], staged.fd)  # a pipe cannot be synced: a real EINVAL from the kernel
        for attempt in (lambda: staged.publish(folder / "a"), lambda: durable.write_new(folder / "b", b"")):
            try:
                attempt()
            except HomeError as e:
                print(e)"""
    result = python(code, tmp_path)
    assert result.stderr == ""
    first, second = result.stdout.splitlines()
    assert "did not confirm" in first and "verify" in first
    assert "failed earlier" in second
    assert os.listdir(tmp_path) == ["before"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["write", "fsync", "link,linkat"])
def test_error_of_each_system_call_is_a_home_error_and_no_file(tmp_path, call, error):
    code = """if True:
        import sys; from pathlib import Path
        from mirror.errors import HomeError; from mirror.store import durable
        try:
            durable.write_new(Path(sys.argv[1]) / "a", b"data")
        except HomeError:
            sys.exit(6)"""
    before = ("strace", "-f", "-o", "/dev/null", "-e", f"inject={call}:error={error}")
    assert python(code, tmp_path, before=before).returncode == 6
    assert os.listdir(tmp_path) == []


def test_too_large_file_says_so_and_leaves_nothing(tmp_path):
    code = """if True:
        import resource, signal, sys; from pathlib import Path
        from mirror.errors import HomeError; from mirror.store import durable
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            durable.write_new(Path(sys.argv[1]) / "a", b"x" * 2000)
        except HomeError as e:
            print(e)"""
    assert "ulimit -f" in python(code, tmp_path).stdout
    assert os.listdir(tmp_path) == []


def test_too_many_open_files_says_so(tmp_path):
    code = """if True:
        import resource, sys; from pathlib import Path
        from mirror.errors import HomeError; from mirror.store import durable
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        try:
            durable.write_new(Path(sys.argv[1]) / "a", b"x")
        except HomeError as e:
            print(e)"""
    assert "ulimit -n" in python(code, tmp_path).stdout


def test_folders_are_made_with_their_mode_and_existing_ones_are_fine(tmp_path):
    for _ in range(2):
        durable.make_dir(tmp_path / "a" / "b", base=tmp_path, mode=0o700)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_file_in_the_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(HomeError, match="not a folder"):
        durable.make_dir(tmp_path / "a" / "b", base=tmp_path)
    with pytest.raises(HomeError, match="not inside"):
        durable.make_dir(tmp_path, base=tmp_path / "a")


def test_missing_folder_is_a_home_error_for_every_call(tmp_path):
    gone = tmp_path / "gone"
    for call in (
        lambda: durable.write_new(gone / "a", b""),
        lambda: durable.replace(gone / "a", b""),
        lambda: durable.remove(gone / "a"),
        lambda: durable.sync_dir(gone),
        lambda: durable.sweep(gone),
    ):
        with pytest.raises(HomeError, match="does not exist"):
            call()


def test_removing_a_missing_file_is_fine(tmp_path):
    durable.write_new(tmp_path / "a", b"")
    durable.remove(tmp_path / "a")
    durable.remove(tmp_path / "a")
    assert os.listdir(tmp_path) == []
