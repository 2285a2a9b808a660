"""Extract documents in a process of its own: `python -m mirror.text.worker`, driven by `mirror.text.pool`.

Reads requests on stdin, answers on stdout (`mirror.text.wire`), ends with status 0 at the end of stdin. Hostile pages
are expected: memory, CPU time per document, core dumps and file sizes are limited by the kernel, and an audit hook
refuses sockets, processes and files opened for writing.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from typing import BinaryIO

from mirror.errors import MalformedError, MirrorError
from mirror.text import wire

MEMORY = 1536 << 20  # bytes of address space
CPU_SECONDS = 60  # for one document
NICENESS = 10
_START_CPU_SECONDS = 60  # loading the extractor
_STATUS_MEMORY = 3


def main() -> int:
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    limit_resources()
    refuse_side_effects()
    logging.getLogger().addHandler(logging.NullHandler())  # the libraries log URLs: nothing is printed
    from mirror.text.extract import extract  # after the limits: loading it runs foreign code

    answers.write(wire.READY)
    answers.flush()
    while (received := read_request(requests)) is not None:
        request, body = received
        _limit_cpu(CPU_SECONDS)
        answer: wire.Extract | wire.ExtractFailure
        try:
            answer = extract(body, url=request.url, http_charset=request.http_charset, captured=request.captured)
        except MemoryError:
            answer = wire.ExtractFailure(reason=wire.FailureReason.MEMORY, detail=_memory_detail())
        except MirrorError as e:
            answer = wire.ExtractFailure(reason=wire.FailureReason.REFUSED, detail=str(e))
        answers.write(wire.answer_frame(answer))
        answers.flush()
        if isinstance(answer, wire.ExtractFailure) and answer.reason is wire.FailureReason.MEMORY:
            return _STATUS_MEMORY  # what is left of the heap is not worth keeping
    return 0


def limit_resources() -> None:
    """Set the limits of this process; they can only become tighter."""
    _lower(resource.RLIMIT_AS, MEMORY)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _limit_cpu(_START_CPU_SECONDS)
    os.nice(NICENESS)


def refuse_side_effects() -> None:
    """Make this process refuse to open sockets, start processes and open files for writing, for good."""
    sys.dont_write_bytecode = True
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            refused = isinstance(flags, int) and bool(flags & writing)
        else:
            refused = event.startswith(_REFUSED_EVENTS)
        if refused:
            raise PermissionError(f"the extractor may not do this: {event}")

    sys.addaudithook(refuse)


_REFUSED_EVENTS = (
    *("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty."),
    *("os.remove", "os.rename", "os.link", "os.symlink", "os.truncate", "os.mkdir", "os.rmdir", "os.chmod", "shutil."),
)


def read_request(stream: BinaryIO) -> tuple[wire.Request, bytes] | None:
    """Read one request and its body; None at the end of the stream. Raises `MalformedError` on anything else."""
    head = stream.read(wire.FRAME_HEAD)
    if not head:
        return None
    size = int.from_bytes(head, "big")
    if len(head) < wire.FRAME_HEAD or size > wire.LONGEST_REQUEST_HEADER:
        raise MalformedError("a request to the extractor has no proper length")
    request = wire.parse_request(stream.read(size))
    body = stream.read(request.length)
    if len(body) < request.length:
        raise MalformedError("a request to the extractor ends early")
    return request, body


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (bound, bound))


def _limit_cpu(seconds: int) -> None:
    """Allow so many seconds of CPU time from now on; the limit counts from the start of the process, so it rises."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    bound = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _memory_detail() -> str:
    return f"the page needs more than {MEMORY >> 20} MiB to read; the capture is whole, only its text is missing"


if __name__ == "__main__":
    sys.exit(main())
