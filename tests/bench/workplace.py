"""The folder where benchmarks work: corpora, a site and its server, the peers. Made on first use, used again later."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import corpus
import newspaper
import sealing
from measure import say

from mirror.store import secrets

PEERS = {
    "venv": ("fastwarc", ["fastwarc>=0.15", "warcio>=1.7.5", "setuptools<80"]),
    "venv-warcprox": ("warcprox", ["warcprox", "setuptools<80"]),
    "venv-pywb": ("pywb", ["pywb", "setuptools<80"]),
}
"""Folder → a command in it, packages. Each in a virtual environment of its own, since their requirements differ."""


class Work:
    """`jobs`: processes for making things."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.jobs = len(os.sched_getaffinity(0))
        for name in ("corpus", "results", "tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    # -- programs

    @property
    def mirror(self) -> list[str]:
        """The `mirror` command of the environment that runs this."""
        return [str(Path(sys.executable).parent / "mirror")]

    def peer(self, command: str, place: str = "venv") -> str:
        """A command of a peer, installed if it is not there."""
        folder = self.root / place
        probe, packages = PEERS[place]
        if not (folder / "bin" / probe).exists():
            say(f"installing {', '.join(packages)} …")
            venv.create(folder, with_pip=True, clear=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, *packages], check=True)
        return str(folder / "bin" / command)

    @staticmethod
    def tool(command: str) -> str:
        """A command of the system."""
        path = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if path is None:
            raise SystemExit(f"{command} is needed and not installed; `./run bench` installs it")
        return path

    # -- files

    def corpus(self, name: str) -> Path:
        """`mixed` or `small`, as a crawler writes it."""
        path = self.root / "corpus" / f"{name}256.warc.gz"
        if not path.exists():
            say(f"making {path.name} …")
            {"mixed": corpus.mixed, "small": corpus.small}[name](path, self.jobs)
        return path

    def sealed(self, name: str) -> tuple[Path, Path]:
        """The same as a sealed capture, and the trust folder that names its key."""
        path, trust = self.root / "corpus" / f"{name}-sealed.warc.gz", self.root / "corpus" / f"{name}-keys"
        if not path.exists() or not (trust / "trust.toml").exists():
            say(f"sealing {name} …")
            key = secrets.generate("mirror-seal-bench")
            shutil.rmtree(trust, ignore_errors=True)
            trust.mkdir()
            (trust / "mirror-seal-bench.vkey").write_text(f"{key.verifier.format()}\n")
            path.unlink(missing_ok=True)
            sealing.seal(self.corpus(name), path, key)
            (trust / "trust.toml").write_text(_TRUST)
        return path, trust

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, removed afterwards."""
        path = self.root / "tmp" / f"{os.getpid()}-{time.monotonic_ns()}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def home(self, path: Path) -> Path:
        """A new home."""
        subprocess.run([*self.mirror, "init", str(path), "--no-passphrase"], check=True, capture_output=True)
        return path

    # -- the site

    @contextlib.contextmanager
    def server(self) -> Iterator[None]:
        """The site, served; a server that runs already is taken as it is."""
        newspaper.make(self.root, self.jobs)
        if _serves(newspaper.PLAIN):
            yield
            return
        nginx = subprocess.Popen([self.tool("nginx"), "-c", str(self.root / "nginx.conf")])
        try:
            deadline = time.monotonic() + 20
            while not _serves(newspaper.PLAIN):
                if nginx.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"nginx does not start; see {self.root / 'nginx.err'}")
                time.sleep(0.05)
            yield
        finally:
            nginx.terminate()
            nginx.wait(30)

    def environment(self) -> dict[str, str]:
        """Variables for clients: the site's certificate is trusted."""
        return {**os.environ, "SSL_CERT_FILE": str(self.root / "tls.crt")}


_TRUST = """\
version = 1
require = ["intact", "sealed"]
[seal]
threshold = 1
keys = ["mirror-seal-bench"]
"""


def _serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/robots.txt", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
