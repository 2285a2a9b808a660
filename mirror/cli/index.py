"""`mirror index rebuild`: make the index anew from the capture files alone."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator

from mirror.cli import common
from mirror.cli.main import printable
from mirror.cli.messages import say
from mirror.errors import MalformedError
from mirror.store import reading, rebuild
from mirror.text.pool import Extractor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["rebuild"], help="rebuild: read all captures and replace the index")
    parser.add_argument(
        "--no-text", action="store_true", help="leave the pages' text out: quick, but search finds none"
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    common.add_home_argument(parser)


def run(args: argparse.Namespace) -> int:
    home = common.open_home(args)
    with _extraction(not args.no_text) as extract:
        summary = rebuild.rebuild(home, extract=extract, progress=_progress if sys.stderr.isatty() else None)
    for path, reason in summary.skipped:
        print(printable(say("index.skipped", path=path, reason=reason)), file=sys.stderr)
    if args.json:
        common.print_json(
            {
                "captures": summary.captures,
                "texts": summary.texts,
                "skipped": [{"path": str(path), "reason": reason} for path, reason in summary.skipped],
                "aside": str(summary.aside) if summary.aside else None,
            }
        )
    else:
        print(say("index.done", captures=summary.captures, texts=summary.texts))
        if summary.aside:
            print(say("index.aside", path=summary.aside))
    return MalformedError.exit_code if summary.skipped else 0


@contextlib.contextmanager
def _extraction(wanted: bool) -> Iterator[rebuild.Extraction | None]:
    if not wanted:
        yield None
        return
    with Extractor() as extractor:
        extractor.warm()
        yield lambda path, row: reading.page_text(path, row, extractor)


def _progress(done: int, total: int) -> None:
    print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
