"""`mirror search`: captures whose page has these words, with Vietnamese folding."""

from __future__ import annotations

import argparse

from mirror.cli import common, kept
from mirror.cli.main import printable
from mirror.cli.messages import say
from mirror.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="WORD",
        help='words that the page has, all of them; "two words" stay together; without diacritics they match any',
    )
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="show N captures (default: 20)")
    parser.add_argument("--json", action="store_true", help="write one JSON object per capture")
    common.add_home_argument(parser)


def run(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise UsageError("--limit needs a number from 1 on")
    query = " ".join(f'"{word}"' if " " in word.strip() and '"' not in word else word for word in args.words)
    index = kept.open_index(common.open_home(args))
    hits = []
    if index is not None:
        with index:
            hits = index.search(query, args.limit)
    for hit in hits:
        if args.json:
            common.print_json(
                {
                    "id": hit.capture,
                    "title": hit.title,
                    "url": hit.url,
                    "started": hit.started,
                    "snippet": hit.snippet,
                    "exact": hit.exact,
                }
            )
            continue
        print(f"{hit.capture[: kept.SHORT_ID]}  {kept.moment(hit.started)}  {printable(hit.title or '')}".rstrip())
        print(f"  {printable(hit.url)}")
        if hit.snippet:
            print(f"  {printable(hit.snippet)}")
    if not hits and not args.json:
        print(say("search.none" if index is not None else "list.none"))
    return 0
