"""The keeper of the extraction child, with a real child: hostile documents, death, limits, no side effects."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.text.pool import Extract, ExtractFailure, Extractor, FailureReason

ROOT = Path(__file__).parents[2]
CAPTURED = datetime(2025, 7, 1, tzinfo=UTC)
GOOD = "<html><head><title>Tựa</title></head><body><article><p>Đồng Tâm, ngày 3/4/2022.</p></article></body></html>"
SLOW = b"<html><body>" + b"<p>a <b>b</b></p>" * 400_000  # seconds of work


@pytest.fixture
def extractor() -> Iterator[Extractor]:
    with Extractor() as running:
        yield running


def ask(extractor: Extractor, body: bytes) -> Extract | ExtractFailure:
    return extractor.extract(body, url="https://example.com/a", http_charset="utf-8", captured=CAPTURED)


def is_healthy(extractor: Extractor) -> bool:
    answer = ask(extractor, GOOD.encode())
    return isinstance(answer, Extract) and answer.title == "Tựa" and "Đồng Tâm" in answer.text


def reason(answer: Extract | ExtractFailure) -> FailureReason:
    assert isinstance(answer, ExtractFailure), answer
    assert answer.detail.endswith("missing") and "example.com" not in answer.detail
    return answer.reason


def child_of(extractor: Extractor) -> subprocess.Popen[bytes]:
    child = extractor._child
    assert child is not None
    return child


def test_document_comes_back_extracted(extractor: Extractor) -> None:
    extractor.warm()
    assert is_healthy(extractor)


def test_child_answers_like_the_function_itself(extractor: Extractor) -> None:
    from mirror.text.extract import extract

    direct = extract(GOOD.encode(), url="https://example.com/a", http_charset="utf-8", captured=CAPTURED)
    assert ask(extractor, GOOD.encode()) == direct


def test_one_child_serves_many_documents(extractor: Extractor) -> None:
    assert is_healthy(extractor)
    first = child_of(extractor).pid
    assert all(is_healthy(extractor) for _ in range(5))
    assert child_of(extractor).pid == first


def test_warm_returns_at_once(extractor: Extractor) -> None:
    start = time.monotonic()
    extractor.warm()
    assert time.monotonic() - start < 0.5
    assert child_of(extractor).poll() is None


def test_hanging_document_times_out_and_the_next_is_served() -> None:
    with Extractor(seconds=0.5) as extractor:
        extractor.warm()
        start = time.monotonic()
        assert reason(ask(extractor, SLOW)) is FailureReason.TIMEOUT
        assert time.monotonic() - start < 60
        assert is_healthy(extractor)


def test_child_that_stops_reading_times_out() -> None:
    with Extractor(seconds=0.5) as extractor:
        assert is_healthy(extractor)
        os.kill(child_of(extractor).pid, signal.SIGSTOP)
        assert reason(ask(extractor, b"x" * 1_000_000)) is FailureReason.TIMEOUT
        assert is_healthy(extractor)


def test_child_killed_in_the_middle_is_a_crash_and_the_next_is_served(extractor: Extractor) -> None:
    assert is_healthy(extractor)
    threading.Timer(0.3, os.kill, (child_of(extractor).pid, signal.SIGKILL)).start()
    assert reason(ask(extractor, SLOW)) is FailureReason.CRASH
    assert is_healthy(extractor)


def test_child_killed_while_idle_is_replaced(extractor: Extractor) -> None:
    assert is_healthy(extractor)
    os.kill(child_of(extractor).pid, signal.SIGKILL)
    child_of(extractor).wait()
    assert is_healthy(extractor)


def test_child_killed_while_loading_is_replaced(extractor: Extractor) -> None:
    extractor.warm()
    os.kill(child_of(extractor).pid, signal.SIGKILL)
    assert is_healthy(extractor)


def test_document_that_takes_the_memory_is_given_up(extractor: Extractor) -> None:
    """The limit is lowered from outside, so that a small document reaches it."""
    import resource

    assert is_healthy(extractor)
    pid = child_of(extractor).pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (20 << 20)
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    assert reason(ask(extractor, SLOW)) is FailureReason.MEMORY
    assert is_healthy(extractor)


def test_too_large_document_is_not_tried(extractor: Extractor) -> None:
    assert reason(ask(extractor, bytes(50 << 20))) is FailureReason.TOO_LARGE
    assert extractor._child is None


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe\x00", os.urandom(1 << 20), b"<div>" * 200_000, b"<" * 1_000_000, b"\0" * 1_000_000],
    ids=["empty", "invalid", "random", "nested", "brackets", "zeros"],
)
def test_hostile_document_leaves_the_child_usable(extractor: Extractor, body: bytes) -> None:
    ask(extractor, body)
    assert is_healthy(extractor)


def test_address_that_is_none_is_refused(extractor: Extractor) -> None:
    answer = extractor.extract(b"x", url="nonsense:", http_charset=None, captured=None)
    assert isinstance(answer, ExtractFailure) and answer.reason is FailureReason.REFUSED


def test_address_without_end_is_too_large(extractor: Extractor) -> None:
    answer = extractor.extract(b"x", url="https://e.com/" + "a" * 1_000_000, http_charset=None, captured=None)
    assert isinstance(answer, ExtractFailure) and answer.reason is FailureReason.TOO_LARGE


def test_two_threads_get_their_own_answers(extractor: Extractor) -> None:
    answers: dict[int, Extract | ExtractFailure] = {}

    def one(number: int) -> None:
        answers[number] = ask(extractor, GOOD.replace("Tựa", f"Tựa {number}").encode())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: a.title for n, a in answers.items() if isinstance(a, Extract)} == {n: f"Tựa {n}" for n in range(8)}


def test_close_leaves_no_process_and_no_pipe() -> None:
    extractor = Extractor()
    extractor.warm()
    child = child_of(extractor)
    extractor.close()
    assert child.returncode is not None
    assert child.stdin is not None and child.stdin.closed


# --- the child by itself --------------------------------------------------------------------------------------------


def python(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=ROOT, capture_output=True, check=False, timeout=120, input=b""
    )


def test_end_of_input_is_status_zero() -> None:
    done = python("import sys; from mirror.text.worker import main; sys.exit(main())")
    assert (done.returncode, done.stdout) == (0, b"\0\0\0\0")


@pytest.mark.parametrize(
    "deed",
    [
        "import socket; socket.socket()",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "open('/dev/null', 'w')",
        "import os; os.open('/dev/null', os.O_RDWR)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "import os; os.remove('/nonexistent')",
    ],
)
def test_child_refuses_to_touch_the_world(deed: str) -> None:
    done = python(f"from mirror.text.worker import refuse_side_effects; refuse_side_effects(); {deed}")
    assert done.returncode == 1
    assert b"PermissionError: the extractor may not do this" in done.stderr


def test_child_has_its_limits() -> None:
    done = python(
        "import os, resource as r; from mirror.text.worker import limit_resources; limit_resources();"
        "kinds = (r.RLIMIT_AS, r.RLIMIT_CORE, r.RLIMIT_FSIZE);"
        "print(*(r.getrlimit(kind)[0] for kind in kinds), r.getrlimit(r.RLIMIT_CPU)[0] < 999)"
    )
    assert done.stdout.split() == [b"1610612736", b"0", b"0", b"True"]


def test_keeper_loads_no_extractor() -> None:
    done = python(
        "import sys, mirror.text.pool;"
        "print([m for m in ('trafilatura', 'lxml', 'asyncio', 'socket', 'pickle') if m in sys.modules])"
    )
    assert done.stdout.strip() == b"[]"
