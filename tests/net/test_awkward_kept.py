"""Whatever a server answers, the file that keeps it verifies to the last digest, here and with other tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid

from awkward import CLOSED, CUT, KEEP, WHOLE
from servers import chunked, run, serving, then_close, then_hold
from warcio.archiveiterator import ArchiveIterator

from mirror.formats.urls import parse_href
from mirror.model import CaptureId
from mirror.net.connector import Vantage
from mirror.net.fetch import Fetcher
from mirror.net.guard import Guard
from mirror.net.wire import FetchLimits
from mirror.record import Recorder
from mirror.store import durable, secrets
from mirror.verify import policy, verifier
from mirror.verify.verdict import Outcome

LARGE = chunked(b"x" * 1_500_000, 100_000)
CODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MORE = {
    "line-feed-head-then-empty-lines": b"HTTP/1.1 200 OK\nContent-Length: 10\n\nab\r\n\r\ncd\n\n",
    "mixed-line-ends": b"HTTP/1.1 200 OK\r\nContent-Length: 10\n\r\nab\n\ncd\r\n\r\n",
    "coded-twice": KEEP + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
    "chunked-not-last": KEEP + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + chunked(b"abc"),
    "chunked-folded": KEEP + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + chunked(b"abcdef", 2),
    "headless-with-empty-line": b"<html>\r\n\r\nhello</html>",
    "headless-that-looks-chunked": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "headless-binary": bytes(range(256)) * 4,
    "headless-large": b"\0\r\n\r\n" * 400_000,
    "bad-status": b"HTTP/1.1 OK\r\nA: b\r\n\r\nhello",
    "other-version": b"HTTP/2 200 OK\r\nA: b\r\n\r\nhello",
    "large-chunked": CODED + LARGE,
    "large-broken": CODED + LARGE[:-5] + b"zz\r\nhmm",
    "large-cut": CODED + LARGE[:-700_000],
}


def test_every_awkward_answer_is_sealed_verified_and_readable(tmp_path):
    answers = {**WHOLE, **CLOSED, **CUT, **MORE}
    pages = {f"/{name}": then_close(raw) for name, raw in answers.items()}
    pages["/held-head"] = then_hold(b"HTTP/1.1 200 OK\r\n")
    pages["/held-interim"] = then_hold(b"HTTP/1.1 103 Early\r\n\r\n")
    path = tmp_path / "awkward.warc.gz"
    key = secrets.generate("mirror-seal-test")

    async def main() -> None:
        own = Fetcher(vantage=Vantage(), guard=Guard(allow_private=True), spool=tempfile.TemporaryFile)
        identity, now = CaptureId(str(uuid.uuid4())), time.time()
        with durable.Staged.open(tmp_path) as staged:
            recorder = Recorder(staged, identity, random=os.urandom(44))
            recorder.info("mirror/test", now)
            async with serving(pages) as site, own:
                for _ in range(2):  # the second time most are duplicates
                    for name in pages:
                        url = parse_href(site.url(name))
                        exchange = await own.fetch(url, headers=[], limits=FetchLimits(idle_s=0.3, total_s=20))
                        recorder.exchange(exchange)
                        if exchange.spool is not None:
                            exchange.spool.close()
            recorder.exchanges(now)
            recorder.metadata("outcome", "application/json", [json.dumps({"capture": identity}).encode()], now)
            recorder.seal([key], started=now, finished=time.time(), version="0")
            staged.publish(path)

    run(main())
    verdict = verifier.verify(path, policy.TrustPolicy(), deep=True)
    assert verdict.outcome is Outcome.NOT_PROVEN, verdict.headline  # nobody is trusted here; nothing contradicts
    checked = subprocess.run(
        [sys.executable, "-m", "warcio.cli", "check", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr

    kept: dict[str, bytes] = {}
    with open(path, "rb") as file:
        for record in ArchiveIterator(file, no_record_parse=True):
            name = (record.rec_headers.get_header("WARC-Target-URI") or "").rpartition("/")[2]
            if record.rec_type == "revisit":
                head = record.raw_stream.read()
                assert answers[name].startswith(head) and head.endswith(b"\n"), name
                kept.setdefault(name, answers[name])  # its body stands under another name
            if record.rec_type == "response":
                kept.setdefault(name, record.raw_stream.read())
                cut = record.rec_headers.get_header("WARC-Truncated")
                assert bool(cut) is (name in CUT or name == "large-cut" or name.startswith("held")), name
    for name, raw in answers.items():
        if name != "only-interim":
            assert kept[name] == raw, name
    assert kept["held-head"] == b"HTTP/1.1 200 OK\r\n"
