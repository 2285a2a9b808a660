#!/usr/bin/env python3
"""Benchmarks, side by side with others. `./run bench` installs what they need, then runs this.

tests/bench/run.py [NAME…] [--rounds N] [--out FILE] [--work DIR]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import measure
from workplace import Work

BENCHES = {
    "verify": "sealed and unsealed archives against fastwarc and warcio",
    "capture": "pages per second and CPU per page against aiohttp, warcio, wget, warcprox",
    "latency": "a slow server: throughput against the latency bound, report to sealed",
    "fidelity": "ten awkward answers, byte for byte",
    "memory": "a body of 2 GB",
    "homes": "a home with 10,000 captures; URL look-ups against pywb",
    "start": "cold start of the command",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = "\n".join(f"  {name:<9} {what}" for name, what in BENCHES.items())
    parser.epilog = f"benchmarks (default: all; NAME:WORD runs only the part with that word in its name):\n{names}"
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs (default: 3)")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mirror-bench",
                        help="folder for corpora, peers and results; used again when it is there")  # fmt: skip
    args = parser.parse_args()
    wanted = args.names or list(BENCHES)
    unknown = [name for name in wanted if name.partition(":")[0] not in BENCHES]
    if args.rounds < 1:
        parser.error("--rounds takes a number from 1 on")
    if unknown:
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(BENCHES)}")
    work = Work(args.work)
    results = {}
    for name in wanted:
        bench, _, only = name.partition(":")
        measure.say(f"{name} …")
        results[name] = importlib.import_module(f"bench_{bench}").run(work, args.rounds, only)
        document = measure.document({name: results[name]})
        (work.root / "results" / f"{name.replace(':', '-')}.json").write_text(json.dumps(document, indent=1))
        print(f"\n{name}\n\n{measure.table(results[name][0])}\n", flush=True)
    if args.out:
        args.out.write_text(json.dumps(measure.document(results), indent=1) + "\n")
    missed = [r.name for rows, _ in results.values() for r in rows if r.met is False]
    print(f"{len(missed)} goals missed{': ' + '; '.join(missed) if missed else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
