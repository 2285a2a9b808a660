"""Memory of `mirror save` and `mirror verify` while a body of 2 GB goes by, against one of 2 MB."""

from __future__ import annotations

import random
import shutil
import socketserver
import threading
from pathlib import Path
from typing import Any

from measure import Row, child, peak_memory, row, say
from workplace import Work

SIZES = {"2 MB": 2_000_000, "2 GB": 2_000_000_000}
SAVE_MIB, VERIFY_MIB = 200, 100
_PIECE = random.Random(1).randbytes(1 << 20)


class Handler(socketserver.StreamRequestHandler):
    """Answers with as many bytes as the path says."""

    def handle(self) -> None:
        line = self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        left = int(line.split(b" ")[1].rpartition(b"/")[2])
        head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self.wfile.write(head % left)
        while left:
            left -= self.connection.send(_PIECE[: min(left, len(_PIECE))])


def run(work: Work, rounds: int, only: str = "") -> tuple[list[Row], Any]:
    del rounds, only
    if shutil.disk_usage(work.root).free < 8 << 30:
        raise SystemExit("8 GB of free disk are needed for the 2 GB body")
    saved, verified = {}, {}
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, work.folder() as folder:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, size in SIZES.items():
            say(f"  {name}")
            home = work.home(folder / str(size))
            url = f"http://127.0.0.1:{server.server_address[1]}/{size}"
            save = [*work.mirror, "save", "--home", home, "--no-text", "--allow-private-hosts", url]
            saved[name] = peak_memory(save)
            (path,) = home.rglob("*.warc.gz")
            assert path.stat().st_size > size
            verify: list[str | Path] = [*work.mirror, "verify", "-q", "--home", home, path]
            child(verify)
            verified[name] = peak_memory(verify)
            shutil.rmtree(home)
        server.shutdown()
    rows = [
        row("a 2 GB body: save, peak memory", saved["2 GB"], SAVE_MIB, saved["2 GB"] / SAVE_MIB, unit="MiB", at_most=1),
        row("a 2 GB body / one of 2 MB: save", saved["2 GB"], saved["2 MB"], saved["2 GB"] / saved["2 MB"], unit="MiB"),
        row("a 2 GB body: verify, peak memory", verified["2 GB"], VERIFY_MIB, verified["2 GB"] / VERIFY_MIB,
            unit="MiB", at_most=1),
    ]  # fmt: skip
    return rows, {"save": saved, "verify": verified}
