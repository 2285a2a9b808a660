"""A web of real pages on loopback: nginx over TLS behind a proxy that leads every host name to it.

Pages are served as they are, gzip-coded and chunked; everything else that is asked for is made up by kind, in realistic
sizes and always the same. The proxy (HTTP CONNECT) is named in a vantage, so the pages keep their own names and
addresses, and certificates are issued for each host by an authority that `SSL_CERT_FILE` makes trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import struct
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
MODULES = Path("/usr/lib/nginx/modules")
_SIZES = 50
_TYPES = {  # what is asked for → (extension of what is sent, median size, largest size)
    "image": ("jpg", 22_000, 400_000),
    "style": ("css", 12_000, 150_000),
    "script": ("js", 25_000, 400_000),
    "font": ("woff2", 25_000, 80_000),
    "video": ("mp4", 1_500_000, 6_000_000),
    "frame": ("html", 3_000, 20_000),
}


@dataclass(slots=True, kw_only=True)
class Site:
    """A running site. `proxy` is the URL for a vantage, `authority` the file for SSL_CERT_FILE."""

    proxy: str
    authority: Path
    hosts: set[str] = field(default_factory=set)  # names that were asked for


def missing() -> str | None:
    """Why no site can be served on this machine, or None."""
    if NGINX is None:
        return "nginx is not installed"
    if not (MODULES / "ngx_http_echo_module.so").exists():
        return "nginx has no echo module (libnginx-mod-http-echo)"
    return None


@contextlib.contextmanager
def serve(pages: Mapping[str, bytes], *, latency: float = 0.0) -> Iterator[Site]:
    """Serve `pages` (URL → HTML) and all they refer to; each answer waits `latency` seconds."""
    with tempfile.TemporaryDirectory(prefix="site-") as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        _write(folder, pages, latency)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        nginx = [str(NGINX), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        subprocess.run(nginx, check=True)  # returns once it listens
        stack.callback(subprocess.run, [*nginx, "-s", "stop"], check=True)
        yield stack.enter_context(_proxy(folder, authority))


# -- what is served


def _write(folder: Path, pages: Mapping[str, bytes], latency: float) -> None:
    for name in ("made", "pages", "hosts"):
        (folder / name).mkdir()
    for kind, (extension, median, largest) in _TYPES.items():
        for number in range(_SIZES if kind != "video" else 5):
            source = random.Random(f"{kind} {number}")
            size = min(largest, int(source.lognormvariate(0, 0.9) * median))
            (folder / "made" / f"{kind}-{number}.{extension}").write_bytes(made(kind, size, source))
    lines = []
    for number, (url, page) in enumerate(pages.items()):
        (folder / "pages" / f"{number}.html").write_bytes(page)
        lines.append(f'"{url.partition("://")[2]}" /pages/{number}.html;')
    (folder / "nginx.conf").write_text(_configuration(folder, lines, latency))


def made(kind: str, size: int, source: random.Random) -> bytes:
    """A file of that kind: the right start, and content that compresses as such files do."""
    if kind in ("style", "script", "frame"):
        words = [f"w{source.getrandbits(20):x}" for _ in range(200)]
        line = {"style": ".{} {{ color: #abc; margin: 0 }}\n", "script": "var {} = 1;\n", "frame": "<p>{}</p>\n"}[kind]
        start = "<!doctype html><title>Frame</title>\n" if kind == "frame" else ""
        text = start + "".join(line.format(source.choice(words)) for _ in range(1 + size // len(line)))
        return text.encode()
    starts = {
        "image": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", "video": b"\x00\x00\x00\x18ftypmp42", "font": b"wOF2\x00\x01"
    }  # fmt: skip
    return starts[kind] + source.randbytes(max(0, size - 16))


def picture(source: random.Random, side: int = 64) -> bytes:
    """A PNG that decodes."""
    rows = b"".join(b"\0" + source.randbytes(3 * side) for _ in range(side))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _configuration(folder: Path, pages: list[str], latency: float) -> str:
    sizes = "\n".join(f"{100 / _SIZES:g}% {n};" for n in range(_SIZES - 1))
    videos = "\n".join(f"20% {n};" for n in range(4))
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
{user}
load_module {MODULES}/ndk_http_module.so;
load_module {MODULES}/ngx_http_echo_module.so;
worker_processes 1; worker_rlimit_nofile 8192; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  include /etc/nginx/mime.types;
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000; server_names_hash_bucket_size 128;
  map_hash_bucket_size 1024; map_hash_max_size 4096; variables_hash_bucket_size 128;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  large_client_header_buffers 8 64k;
  gzip on; gzip_comp_level 1; gzip_min_length 500; gzip_types text/css application/javascript image/svg+xml;
  split_clients "$host$request_uri" $size {{ {sizes} * {_SIZES - 1}; }}
  split_clients "$host$request_uri" $film {{ {videos} * 4; }}
  map "$http_host$request_uri" $page {{ {" ".join(pages)} default ""; }}
  map $uri $by_name {{
    ~*\\.(jpe?g|png|gif|webp|avif|ico|bmp|svg)$ /made/image-$size.jpg;
    ~*\\.css$ /made/style-$size.css;
    ~*\\.m?js$ /made/script-$size.js;
    ~*\\.(woff2?|ttf|otf|eot)$ /made/font-$size.woff2;
    ~*\\.(mp4|webm|m4v|mov|mp3|m4a|ogg)$ /made/video-$film.mp4;
    default "";
  }}
  map $http_accept $by_accept {{
    ~^text/css /made/style-$size.css;
    ~^image/ /made/image-$size.jpg;
    ~^text/html /made/frame-$size.html;
    default /made/script-$size.js;
  }}
  map $page$by_name $made {{ "" $by_accept; default $by_name; }}
  map $page $answer {{ "" $made; default $page; }}
  server {{
    listen unix:{folder}/plain; listen unix:{folder}/tls ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {folder}/hosts/$ssl_server_name.pem; ssl_certificate_key {folder}/hosts/$ssl_server_name.pem;
    root {folder};
    location / {{ echo_sleep {latency:g}; echo_exec @answer; }}
    location @answer {{ try_files $answer =404; }}
    location /made/ {{ internal; }}
    location /pages/ {{ internal; }}
  }}
}}
"""


# -- the proxy


@contextlib.contextmanager
def _proxy(folder: Path, authority: trustme.CA) -> Iterator[Site]:
    """An HTTP proxy in a thread of its own, for as long as the block runs."""
    site = Site(proxy="", authority=folder / "authority.pem")
    started = threading.Event()
    stopped: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(lambda r, w: _tunnel(r, w, site, folder, authority), "127.0.0.1", 0)
        site.proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        stopped.append((asyncio.get_running_loop(), stop))
        started.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    started.wait()
    try:
        yield site
    finally:
        loop, stop = stopped[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, site: Site, folder: Path, authority: trustme.CA
) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError), contextlib.closing(writer):
        request = await reader.readuntil(b"\r\n\r\n")
        host, _, port = request.split(b" ")[1].decode().rpartition(":")
        if not _certified(host, site, folder, authority):
            writer.write(b"HTTP/1.1 502 No such host\r\n\r\n")
            return
        way = folder / ("tls" if port == "443" else "plain")
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(way), limit=1 << 18)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        with contextlib.closing(inner_writer):
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 17):
            writer.write(data)
            await writer.drain()
    writer.close()


def _certified(host: str, site: Site, folder: Path, authority: trustme.CA) -> bool:
    """A certificate for a host when it is first asked for; False for what is no host name."""
    if host in site.hosts:
        return True
    try:
        leaf = authority.issue_cert(host)
    except ValueError:
        return False
    (folder / "hosts" / f"{host.lower()}.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    site.hosts.add(host)
    return True
