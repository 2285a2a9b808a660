"""A site like a newspaper's, and its server: 1,450 pages, each ~60 KB of HTML (sent gzip-coded and chunked) with 20
requisites: 2 style sheets and 2 scripts of the site, 16 pictures of its own (5 to 90 KB). ~470 KB a page.
"""

from __future__ import annotations

import random
import subprocess
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import corpus
from measure import say

PAGES = 1450
REQUESTS = 21  # a page and what it needs
LATENCY_S = 0.05
PLAIN, SLOW, TLS, TLS_SLOW = 8081, 8082, 8443, 8444  # the slow ones wait LATENCY_S before each answer
_SHARED = ("/s/base.css", "/s/article.css", "/s/app.js", "/s/vendor.js")
_SHARED_SIZES = (40_000, 15_000, 180_000, 250_000)


def base(port: int, host: str = "127.0.0.1") -> str:
    return f"{'https' if port in (TLS, TLS_SLOW) else 'http'}://{host}:{port}"


def make(root: Path, jobs: int) -> None:
    """Site, certificate and nginx.conf in `root`, unless they are there."""
    if not (root / "nginx.conf").exists():
        say("making the site …")
        _site(root / "site", jobs)
        _certificate(root)
        (root / "nginx.conf").write_text(_configuration(root))


def listing(root: Path, count: int) -> str:
    """Path of a page that links to the first `count` pages: where a crawler starts."""
    path = root / "site" / "list" / f"{count}.html"
    if not path.exists():
        links = "".join(f'<a href="/p/{number:05d}.html">{number}</a>\n' for number in range(count))
        path.write_text(f"<html><head><title>list</title></head><body>{links}</body></html>")
    return f"/list/{count}.html"


def _site(folder: Path, jobs: int) -> None:
    for name in ("s", "p", "img", "list"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    source = random.Random(1)
    for name, size in zip(_SHARED, _SHARED_SIZES, strict=True):
        (folder / name[1:]).write_text(corpus.text(source, size).replace(" ", "_"))
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(partial(_page, folder), range(PAGES), chunksize=20))
    (folder / "robots.txt").write_text("User-agent: *\nAllow: /\n")
    (folder / "favicon.ico").write_text("x")


def _page(folder: Path, number: int) -> None:
    source = random.Random(number)
    pictures = tuple(f"/img/{number:05d}/{k:02d}.jpg" for k in range(16))
    html = corpus.page(source, 60_000, (*_SHARED, *pictures), menu=False)
    (folder / "p" / f"{number:05d}.html").write_bytes(html)
    (folder / "img" / f"{number:05d}").mkdir(exist_ok=True)
    for name in pictures:
        size = min(90_000, max(5_000, int(source.lognormvariate(10.1, 0.6))))
        (folder / name[1:]).write_bytes(corpus.picture(source, size))


def _certificate(root: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", root / "tls.key", "-out", root / "tls.crt", "-days", "3650", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2"],
        check=True, capture_output=True,
    )  # fmt: skip


def _configuration(root: Path) -> str:
    tls = f"ssl_certificate {root}/tls.crt; ssl_certificate_key {root}/tls.key; ssl_session_cache shared:S:10m;"
    wait = f"access_by_lua_block {{ ngx.sleep({LATENCY_S}) }}"
    servers = ""
    for port, more in ((PLAIN, ""), (SLOW, wait), (TLS, tls), (TLS_SLOW, f"{tls} {wait}")):
        how = "ssl backlog=4096" if port in (TLS, TLS_SLOW) else "backlog=4096"
        servers += f" server {{ listen 127.0.0.1:{port} {how}; listen 127.0.0.2:{port} {how}; {more} }}\n"
    return f"""\
load_module modules/ndk_http_module.so; load_module modules/ngx_http_lua_module.so;
daemon off; worker_processes 1; worker_rlimit_nofile 65536;
pid {root}/nginx.pid; error_log {root}/nginx.err warn;
events {{ worker_connections 16384; }}
http {{
 include /etc/nginx/mime.types; lua_package_path "/usr/share/lua/5.1/?.lua;;";
 sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;
 open_file_cache max=60000 inactive=600s; open_file_cache_valid 600s;
 root {root}/site; access_log off; etag on;
 gzip on; gzip_comp_level 1; gzip_types text/css application/javascript; gzip_min_length 1000;
{servers}}}
"""
