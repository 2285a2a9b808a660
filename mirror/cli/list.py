"""`mirror list`: the captures of the home, newest first."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from itertools import islice

from mirror.cli import common, kept
from mirror.cli.main import printable
from mirror.cli.messages import say
from mirror.errors import UsageError
from mirror.model import CaptureRow, Completeness

_DEFAULT_LIMIT = 50
_NARROW = 64  # columns below which a capture takes two lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="only captures of this URL, or of a site by its front page"
    )
    parser.add_argument("--limit", type=int, metavar="N", help=f"show N captures (default: {_DEFAULT_LIMIT})")
    parser.add_argument("--all", action="store_true", help="show all captures")
    parser.add_argument("--json", action="store_true", help="write one JSON object per capture")
    common.add_home_argument(parser)


def run(args: argparse.Namespace) -> int:
    if args.limit is not None and (args.limit < 1 or args.all):
        raise UsageError("--limit needs a number from 1 on, and does not go with --all")
    limit = None if args.all else args.limit or _DEFAULT_LIMIT
    surt, site = _filter(args.url)
    index = kept.open_index(common.open_home(args))
    shown, more = 0, False
    if index is not None:
        with index:
            found = index.captures(None if limit is None else limit + 1, surt=surt, site=site)
            columns = kept.width()
            for row in islice(found, limit):
                if args.json:
                    common.print_json(fields(row))
                else:
                    if not shown:
                        _print_header(columns)
                    print(_line(row, columns))
                shown += 1
            more = next(found, None) is not None
    if not args.json and not shown:
        print(say("list.none-of", url=printable(args.url)) if args.url else say("list.none"))
    if not args.json and more:
        print(say("list.more"), file=sys.stderr)
    return 0


def fields(row: CaptureRow) -> dict[str, object]:
    """A capture as `--json` shows it."""
    return {
        "id": row.id,
        "target": row.target,
        "started": row.started,
        "finished": row.finished,
        "state": row.completeness.value,
        "status": row.status,
        "missing": row.missing,
        "origin": row.origin,
        "records": row.records,
        "size": row.size,
        "path": row.path,
        "root": row.root,
        "signers": list(row.signers),
    }


def _filter(url: str | None) -> tuple[str | None, str | None]:
    """The index key of a URL, cleaned as saving cleans it; or of its site when it is a front page."""
    if url is None:
        return None, None
    from mirror import report
    from mirror.formats import urls

    wanted = urls.parse(report.accept(url, now=datetime.now(UTC)).url)
    key = urls.surt(wanted)
    return (None, key.partition(")")[0] + ")") if wanted.target == "/" else (key, None)


def _print_header(columns: int | None) -> None:
    if columns is None or columns >= _NARROW:
        print(_columns("ID", say("list.when"), say("list.state"), say("list.size"), say("list.target")))


def _line(row: CaptureRow, columns: int | None) -> str:
    short, when, state = row.id[: kept.SHORT_ID], kept.moment(row.started), say(f"state.{row.completeness.value}")
    if row.status >= 400 and row.completeness is Completeness.COMPLETE:
        state = f"HTTP {row.status}"  # all of an error page is still an error page
    target = printable(row.target)
    if columns is not None and columns < _NARROW:
        return "\n".join(kept.shorten(line, columns) for line in (f"{short}  {when}  {state}", f"  {target}"))
    line = _columns(short, when, state, kept.human_size(row.size), target)
    return line if columns is None else kept.shorten(line, columns)


def _columns(short: str, when: str, state: str, size: str, target: str) -> str:
    return f"{short:<{kept.SHORT_ID}}  {when:<17}  {state:<9}  {size:>6}  {target}"
