"""Work on several processes for `mirror verify`: forked, so that nothing is imported or pickled for it.

Fork only happens here, in a command that has started no thread.
"""

from __future__ import annotations

import json
import os
import selectors
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mirror.errors import LimitError, MalformedError, MirrorError
from mirror.formats import segments
from mirror.verify import container, content, records, verifier
from mirror.verify.verdict import Name

Task = Callable[[Any], Any]  # JSON value → JSON value


def run(task: Task, items: Iterable[Any], jobs: int) -> Iterator[tuple[int, Any]]:
    """Run `task` on each item in `jobs` processes; yields (position, result) as they end.

    Raises `MalformedError` when a task raised one, `MirrorError` when a worker died.
    """
    waiting = enumerate(items)
    with selectors.DefaultSelector() as ready:
        workers: list[_Worker] = []
        try:
            for position, item in waiting:
                worker = _Worker(task, workers)
                workers.append(worker)
                worker.give(position, item)
                ready.register(worker.results, selectors.EVENT_READ, worker)
                if len(workers) >= jobs:
                    break
            busy = len(workers)
            while busy:
                for key, _ in ready.select():
                    worker = key.data
                    position, result = worker.take()
                    following = next(waiting, None)
                    if following is None:
                        ready.unregister(worker.results)
                        busy -= 1
                    else:
                        worker.give(*following)
                    yield position, result
        finally:
            for worker in workers:
                worker.stop()


class _Worker:
    def __init__(self, task: Task, others: Sequence[_Worker]) -> None:
        orders, self._orders = os.pipe()
        self.results, results = os.pipe()
        self._position = 0
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                os.close(self._orders)
                os.close(self.results)
                for other in others:  # or their pipes would never end
                    os.close(other.results)
                    os.close(other._orders)
                _serve(task, orders, results)
                code = 0
            finally:
                os._exit(code)
        os.close(orders)
        os.close(results)

    def give(self, position: int, item: Any) -> None:
        self._position = position
        _send(self._orders, item)

    def take(self) -> tuple[int, Any]:
        answer = _receive(self.results)
        if answer is None:
            raise MirrorError("a verifying process died; run again with --jobs 1 to see where")
        if "error" in answer:
            kind = LimitError if answer["limit"] else MalformedError
            error = kind(answer["error"])
            error.place = answer["place"]
            raise error
        return self._position, answer["result"]

    def stop(self) -> None:
        os.close(self._orders)
        os.close(self.results)
        os.waitpid(self._pid, 0)


def _serve(task: Task, orders: int, results: int) -> None:
    while (item := _receive(orders)) is not None:
        try:
            _send(results, {"result": task(item)})
        except MalformedError as e:
            _send(results, {"error": str(e), "place": e.place, "limit": isinstance(e, LimitError)})


def _send(fd: int, value: Any) -> None:
    data = json.dumps(value).encode()
    view = memoryview(len(data).to_bytes(8) + data)
    while view:
        view = view[os.write(fd, view) :]


def _receive(fd: int) -> Any:
    size = _exactly(fd, 8)
    return None if size is None else json.loads(_exactly(fd, int.from_bytes(size)) or b"null")


def _exactly(fd: int, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = os.read(fd, count - len(data))
        if not piece:
            return None
        data += piece
    return data


# -- ranges of one file


def runner(jobs: int) -> verifier.Runner:
    """A verifier's runner that spreads the ranges of one file over `jobs` processes."""
    return verifier.Runner(jobs=jobs * 4, check=_check(jobs), scan=_scan(jobs)) if jobs > 1 else verifier.HERE


def _check(jobs: int) -> verifier.RunContent:
    def check(path: Path, ranges: Sequence[content.Job], opening: bytes) -> list[content.RangeResult]:
        if len(ranges) == 1:
            return verifier.HERE.check(path, ranges, opening)
        parsed = segments.Opening(opening)
        fd = container.open_file(path)

        def task(number: int) -> list[Any]:
            return _packed(content.check_range(fd, ranges[number], parsed))

        try:
            results = sorted(run(task, range(len(ranges)), jobs))
        finally:
            os.close(fd)
        return [_unpacked(value) for _, value in results]

    return check


def _packed(result: content.RangeResult) -> list[Any]:
    nodes = [[level, index, value.hex()] for level, index, value in result.nodes]
    problems = [[p.name.value, p.place, p.sentence] for p in result.problems]
    return [result.start, result.end, nodes, result.crc, result.size, result.raw, result.digests, problems]


def _unpacked(value: list[Any]) -> content.RangeResult:
    start, end, nodes, crc, size, raw, digests, problems = value
    return content.RangeResult(
        start=start, end=end, nodes=[(level, index, bytes.fromhex(node)) for level, index, node in nodes], crc=crc,
        size=size, raw=raw, digests=digests,
        problems=[content.Problem(name=Name(n), place=p, sentence=s) for n, p, s in problems],
    )  # fmt: skip


def _scan(jobs: int) -> verifier.RunScan:
    def scan(path: Path, ranges: Sequence[tuple[int, int]], compressed: bool) -> list[records.Scan]:
        if len(ranges) == 1:
            return verifier.HERE.scan(path, ranges, compressed)
        fd = container.open_file(path)

        def task(number: int) -> list[Any]:
            s = records.scan(fd, *ranges[number], compressed=compressed)
            problems = [[n.value, p, t] for n, p, t in s.problems]
            return [s.records, s.digests, s.unchecked, s.without_digest, s.raw, s.ours, problems]

        try:
            results = sorted(run(task, range(len(ranges)), jobs))
        finally:
            os.close(fd)
        found = []
        for _, (count, digests, unchecked, without, raw, ours, problems) in results:
            one = records.Scan(
                records=count, digests=digests, unchecked=unchecked, without_digest=without, raw=raw, ours=ours,
                problems=[(Name(n), p, t) for n, p, t in problems],
            )  # fmt: skip
            found.append(one)
        return found

    return scan
