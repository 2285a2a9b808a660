import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mirror.errors import HomeError
from mirror.store.lock import HomeLock

HOLD = """if True:
    import sys, time; from pathlib import Path; from mirror.store.lock import HomeLock
    with HomeLock(Path(sys.argv[1]), "log"):
        print("held", flush=True); time.sleep(60)"""


def test_shared_locks_stand_together_and_keep_an_exclusive_one_out(tmp_path):
    one, other = (HomeLock(tmp_path, "save", shared=True) for _ in range(2))
    with one, other, pytest.raises(HomeError, match="another mirror process"):
        HomeLock(tmp_path, "save").acquire()
    with HomeLock(tmp_path, "save"), pytest.raises(HomeError, match="`save`"):
        HomeLock(tmp_path, "save", shared=True).acquire()


def test_locks_of_other_names_do_not_meet(tmp_path):
    with HomeLock(tmp_path, "save"), HomeLock(tmp_path, "log"):
        assert sorted(os.listdir(tmp_path)) == ["log.lock", "save.lock"]


def test_lock_file_is_private_and_empty(tmp_path):
    with HomeLock(tmp_path, "save") as lock:
        assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
        assert lock.path.read_bytes() == b""


def test_lock_of_a_killed_process_is_free(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(HomeError):
            HomeLock(tmp_path, "log").acquire()
        child.send_signal(signal.SIGKILL)
        child.wait()
        with HomeLock(tmp_path, "log"):
            pass
    finally:
        child.kill()
        child.communicate()


def test_waiting_lock_is_taken_when_it_becomes_free(tmp_path):
    first = HomeLock(tmp_path, "save")
    first.acquire()
    timer = threading.Timer(0.2, first.release)
    timer.start()
    with HomeLock(tmp_path, "save", wait_s=30):
        pass
    timer.join()


def test_waiting_ends_at_its_deadline(tmp_path):
    started = time.monotonic()
    with HomeLock(tmp_path, "save"), pytest.raises(HomeError):
        HomeLock(tmp_path, "save", wait_s=0.2).acquire()
    assert 0.2 <= time.monotonic() - started < 10


def test_lock_is_taken_once_and_released_any_number_of_times(tmp_path):
    lock = HomeLock(tmp_path, "save")
    lock.acquire()
    with pytest.raises(HomeError, match="already"):
        lock.acquire()
    lock.release()
    lock.release()
    with lock:
        pass


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "a/b"])
def test_odd_lock_names_are_refused(tmp_path, name):
    with pytest.raises(HomeError, match="lock name"):
        HomeLock(tmp_path, name)
