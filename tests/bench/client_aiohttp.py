"""Fetches the same pages and requisites with aiohttp alone; prints a JSON object.

    client_aiohttp.py --base URL --first N --count N [--at-once N] [--connections N] [--cold]
                      [--out WARC]  write them with warcio in the loop       [--proxy URL]  through a recording proxy
Without --out, what is fetched is thrown away: what any capture with this client costs at least.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import ssl
import statistics
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

LINK = re.compile(rb'(?:src|href)="(/[^"]+)"')


class Warc:
    """What most programs do: the parsed answer goes back into a WARC through warcio, gzip included, in the loop."""

    def __init__(self, path: Path) -> None:
        from warcio.statusandheaders import StatusAndHeaders
        from warcio.warcwriter import WARCWriter

        self._headers = StatusAndHeaders
        self._file = path.open("wb")
        self._writer = WARCWriter(self._file, gzip=True, warc_version="1.1")

    def put(self, url: str, answer: aiohttp.ClientResponse, body: bytes) -> None:
        fields = [
            (k.decode("latin1"), v.decode("latin1")) for k, v in answer.raw_headers if k.lower() != b"transfer-encoding"
        ]
        status = self._headers(f"{answer.status} {answer.reason}", fields, protocol="HTTP/1.1")
        asked = self._headers(f"GET {answer.url.path} HTTP/1.1", list(answer.request_info.headers.items()), "HTTP/1.1")
        make = self._writer.create_warc_record
        response = make(url, "response", payload=io.BytesIO(body), http_headers=status)
        self._writer.write_request_response_pair(make(url, "request", http_headers=asked), response)

    def close(self) -> None:
        self._file.close()


class Client:
    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.warc = Warc(args.out) if args.out else None
        self.requests = 0

    def session(self) -> aiohttp.ClientSession:
        context: ssl.SSLContext | bool = True
        if self._args.base.startswith("https"):
            context = ssl.create_default_context()
            if self._args.proxy:  # it shows a certificate of its own
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connections = self._args.connections
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, limit_per_host=connections, ssl=context),
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=300), headers={"Accept-Encoding": "gzip"},
        )  # fmt: skip

    async def page(self, session: aiohttp.ClientSession, number: int) -> None:
        """A page, then everything it links to."""
        html = await self.get(session, f"/p/{number:05d}.html", whole=True)
        if html[:2] == b"\x1f\x8b":
            html = zlib.decompress(html, 31)
        links = dict.fromkeys(LINK.findall(html))
        async with asyncio.TaskGroup() as group:
            for link in links:
                group.create_task(self.get(session, link.decode()))

    async def get(self, session: aiohttp.ClientSession, path: str, *, whole: bool = False) -> bytes:
        url = self._args.base + path
        body = b""
        async with session.get(url, allow_redirects=False, proxy=self._args.proxy) as answer:
            if whole or self.warc:
                body = await answer.content.read()
            else:
                async for _ in answer.content.iter_chunked(1 << 16):
                    pass
            if self.warc:
                self.warc.put(url, answer, body)
        self.requests += 1
        return body


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--proxy")
    parser.add_argument("--paths", nargs="*", help="fetch just these, one after the other")
    parser.add_argument("--cold", action="store_true")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run((paths if args.paths else cold if args.cold else together)(args))))


async def together(args: argparse.Namespace) -> dict[str, Any]:
    client, turn = Client(args), asyncio.Semaphore(args.at_once)
    async with client.session() as session:

        async def one(number: int) -> None:
            async with turn:
                await client.page(session, number)

        if not args.proxy:
            await one(args.first + args.count)
        client.requests = 0
        cpu, wall = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(args.first, args.first + args.count):
                group.create_task(one(number))
        if client.warc:
            client.warc.close()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "pages": args.count, "requests": client.requests}


async def cold(args: argparse.Namespace) -> dict[str, Any]:
    seconds = []
    for number in range(args.count + 1):
        client = Client(args)
        async with client.session() as session:
            began = time.perf_counter()
            await client.page(session, args.first + number)
            seconds.append(time.perf_counter() - began)
    return {"p50": statistics.median(seconds[1:]), "best": min(seconds[1:])}


async def paths(args: argparse.Namespace) -> dict[str, Any]:
    client, failed = Client(args), []
    async with client.session() as session:
        for path in args.paths:
            try:
                await client.get(session, path, whole=True)
            except (aiohttp.ClientError, OSError, ValueError) as e:  # what the tool cannot keep is missing, then
                failed.append(f"{path}: {e!r}")
    if client.warc:
        client.warc.close()
    return {"requests": client.requests, "failed": failed}


if __name__ == "__main__":
    main()
