"""WARC files to verify, as a crawler writes them: WARC 1.1, a gzip member (zlib 6) a record, SHA-256 digests.

mixed256   by stored bytes some 40 % video-like bodies of 2 to 24 MiB, 42 % picture-like ones of 15 to 400 KiB, the rest
           HTML, 60 % of it sent gzip-coded; a request record for each response
small256   answers of an API, 4 KiB of JSON each, responses only
Everything comes from seeded generators: the same files on every machine.
"""

from __future__ import annotations

import random
import uuid
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path

_ROOTS = (
    "nguoi dan bao chi tin tuc chinh phu viet nam ha noi sai gon mang xa hoi tu do ngon luan phap luat quyen con the "
    "world news report state order remove post video article source editor minister police court press"
)
_LETTERS = "aeioubcdghklmnprstvyăâđêôơưáàảạếệộớợ"
MIXED_CHUNK = 100 << 20
SMALL_CHUNK = 10_000


@cache
def _words() -> list[str]:
    """Six thousand words: half of them real syllables, half letters with marks."""
    source, roots = random.Random(7), _ROOTS.split()
    found = []
    for _ in range(6000):
        if source.random() < 0.5:
            found.append("".join(source.choice(roots) for _ in range(source.choice((1, 1, 1, 2)))))
        else:
            found.append("".join(source.choice(_LETTERS) for _ in range(source.randint(2, 9))))
    return found


def text(source: random.Random, size: int) -> str:
    """About `size` bytes of words, some of them much more often than others."""
    words = _words()
    out, total = [], 0
    while total < size:
        word = words[min(int(source.paretovariate(0.55)) - 1, len(words) - 1)]
        out.append(word)
        total += len(word.encode()) + 1
    return " ".join(out)


def page(source: random.Random, size: int, links: tuple[str, ...] = (), *, menu: bool = True) -> bytes:
    """An article of about `size` bytes; `links`: its style sheets, scripts and pictures."""
    parts = ["<!doctype html><html lang=vi><head><meta charset=utf-8><title>", text(source, 60), "</title>"]
    parts += [f'<link rel=stylesheet href="{u}">' for u in links if u.endswith(".css")]
    parts += [f'<script src="{u}" defer></script>' for u in links if u.endswith(".js")]
    parts.append('</head><body><header class="site-header"><nav>')
    for number in range(20):
        where = f' href="/section/{number}"' if menu else ""
        parts.append(f'<a class="nav-item nav-item-{number}"{where}>{text(source, 12)}</a>')
    parts.append("</nav></header><main><article>")
    pictures = [u for u in links if u.endswith(".jpg")]
    total, number = sum(map(len, parts)), 0
    while total < size:
        if number < len(pictures):
            parts.append(
                f'<figure class="article-image wide"><img src="{pictures[number]}" alt="{text(source, 40)}" '
                f'loading="eager"><figcaption>{text(source, 60)}</figcaption></figure>'
            )
        block = f"{source.getrandbits(64):016x}"
        parts.append(f'<p class="article-paragraph" data-block-id="{block}">{text(source, 400)}</p>')
        total += 470
        number += 1
    parts.append(f"</article></main><footer>{text(source, 300)}</footer></body></html>")
    return "".join(parts).encode()


def picture(source: random.Random, size: int) -> bytes:
    return b"\xff\xd8\xff\xe0" + source.randbytes(size)


def mixed(path: Path, jobs: int) -> None:
    """1.27 GB, 1.59 GB unpacked."""
    _write(path, _mixed_chunk, range(1, 13), jobs)


def small(path: Path, jobs: int) -> None:
    """200,000 records, 0.31 GB, 0.93 GB unpacked."""
    _write(path, _small_chunk, range(1, 21), jobs)


def _write(path: Path, make: Callable[[int], bytes], seeds: range, jobs: int) -> None:
    about = b"software: tests/bench\r\nformat: WARC File Format 1.1\r\n"
    first = _record(random.Random(0), "warcinfo", "urn:x", about, "2026-06-01T00:00:00Z", "application/warc-fields")
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file, ProcessPoolExecutor(jobs) as pool:
        file.write(first)
        for chunk in pool.map(make, seeds):
            file.write(chunk)
    unfinished.rename(path)


def _mixed_chunk(seed: int) -> bytes:
    source = random.Random(seed)
    out, total, video, html, number = [], 0, 0, 0, seed * 100_000
    while total < MIXED_CHUNK:
        number += 1
        if video < 0.40 * total:
            made = _exchange(source, number, "video/mp4", source.randbytes(source.randint(2 << 20, 24 << 20)))
            video += len(made)
        elif html < 0.18 * total:
            body, coding = page(source, source.randint(8_000, 160_000)), b""
            if source.random() < 0.6:
                packer = zlib.compressobj(6, zlib.DEFLATED, 31)
                body, coding = packer.compress(body) + packer.flush(), b"Content-Encoding: gzip\r\n"
            made = _exchange(source, number, "text/html", body, coding)
            html += len(made)
        else:
            made = _exchange(source, number, "image/jpeg", picture(source, source.randint(15_000, 400_000)))
        out.append(made)
        total += len(made)
    return b"".join(out)


def _small_chunk(seed: int) -> bytes:
    source = random.Random(seed)
    pool = [text(source, 4096) for _ in range(64)]
    out = []
    for number in range(seed * 100_000, seed * 100_000 + SMALL_CHUNK):
        words = source.choice(pool)
        turn = source.randrange(len(words))
        who = f'{{"name":"{text(source, 12)}","id":{source.getrandbits(40)}}}'
        content = f'{{"id":"{source.getrandbits(64):016x}","author":{who},"text":"{words[turn:]}{words[:turn]}'
        body = content.encode()[:4096]
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Id: {source.getrandbits(64):016x}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        url = f"https://api.example.org/post/{number:09d}"
        out.append(_record(source, "response", url, head + body, "2026-06-01T10:00:00Z", _HTTP % "response", body))
    return b"".join(out)


_HTTP = "application/http; msgtype=%s"


def _exchange(source: random.Random, number: int, mime: str, body: bytes, coding: bytes = b"") -> bytes:
    path = f"/{mime.partition('/')[0]}/{number:08d}"
    url = f"https://www.example.org{path}"
    date = f"2026-06-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:00.{number % 1_000_000:06d}Z"
    head = (
        b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 01 Jun 2026 10:00:00 GMT\r\nContent-Type: %b\r\n%b"
        b'Cache-Control: max-age=60\r\nVary: Accept-Encoding\r\nETag: "%016x"\r\nContent-Length: %d\r\n'
        b"Connection: keep-alive\r\n\r\n" % (mime.encode(), coding, source.getrandbits(64), len(body))
    )
    request = (
        f"GET {path} HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip\r\n\r\n"
    ).encode()
    response = _record(source, "response", url, head + body, date, _HTTP % "response", body)
    return response + _record(source, "request", url, request, date, _HTTP % "request")


def _record(
    source: random.Random, kind: str, url: str, block: bytes, date: str, content_type: str, payload: bytes | None = None
) -> bytes:
    lines = [
        "WARC/1.1", f"WARC-Type: {kind}", f"WARC-Record-ID: <urn:uuid:{uuid.UUID(int=source.getrandbits(128))}>",
        f"WARC-Target-URI: {url}", f"WARC-Date: {date}",
    ]  # fmt: skip
    if payload is not None:
        lines.append(f"WARC-Payload-Digest: sha256:{sha256(payload).hexdigest()}")
    lines += [f"WARC-Block-Digest: sha256:{sha256(block).hexdigest()}", f"Content-Type: {content_type}"]
    head = "\r\n".join([*lines, f"Content-Length: {len(block)}\r\n\r\n"]).encode()
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(head + block + b"\r\n\r\n") + packer.flush()
