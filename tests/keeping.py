"""`mirror` as a person runs it: a home made by `mirror init`, a small web server on loopback, the command itself."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mirror.cli import kept
from mirror.store.home import Home
from mirror.verify import policy, verifier
from mirror.verify.verdict import Outcome

PAGE = b"<html lang=vi><title>Tin</title><link rel=stylesheet href=/s.css><p>" + "Đồng Tâm. ".encode() * 40
STYLE = b"p { color: red }"
PAGES = {"/tin": ("text/html; charset=utf-8", PAGE), "/s.css": ("text/css", STYLE)}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages: Mapping[str, tuple[str, bytes]] = {}

    def do_GET(self) -> None:
        mime, body = self.pages.get(self.path.partition("?")[0], ("text/plain", b""))
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", mime)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        pass  # the client was killed


@contextlib.contextmanager
def served(pages: Mapping[str, tuple[str, bytes]] = PAGES) -> Iterator[str]:
    """Serve `pages` (path → type and body) on loopback; yields the URL without a path."""
    handler = type("Handler", (_Handler,), {"pages": pages})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "mirror", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    unset = ("MIRROR_HOME", "LC_ALL", "LC_MESSAGES", "CREDENTIALS_DIRECTORY")
    kept = {k: v for k, v in os.environ.items() if k not in unset}
    return {**kept, "MIRROR_LANG": "en", "MIRROR_DEBUG": "1", **more}


def mirror(
    *words: object, before: tuple[object, ...] = (), stdin: str | bytes = b"", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command; `before` stands in front of it (strace, faketime)."""
    done = subprocess.run(
        [*map(str, before), *command(*words)], input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True, timeout=120, env=environment(**env), cwd=cwd,
    )  # fmt: skip
    result = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in result.stderr, result.stderr
    return result


def new_home(folder: Path) -> Path:
    done = mirror("init", folder, "--no-passphrase")
    assert done.returncode == 0, done.stderr
    return folder


def save(home: Path, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return mirror("save", "--home", home, "--allow-private-hosts", *words, **more)


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def listed(home: Path) -> dict[str, Path]:
    """Capture id → file, as `mirror list` has them."""
    done = mirror("list", "--home", home, "--all", "--json")
    assert done.returncode == 0, done.stderr
    return {row["id"]: home / "archives" / row["path"] for row in objects(done)}


def on_disk(home: Path) -> dict[str, Path]:
    """Capture id → file, as they lie there."""
    return {p.name.removesuffix(".warc.gz"): p for p in home.rglob("*.warc.gz") if not p.name.startswith(".")}


def leftovers(home: Path) -> list[Path]:
    return list(home.rglob(".tmp-*"))


class Checker:
    """Looks at a home after each crash."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trust = policy.load(root / "keys")
        self._verified: set[str] = set()

    def check(self, reported: set[str]) -> None:
        files = on_disk(self.root)
        assert reported <= set(files), "a capture was reported and is gone"
        for name in set(files) - self._verified:
            found = verifier.verify(files[name], self._trust)
            assert found.outcome is Outcome.VERIFIED, f"{name}: {found.headline}"
        self._verified = set(files)
        index = kept.open_index(Home(self.root))  # as `mirror list` does
        listed = set()
        if index is not None:
            with index:
                listed = {row.id for row in index.captures()}
        assert listed == set(files), "the list is not what is on disk"
