"""What we keep, others can play: pywb serves our captures, unchanged."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import pytest
import servers
import website

PYWB = Path(__file__).resolve().parents[2] / ".venv-pywb" / "bin"
PICTURE = website.picture(random.Random(1))
STYLE = b"body { background: url(copy.png) }\n"
PAGE = (
    '<!doctype html><html lang="vi"><head><meta charset="utf-8"><title>Đồng Tâm</title>'
    '<link rel="stylesheet" href="style.css"></head><body><p>Một trang để phát lại.</p>'
    '<img src="/picture.png"><img src="/copy.png"><img src="/gone.png"></body></html>'
).encode()
OTHER = PAGE.replace("Đồng Tâm".encode(), "Trang khác".encode())
SITE = {
    "/": b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + servers.chunked(gzip.compress(PAGE, mtime=0), 100),
    "/br": servers.answer(brotli.compress(OTHER), mime="text/html; charset=utf-8", extra="Content-Encoding: br\r\n"),
    "/plain": servers.answer(PAGE, mime="text/html; charset=utf-8"),
    "/picture.png": servers.answer(PICTURE, mime="image/png"),
    "/copy.png": servers.answer(PICTURE, mime="image/png"),
    "/style.css": servers.answer(STYLE, mime="text/css"),
    "/gone.png": servers.answer(b"gone", status="404 Not Found"),
}
SERVER = """
import gevent.monkey; gevent.monkey.patch_all()
from gevent.pywsgi import WSGIServer
from pywb.apps.frontendapp import FrontEndApp
server = WSGIServer(("127.0.0.1", 0), FrontEndApp(), log=None)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PYWB / "wayback").exists(), reason="pywb is not in .venv-pywb (./run test installs it)"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A running pywb and what it was given: the site's root, and all responses that were kept."""

    pywb: str
    root: str
    kept: list[dict[str, Any]]

    def get(self, path: str, mode: str = "id_") -> tuple[int, bytes, str]:
        """Status, body without its content coding, and media type of what pywb plays for a path of the site."""
        request = urllib.request.Request(f"{self.pywb}/2026{mode}/{self.root}{path}")
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = answer.read()
            decode = {None: bytes, "gzip": gzip.decompress, "br": brotli.decompress}[answer.headers["Content-Encoding"]]
            return answer.status, decode(body), answer.headers.get_content_type()


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    place = tmp_path_factory.mktemp("replay")
    root, captures = asyncio.run(save_site(place / "home"))
    kept = [
        url
        for capture in captures
        for url in json.loads(mirror("show", "--home", str(place / "home"), "--urls", "--json", capture["id"]))["urls"]
    ]
    (place / "config.yaml").write_text("debug: false\n")
    with ExitStack() as stack:
        quiet: dict[str, Any] = {"cwd": place, "stderr": stack.enter_context((place / "log").open("w"))}
        subprocess.run([PYWB / "wb-manager", "init", "kept"], check=True, stdout=subprocess.DEVNULL, **quiet)
        files = [capture["path"] for capture in captures]
        subprocess.run([PYWB / "wb-manager", "add", "kept", *files], check=True, stdout=subprocess.DEVNULL, **quiet)
        pywb = subprocess.Popen([PYWB / "python", "-c", SERVER], stdout=subprocess.PIPE, text=True, **quiet)
        stack.enter_context(pywb)
        stack.callback(pywb.terminate)
        assert pywb.stdout is not None
        port = int(pywb.stdout.readline())
        yield Replay(pywb=f"http://127.0.0.1:{port}/kept", root=root, kept=kept)


@pytest.mark.parametrize(("path", "page"), [("/", PAGE), ("/br", OTHER), ("/plain", PAGE)])
def test_page_is_played_as_it_was_sent(replay: Replay, path: str, page: bytes) -> None:
    assert replay.get(path) == (200, page, "text/html")


@pytest.mark.parametrize("path", ["/", "/br", "/plain"])
def test_page_is_shown_in_the_player(replay: Replay, path: str) -> None:
    status, page, _ = replay.get(path, "mp_")
    assert status == 200
    assert "Một trang để phát lại." in page.decode()
    assert f"/{replay.root}/picture.png" in page.decode()  # its references lead into the archive


def test_picture_is_identical(replay: Replay) -> None:
    assert replay.get("/picture.png") == (200, PICTURE, "image/png")


def test_revisit_leads_to_the_picture_it_refers_to(replay: Replay) -> None:
    paths = {url["url"].removeprefix(replay.root) for url in replay.kept if url["revisit"]}
    assert paths & {"/picture.png", "/copy.png"}
    assert [replay.get(path) for path in ("/picture.png", "/copy.png")] == [(200, PICTURE, "image/png")] * 2


def test_style_sheet_is_played(replay: Replay) -> None:
    assert replay.get("/style.css") == (200, STYLE, "text/css")


def test_what_was_not_found_is_not_found_again(replay: Replay) -> None:
    status, body, _ = replay.get("/gone.png")
    assert (status, body) == (404, b"gone")


async def save_site(home: Path) -> tuple[str, list[dict[str, Any]]]:
    """Keep the site's pages with `mirror save`; its root, and what the command said of each."""
    async with servers.serving(SITE) as site:
        await asyncio.to_thread(mirror, "init", str(home), "--no-passphrase")
        pages = [site.url(path) for path in ("/", "/br", "/plain")]
        words = ("save", "--home", str(home), "--allow-private-hosts", "--json", *pages)
        said = await asyncio.to_thread(mirror, *words)
        return site.url(""), [json.loads(line) for line in said.splitlines()]


def mirror(*words: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "MIRROR_HOME"}
    done = subprocess.run([sys.executable, "-m", "mirror", *words], env=environment, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()
