"""Captures pages of the site in one process with `mirror.pipeline`, sealing included; prints a JSON object.

    client_mirror.py --home DIR --base URL --first N --count N [--at-once N] [--connections N] [--gate] [--cold]
--gate  says `ready` after warming up and waits for a line: several processes then start together
--cold  one page after the other, each over new connections
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from mirror import config as configs
from mirror.model import Completeness
from mirror.pipeline import Kept, Preserver
from mirror.report import accept
from mirror.store import secrets
from mirror.store.home import Home


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--base")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--cold", action="store_true")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run((cold if args.cold else together)(args))))


def preserver(args: argparse.Namespace) -> Preserver:
    home = Home(args.home)
    config = configs.load(home.config_path)
    capture = dataclasses.replace(
        config.capture, connections_per_host=args.connections, connections=max(256, args.connections)
    )
    signers = [secrets.load(home.secrets_dir, name, lambda: b"") for name in config.seal.keys]
    config = dataclasses.replace(config, capture=capture)
    return Preserver(home, config, signers, allow_private=True, at_once=args.at_once)


async def together(args: argparse.Namespace) -> dict[str, Any]:
    """All pages in one long-lived process, `at_once` at a time."""
    async with preserver(args) as work:
        await keep(work, args.base, args.first + args.count)  # warm: code, connections, folders
        if args.gate:
            print("ready", flush=True)
            sys.stdin.readline()
        cpu, wall = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(keep(work, args.base, args.first + n)) for n in range(args.count)]
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    kept = [task.result() for task in tasks]
    return {
        "cpu": cpu, "wall": wall, "pages": args.count, "requests": sum(k.result.requests for k in kept),
        "p50": statistics.median(k.seconds for k in kept), "bytes": sum(k.row.size for k in kept),
    }  # fmt: skip


async def cold(args: argparse.Namespace) -> dict[str, Any]:
    """One page after the other: seconds from its report until it is sealed and durable."""
    seconds, cpu = [], []
    for number in range(args.count + 1):
        async with preserver(args) as work:
            began, used = time.perf_counter(), time.process_time()
            await keep(work, args.base, args.first + number)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
    return {
        "p50": statistics.median(seconds[1:]), "best": min(seconds[1:]), "worst": max(seconds[1:]),
        "cpu": statistics.median(cpu[1:]),
    }  # fmt: skip


async def keep(work: Preserver, base: str, number: int) -> Kept:
    kept = await work.preserve(accept(f"{base}/p/{number:05d}.html", now=datetime.now(UTC)))
    assert kept.row.completeness is Completeness.COMPLETE, (kept.result.missing[:3], kept.result.failure)
    return kept


if __name__ == "__main__":
    main()
