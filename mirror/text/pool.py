"""Keep the extraction child: start it, feed it, and replace it when a document hangs, kills or overfills it.

One hostile document never harms the next one or the caller. Nothing of the extractor is loaded in this process.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mirror.errors import MalformedError, MirrorError
from mirror.text import wire
from mirror.text.wire import Extract, ExtractFailure, FailureReason

__all__ = ["Extract", "ExtractFailure", "Extractor", "FailureReason"]

LARGEST_BODY = 16 << 20
"""Bytes of HTML that are tried; no article is larger, and parsing takes up to sixty times this in memory."""

_START_SECONDS = 120.0  # loading takes one second, more on a machine that is busy
_DOCUMENTS_PER_CHILD = 500  # the libraries below keep caches that grow
_DYING_SECONDS = 2.0  # between closing its pipes and the end of a process
_PIPE_PIECE = 1 << 16


class Extractor:
    """Extracts one document at a time, in a child process that starts with the first document or `warm()`.

    May be used from several threads (they wait for each other). `seconds` is wall-clock time per document, `largest`
    bytes of body. Close it, or use it as a context manager; it can be used again after `close()`.
    """

    def __init__(self, *, seconds: float = 30.0, largest: int = LARGEST_BODY) -> None:
        self._seconds = seconds
        self._largest = largest
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._served = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm(self) -> None:
        """Start the child now, without waiting until it has loaded the extractor."""
        with self._lock:
            self._running_child()

    def extract(
        self, body: bytes, *, url: str, http_charset: str | None, captured: datetime | None
    ) -> Extract | ExtractFailure:
        """Extract from one document (see `mirror.text.extract.extract`); every trouble it makes is an `ExtractFailure`.

        Raises `MirrorError` only when no child can be started at all.
        """
        if len(body) > self._largest:
            return ExtractFailure(
                reason=FailureReason.TOO_LARGE,
                detail=f"the page has {len(body)} bytes and {self._largest} are tried; the capture is whole, only its "
                "text is missing",
            )
        request = wire.Request(url=url, http_charset=http_charset, captured=captured, length=len(body))
        message = wire.request_frame(request)
        if len(message) > wire.LONGEST_REQUEST_HEADER:
            return ExtractFailure(reason=FailureReason.TOO_LARGE, detail="the address of the page is too long")
        with self._lock:
            try:
                return self._ask(message, body)
            except BaseException:
                self._stop()  # interrupted in mid-answer: the rest must not become the answer to the next document
                raise

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._stop()

    def _ask(self, message: bytes, body: bytes) -> Extract | ExtractFailure:
        child = self._ready_child()
        deadline = time.monotonic() + self._seconds
        try:
            _write(child, message, deadline)
            _write(child, body, deadline)
            answer = wire.parse_answer(_read_frame(child, deadline))
        except TimeoutError:
            self._stop()
            return _too_slow(f"the page took more than {self._seconds:g} s")
        except MalformedError as e:
            self._stop()
            return _crashed(str(e))
        except (BrokenPipeError, EOFError):
            return self._post_mortem()
        self._served += 1
        if isinstance(answer, ExtractFailure) or self._served >= _DOCUMENTS_PER_CHILD:
            self._stop()  # after a failure nobody knows what is left of the heap
        return answer

    def _post_mortem(self) -> ExtractFailure:
        """Say of what the child died."""
        status = self._stop(patience=_DYING_SECONDS)
        if status == -signal.SIGXCPU:
            return _too_slow("the page took too much processor time")
        if status is not None and status < 0:
            return _crashed(f"the extractor died of signal {-status}")
        return _crashed(f"the extractor ended with status {status}")

    def _ready_child(self) -> subprocess.Popen[bytes]:
        """Return a child that has loaded the extractor. One that died while idle is replaced."""
        for _ in range(2):
            child = self._running_child()
            if self._is_ready:
                return child
            try:
                frame = _read_frame(child, time.monotonic() + _START_SECONDS)
            except TimeoutError as e:
                raise MirrorError(f"the extractor did not start within {_START_SECONDS:g} s; try again later") from e
            except EOFError:
                self._stop()
                continue
            if frame:
                raise MirrorError("the extractor does not speak our protocol; reinstall mirror")
            self._is_ready = True
            return child
        raise MirrorError("the extractor does not start; run `python -m mirror.text.worker` to see why")

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self._stop()
        if self._child is None:
            self._child = _start()
            self._is_ready = False
            self._served = 0
        return self._child

    def _stop(self, patience: float = 0.0) -> int | None:
        """End the child and return its status. One that is ending by itself gets `patience` seconds to do so."""
        child, self._child = self._child, None
        if child is None:
            return None
        try:
            status = child.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        return status


def _start() -> subprocess.Popen[bytes]:
    """Start a child with an environment of its own: where the code is, and nothing that changes an answer."""
    here = str(Path(__file__).resolve().parents[2])
    environment = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([here, *filter(None, sys.path)])),
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", "mirror.text.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
            start_new_session=True,  # an interrupt from the terminal is ours to handle
        )
    except OSError as e:
        raise MirrorError(f"the extractor does not start ({e.strerror}); free memory or processes and try again") from e
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
    return child


def _write(child: subprocess.Popen[bytes], data: bytes, deadline: float) -> None:
    """Write all of `data`. Raises `BrokenPipeError` when the child is gone, `TimeoutError` after the deadline."""
    if child.stdin is None:
        raise BrokenPipeError
    rest = memoryview(data)
    descriptor = child.stdin.fileno()
    while rest:
        _wait(descriptor, select.POLLOUT, deadline)
        try:
            rest = rest[os.write(descriptor, rest[:_PIPE_PIECE]) :]
        except BlockingIOError:  # less room than announced: wait for more
            continue


def _read_frame(child: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read one frame. Raises `EOFError` when the child is gone, `TimeoutError` after the deadline, `MalformedError`."""
    size = int.from_bytes(_read(child, wire.FRAME_HEAD, deadline), "big")
    if size > wire.LONGEST_ANSWER:
        raise MalformedError("the answer of the extractor is too long")
    return _read(child, size, deadline)


def _read(child: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
    if child.stdout is None:
        raise EOFError
    descriptor = child.stdout.fileno()
    data = bytearray()
    while len(data) < size:
        _wait(descriptor, select.POLLIN, deadline)
        try:
            piece = os.read(descriptor, min(size - len(data), 1 << 20))
        except BlockingIOError:  # nothing there after all: wait for more
            continue
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


def _too_slow(what: str) -> ExtractFailure:
    return ExtractFailure(
        reason=FailureReason.TIMEOUT, detail=f"{what} to read; the capture is whole, only its text is missing"
    )


def _crashed(what: str) -> ExtractFailure:
    return ExtractFailure(
        reason=FailureReason.CRASH, detail=f"{what}; the capture is whole, only this page's text is missing"
    )
