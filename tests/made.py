"""Real capture files, made with the recorder, for tests that read them."""

from __future__ import annotations

import gzip
import json
import os
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mirror.formats import http1
from mirror.model import CaptureId, Exchange
from mirror.record import Recorder
from mirror.store import durable, home, secrets
from mirror.store.home import Home

KEY = secrets.generate("mirror-seal-test")
ARTICLE = (
    "<html lang=vi><head><title>{title}</title></head><body><article><h1>{title}</h1>"
    "<p>{text}</p><p>{text}</p></article></body></html>"
)


def answer(
    url: str, body: bytes, *, mime: str = "text/html; charset=utf-8", status: int = 200, extra: str = ""
) -> Exchange:
    """An exchange with a whole answer; `extra` are more header lines."""
    head = f"HTTP/1.1 {status} Fine\r\nContent-Type: {mime}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode()
    return Exchange(
        url=url, request=b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", head=head, body=[body] if body else [],
        body_size=len(body), status=status, fields=http1.parse_head(head).fields,
    )  # fmt: skip


def chunked(url: str, parts: list[bytes]) -> Exchange:
    """An exchange whose answer is chunked, gzip-coded text."""
    packed = gzip.compress(b"".join(parts), mtime=0)
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (packed[:7], packed[7:])) + b"0\r\n\r\n"
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Encoding: gzip\r\n\r\n"
    )
    return Exchange(
        url=url, request=b"GET / HTTP/1.1\r\n\r\n", head=head, body=[body], body_size=len(body), status=200,
        fields=http1.parse_head(head).fields, chunked=True,
    )  # fmt: skip


@dataclass
class Maker:
    """Makes captures in a home; the ids come from a seeded source, so that they can be told beforehand."""

    place: Home
    source: random.Random = field(default_factory=lambda: random.Random(7))

    def capture(
        self,
        target: str = "https://example.vn/tin",
        exchanges: list[Exchange] | None = None,
        *,
        started: datetime = datetime(2026, 11, 21, 10, 2, 3, tzinfo=UTC),
        missing: list[dict[str, str]] | None = None,
        completeness: str | None = None,
        title: str = "Tin",
        text: str = "Đảng Cộng sản Việt Nam đàn áp người bất đồng chính kiến ở Đồng Tâm",
    ) -> Path:
        if exchanges is None:
            exchanges = [answer(target, ARTICLE.format(title=title, text=text).encode())]
        capture = CaptureId(str(uuid.UUID(int=self.source.getrandbits(128), version=4)))
        path = home.capture_path(self.place, capture, started)
        durable.make_dir(path.parent, base=self.place.root)
        clock = started.timestamp()
        with durable.Staged.open(path.parent) as staged:
            recorder = Recorder(staged, capture, random=os.urandom(44))
            recorder.info("mirror/test", clock)
            page, status = None, 0
            for number, exchange in enumerate(exchanges):
                exchange.started = clock + number
                written = recorder.exchange(exchange)
                if written is not None and page is None:
                    page, status = written.number, exchange.status
            recorder.exchanges(clock + 50)
            if completeness is None:
                completeness = "failed" if page is None else "partial" if missing else "complete"
            outcome = {
                "capture": capture, "target": target, "started": "", "finished": "",
                "completeness": completeness,
                "missing": missing or [], "page": page, "status": status, "origin": "captured",
            }  # fmt: skip
            recorder.metadata("outcome", "application/json", [json.dumps(outcome).encode()], clock + 51)
            recorder.seal([KEY], started=clock, finished=clock + 52, version="0")
            staged.publish(path)
        return path
