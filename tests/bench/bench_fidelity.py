"""Ten awkward answers from a raw loopback server: who keeps them byte for byte, and marks the one that is cut?"""

from __future__ import annotations

import contextlib
import gzip
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_capture
from measure import Row, child, row
from warcio.archiveiterator import ArchiveIterator
from workplace import Work

_HERE = Path(__file__).parent
_PACKED = gzip.compress(b"<html>" + b"hello world " * 400 + b"</html>", mtime=0)
_HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


def _chunks(body: bytes, size: int = 700, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    pieces = (body[i : i + size] for i in range(0, len(body), size))
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n" + trailer + b"\r\n"


CASES = {
    "plain": b"HTTP/1.1 200 OK\r\nserver: x\r\nX-dUp: 1\r\nX-Dup: 2\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n"
    b"Content-Type:text/html\r\ncontent-length: 11\r\n\r\nhello world",
    "odd-bytes": b"HTTP/1.1 200 Tr\xe8s bien\r\nX-Title: \xe1\xba\xa1\xff\xfe\r\nContent-Type: text/html\r\n"
    b"Content-Length: 5\r\n\r\nhello",
    "gzip": _HTML + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_PACKED) + _PACKED,
    "chunked": _HTML + b"Transfer-Encoding: chunked\r\n\r\n" + _chunks(b"x" * 3000),
    "chunked-gzip": _HTML + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + _chunks(_PACKED, 13),
    "trailer": _HTML
    + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    + _chunks(b"y" * 2000, extension=b";a=b", trailer=b"X-T: 1\r\n"),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /plain\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nmove",
    "blocked-451": b"HTTP/1.1 451 Unavailable For Legal Reasons\r\nLink: <http://x/>; rel=\"blocked-by\"\r\n"
    b"Content-Type: text/html\r\nContent-Length: 7\r\n\r\nblocked",
    "cut-off": _HTML + b"Content-Length: 5000\r\n\r\n" + b"t" * 1200,
    "until-close": b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"c" * 1500,
}  # fmt: skip
_CUT, _CLOSING = "cut-off", ("cut-off", "until-close")


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            self._answer()

    def _answer(self) -> None:
        while line := self.rfile.readline():
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            name = line.split(b" ")[1].decode().rpartition("/")[2]
            self.wfile.write(CASES.get(name, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
            if name in _CLOSING:
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def run(work: Work, rounds: int, only: str = "") -> tuple[list[Row], Any]:
    del rounds, only
    with Server(("127.0.0.2", 0), Handler) as server, work.folder() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.2:{server.server_address[1]}"
        urls = [f"{base}/{name}" for name in CASES]
        found = {
            "mirror": _judge(_mirror(work, folder, urls)),
            "wget": _judge(_wget(work, folder, urls)),
            "warcprox": _judge(_warcprox(work, folder, base)),
            "aiohttp + warcio": _judge(_aiohttp(work, folder, base)),
        }
        server.shutdown()
    kept = {name: sum(v["kept"] == "exact" for v in cases.values()) for name, cases in found.items()}
    rows = [
        row(f"fidelity: answers byte for byte, {name}", kept["mirror"], kept[name], kept["mirror"] / len(CASES),
            unit="of 10", at_least=1 if name == "mirror" else None)
        for name in found
    ]  # fmt: skip
    marked = {name: float(cases[_CUT]["truncated"] is not None) for name, cases in found.items()}
    others = max(v for name, v in marked.items() if name != "mirror")
    rows.append(
        row("fidelity: the cut answer is marked", marked["mirror"], others, marked["mirror"], unit="of 1", at_least=1)
    )
    return rows, found


def _mirror(work: Work, folder: Path, urls: list[str]) -> Iterator[Path]:
    home = work.home(folder / "home")
    command = [*work.mirror, "save", "--home", str(home), "--allow-private-hosts", "--no-text", "--json", *urls]
    done = child(command, keep_output=True, good=(0, 6))
    lines = [json.loads(line) for line in done["output"].splitlines()]
    assert len(lines) == len(CASES) and all(line["verdict"] == "VERIFIED" for line in lines), lines
    return (home / "archives").rglob("*.warc.gz")


def _wget(work: Work, folder: Path, urls: list[str]) -> Iterator[Path]:
    words = ["-q", "-t", "1", "-T", "5", "--warc-file=wget", "--no-warc-keep-log", "-P", "files", "--content-on-error"]
    subprocess.run([work.tool("wget"), *words, *urls], cwd=folder, capture_output=True, check=False)
    return folder.glob("wget*.warc.gz")


def _warcprox(work: Work, folder: Path, base: str) -> Iterator[Path]:
    with bench_capture.Proxy(work, folder) as proxy:
        _client(work, base, "--proxy", proxy.url)
        proxy.stop()
    return (folder / "warcs").glob("*.warc.gz*")


def _aiohttp(work: Work, folder: Path, base: str) -> Iterator[Path]:
    _client(work, base, "--out", str(folder / "aiohttp.warc.gz"))
    return folder.glob("aiohttp.warc.gz")


def _client(work: Work, base: str, *words: str) -> None:
    paths = [f"/{name}" for name in CASES]
    child([sys.executable, _HERE / "client_aiohttp.py", "--base", base, *words, "--paths", *paths])


def _judge(files: Iterator[Path]) -> dict[str, dict[str, str | None]]:
    """What became of each answer."""
    got: dict[str, tuple[bytes, str | None]] = {}
    for path in sorted(files):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, no_record_parse=True):
                if record.rec_type == "response":
                    head = record.rec_headers
                    name = head.get_header("WARC-Target-URI").strip("<>").rpartition("/")[2]
                    got.setdefault(name, (record.raw_stream.read(), head.get_header("WARC-Truncated")))
    return {name: _verdict(want, got.get(name)) for name, want in CASES.items()}


def _verdict(want: bytes, got: tuple[bytes, str | None] | None) -> dict[str, str | None]:
    if got is None:
        return {"kept": "missing", "truncated": None}
    block, truncated = got
    heads, bodies = zip(want.partition(b"\r\n\r\n")[::2], block.partition(b"\r\n\r\n")[::2], strict=True)
    wrong = [part for part, (a, b) in zip(("head", "body"), (heads, bodies), strict=True) if a != b]
    return {"kept": f"{' and '.join(wrong)} differ" if wrong else "exact", "truncated": truncated}
