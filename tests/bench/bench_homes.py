"""A home with 10,000 captures against one with 10: list, search, save. URL look-ups against pywb, a million entries.

The homes hold real capture files, spread over a year; text rows stand ready in the index, as if extracted.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import corpus
import newspaper
from measure import Row, Sample, child, compare, interleaved, median, say, told
from workplace import Work

from mirror import config as configs
from mirror.formats import http1, urls
from mirror.model import CaptureId, CaptureRow, Completeness, Exchange, UrlRow
from mirror.record import Recorder
from mirror.store import home as homes
from mirror.store import secrets
from mirror.store.index import Index
from mirror.text.wire import Extract

FEW, MANY = 10, 10_000
MOST = 1.3
ENTRIES, LOOKUPS = 1_000_000, 20_000
_HERE = Path(__file__).parent
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_EVERYWHERE, _FIVE = "censorship", "đàn áp"  # words that all captures have, and five of each home


def run(work: Work, rounds: int, only: str = "") -> tuple[list[Row], Any]:
    rows: list[Row] = []
    details: dict[str, Any] = {}
    if only in "captures":
        found, details["captures"] = _captures(work, rounds)
        rows += found
    if only in "lookups":
        found, details["lookups"] = _lookups(work, rounds)
        rows += found
    return rows, details


# -- homes


def _captures(work: Work, rounds: int) -> tuple[list[Row], Any]:
    with work.folder() as folder:  # saving adds captures, so to copies
        copies = [folder / str(count) for count in (FEW, MANY)]
        for count, copy in zip((FEW, MANY), copies, strict=True):
            shutil.copytree(_home(work, count), copy)
        return _compared(work, *copies, rounds)


def _compared(work: Work, few: Path, many: Path, rounds: int) -> tuple[list[Row], Any]:
    commands: dict[str, Callable[[Path], Sample]] = {
        "list": lambda home: child([*work.mirror, "list", "--home", home, "--limit", "10"]),
        "search, all match": lambda home: child([*work.mirror, "search", "--home", home, "--limit", "5", _EVERYWHERE]),
        "search, five match": lambda home: child([*work.mirror, "search", "--home", home, "--limit", "5", _FIVE]),
        "save": partial(_save_command, work),
        "save, in process": partial(_save_in_process, work),
        "list, in process": _list_in_process,
        "search, all match, in process": partial(_search_in_process, _EVERYWHERE),
        "search, five match, in process": partial(_search_in_process, _FIVE),
    }
    rows = []
    with work.server():
        for name, command in commands.items():
            times = max(rounds, 3) if "process" in name else max(rounds, 10)
            found = interleaved({str(FEW): partial(command, few), str(MANY): partial(command, many)}, times)
            key, unit, goal = ("ms", "ms", None) if "process" in name else ("wall", "s", MOST)
            goal = MOST if name == "save, in process" else goal
            rows.append(
                compare(
                    f"10,000 captures / 10: {name}", found[str(MANY)], found[str(FEW)], key, unit=unit, at_most=goal
                )
            )
    return rows, {"few": FEW, "many": MANY}


def _save_command(work: Work, home: Path) -> Sample:
    url = f"{newspaper.base(newspaper.PLAIN)}/p/{random.randrange(1000):05d}.html"
    return child([*work.mirror, "save", "--home", home, "--no-text", "--allow-private-hosts", url])


def _save_in_process(work: Work, home: Path) -> Sample:
    command = [sys.executable, _HERE / "client_mirror.py", "--home", home, "--cold", "--count", "20"]
    told_ = told(child([*command, "--base", newspaper.base(newspaper.PLAIN)], env=work.environment(), keep_output=True))
    return {"ms": told_["p50"] * 1000}


def _list_in_process(home: Path) -> Sample:
    return _timed(home, lambda index: list(index.captures(10)))


def _search_in_process(words: str, home: Path) -> Sample:
    return _timed(home, lambda index: index.search(words, 5))


def _timed(home: Path, call: Callable[[Index], Sequence[object]]) -> Sample:
    with Index.open(homes.Home(home).index_path, read_only=True) as index:
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            assert call(index)
            seconds.append(time.perf_counter() - began)
    return {"ms": statistics.median(seconds) * 1000}


def _home(work: Work, count: int) -> Path:
    """A home with `count` captures; files and index are written without waiting for the disk."""
    root = work.root / f"home-{count}"
    if not (root / "filled").exists():
        say(f"filling a home with {count} captures …")
        shutil.rmtree(root, ignore_errors=True)
        place = homes.Home(work.home(root))
        config = configs.load(place.config_path)
        key = secrets.load(place.secrets_dir, config.seal.keys[0], lambda: b"")
        source = random.Random(count)
        with Index.build(place.index_path) as index:
            for number in range(count):
                _capture(place, key, index, source, number, count)
        (root / "filled").touch()
    return root


@dataclass
class _Sink:
    """A file that nobody waits for."""

    fd: int

    def writev(self, parts: Sequence[bytes | memoryview]) -> None:
        os.write(self.fd, b"".join(parts))


def _capture(
    place: homes.Home, key: secrets.SecretKey, index: Index, source: random.Random, number: int, count: int
) -> None:
    started = _BEGIN + timedelta(days=365) * number / count
    capture = CaptureId(str(uuid.UUID(int=source.getrandbits(128), version=4)))
    path = homes.capture_path(place, capture, started)
    path.parent.mkdir(parents=True, exist_ok=True)
    url = f"https://www.example{number % 50}.vn/bai-{number:05d}.html"
    words = f"{corpus.text(source, 2000)} {_EVERYWHERE} {_FIVE if number % max(1, count // 5) == 0 else ''}"
    body = f"<html><head><title>Bài {number}</title></head><body><p>{words}</p></body></html>".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    clock = started.timestamp()
    exchange = Exchange(
        url=url, request=b"GET / HTTP/1.1\r\n\r\n", started=clock, head=head, body=[body], body_size=len(body),
        status=200, fields=http1.parse_head(head).fields,
    )  # fmt: skip
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    recorder = Recorder(_Sink(fd), capture, random=source.randbytes(44))
    recorder.info("mirror/bench", clock)
    written = recorder.exchange(exchange)
    assert written is not None
    recorder.exchanges(clock)
    outcome = {"capture": capture, "target": url, "completeness": "complete", "page": 1, "status": 200}
    recorder.metadata("outcome", "application/json", [json.dumps(outcome).encode()], clock)
    sealed = recorder.seal([key], started=clock, finished=clock, version="0")
    os.close(fd)
    when = written.date
    surt = urls.surt(urls.parse_href(url))
    found = UrlRow(
        surt=surt, date=when, url=url, status=200, mime="text/html", digest=f"sha256:{written.digest}",
        record=written.number, offset=written.offset, length=written.length,
    )  # fmt: skip
    row_ = CaptureRow(
        id=capture, path=path.relative_to(place.archives).as_posix(), target=url, surt=surt, started=when,
        finished=when, completeness=Completeness.COMPLETE, origin="captured", missing=0, status=200, page=1,
        records=sealed.records, size=sealed.size, root=sealed.root, signers=sealed.signers, urls=(found,),
    )  # fmt: skip
    index.add(row_)
    text = Extract(
        title=f"Bài {number}", author=None, date=None, language="vi", text=words, links=(), tool="bench",
        tool_version="0", encoding="utf-8",
    )  # fmt: skip
    index.add_text(capture, text)


# -- URL look-ups


def _lookups(work: Work, rounds: int) -> tuple[list[Row], Any]:
    folder = work.root / "lookups"
    folder.mkdir(exist_ok=True)
    database, cdxj = folder / "index.sqlite3", folder / "all.cdxj"
    if not cdxj.exists():
        _make_indexes(database, cdxj)
    keys = _keys()
    asked = folder / "keys.json"
    asked.write_text(json.dumps(keys[: LOOKUPS // 10]))  # pywb is slower: a tenth is enough
    pywb = [work.peer("python", "venv-pywb"), _HERE / "client_pywb.py"]

    def mirror() -> Sample:
        with Index.open(database, read_only=True) as index:
            began = time.process_time()
            found = sum(index.lookup(key) is not None for key in keys)
            used = time.process_time() - began
        assert found == len(keys)
        return {"per_cpu_s": len(keys) / used}

    found = interleaved(
        {
            "mirror": mirror,
            "pywb": lambda: told(child([*pywb, cdxj, asked], keep_output=True)),
        },
        rounds,
    )
    rows = [
        compare("URL look-ups, a million entries: pywb", found["mirror"], found["pywb"], "per_cpu_s",
                unit="per CPU s", at_least=5, less_is_better=False)
    ]  # fmt: skip
    return rows, {name: median(v, "per_cpu_s") for name, v in found.items()}


def _entries() -> Iterator[tuple[str, datetime, int]]:
    """Sorted keys and times: 400 articles a site, every fourth captured three times."""
    made = article = 0
    while True:
        for again in range(3 if article % 4 == 0 else 1):
            if made == ENTRIES:
                return
            yield _key(article), _BEGIN + timedelta(days=again, minutes=article * 37 % 1440), made
            made += 1
        article += 1


def _key(article: int) -> str:
    return f"vn,host{article // 400:06d})/tin-tuc/bai-{article % 400:05d}-{article * 2654435761 & 0xFFFFFFFF:08x}.html"


def _keys() -> list[str]:
    source = random.Random(5)
    return [_key(source.randrange(ENTRIES * 2 // 3 - 10)) for _ in range(LOOKUPS)]


def _make_indexes(database: Path, cdxj: Path) -> None:
    """The same entries for both: 25,000 captures of 40 URLs, and a CDXJ file."""
    say("making indexes of a million entries …")
    database.unlink(missing_ok=True)
    unfinished = cdxj.with_suffix(".part")
    rows: list[UrlRow] = []
    with Index.build(database) as index, unfinished.open("w") as lines:
        for key, when, number in _entries():
            host, path = key.split(")", 1)
            url = f"https://www.{host[3:]}.vn{path}"
            digest = sha256(str(number).encode()).hexdigest()
            date = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            size, offset = 20_000 + number % 5_000, number * 21_000 % 10**9
            rows.append(
                UrlRow(surt=key, date=date, url=url, status=200, mime="text/html", digest=f"sha256:{digest}",
                       record=len(rows), offset=offset, length=size)
            )  # fmt: skip
            fields = {
                "url": url, "mime": "text/html", "status": "200", "digest": f"sha256:{digest}", "length": str(size),
                "offset": str(offset), "filename": f"rec-{number // 40:06d}.warc.gz",
            }  # fmt: skip
            lines.write(f"{key} {when:%Y%m%d%H%M%S} {json.dumps(fields)}\n")
            if len(rows) == 40:
                index.add(_holder(number, rows))
                rows = []
    unfinished.rename(cdxj)


def _holder(number: int, found: list[UrlRow]) -> CaptureRow:
    first = found[0]
    return CaptureRow(
        id=CaptureId(str(uuid.UUID(int=number, version=4))), path=f"captures/{number}.warc.gz", target=first.url,
        surt=first.surt, started=first.date, finished=first.date, completeness=Completeness.COMPLETE,
        origin="captured", missing=0, status=200, page=0, records=len(found), size=1, root="", signers=(),
        urls=tuple(found),
    )  # fmt: skip
