"""`mirror show`: what a capture holds, what it misses and why, its text, its URLs, its raw payloads."""

from __future__ import annotations

import argparse
import sys

from mirror.cli import common, kept
from mirror.cli.list import fields
from mirror.cli.main import printable
from mirror.cli.messages import say
from mirror.errors import UsageError
from mirror.formats import urls
from mirror.model import CaptureRow, UrlRow
from mirror.store import reading
from mirror.store.home import Home
from mirror.store.index import Index, TextRow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the capture's id, or its first characters")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", action="store_true", help="show the page's text")
    what.add_argument("--urls", action="store_true", help="show every response it holds")
    what.add_argument(
        "--raw",
        metavar="URL|RECORD",
        help="write the payload of one response to stdout, as its digest covers it (content coding left on)",
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    common.add_home_argument(parser)


def run(args: argparse.Namespace) -> int:
    if args.raw is not None and args.json:
        raise UsageError("--raw writes bytes; leave --json out")
    home = common.open_home(args)
    index = kept.open_index(home)
    if index is None:
        raise UsageError(say("list.none"))
    with index:
        row = index.get(args.id)
        if args.raw is not None:
            _write_raw(home, row, args.raw)
        elif args.json:
            common.print_json(_object(home, index, row, args))
        elif args.text:
            _print_text(index.text(row.id))
        elif args.urls:
            for url in row.urls:
                print(f"{url.record:>5}  {url.status:>3}  {printable(url.mime or '-'):<24}  {printable(url.url)}")
        else:
            _print_about(home, row, index.text(row.id))
    return 0


def _object(home: Home, index: Index, row: CaptureRow, args: argparse.Namespace) -> dict[str, object]:
    result = fields(row)
    text = index.text(row.id)
    result["missing"] = [{"url": m.url, "kind": m.kind, "reason": m.reason} for m in _missing(home, row)]
    result["page"] = row.page
    if text is not None:
        names = ("title", "author", "date", "language", "tool", "tool_version", "encoding", "failure")
        result |= {name: getattr(text, name) for name in names}
    if args.text:
        result["text"] = text.text if text else None
    if args.urls:
        result["urls"] = [{name: getattr(url, name) for name in UrlRow.__slots__} for url in row.urls]
    return result


def _print_about(home: Home, row: CaptureRow, text: TextRow | None) -> None:
    page = next((url for url in row.urls if url.record == row.page), None)
    lines: list[tuple[str, str | None]] = [
        ("show.id", row.id),
        ("show.target", row.target),
        ("show.when", kept.moment(row.started)),
        ("show.state", _state(row)),
        ("show.page", f"{page.status} {page.mime} {page.url}" if page else say("show.no-page")),
    ]
    if text is not None:
        lines += [
            ("show.title", text.title),
            ("show.author", text.author),
            ("show.date", text.date),
            ("show.language", text.language),
            ("show.no-text", text.detail),
        ]
    size = kept.human_size(row.size)
    lines += [
        ("show.size", say("show.contents", size=size, records=row.records, responses=len(row.urls))),
        ("show.file", str(home.archives / row.path)),
        ("show.root", row.root),
        *(("show.signer", signer) for signer in row.signers),
    ]
    for key, value in lines:
        if value:
            print(f"{say(key):<10} {printable(value)}")
    for missing in _missing(home, row):
        print(f"  {printable(missing.kind):<8} {printable(missing.url)}\n           {printable(missing.reason)}")


def _state(row: CaptureRow) -> str:
    state = say(f"state.{row.completeness.value}")
    return f"{state}: {say('show.missing', count=row.missing)}" if row.missing else state


def _missing(home: Home, row: CaptureRow) -> tuple[reading.Missing, ...]:
    """What could not be kept; the reasons are in the file only."""
    return reading.outcome(home.archives / row.path, row).missing if row.missing else ()


def _print_text(text: TextRow | None) -> None:
    if text is None:
        raise UsageError(say("show.not-read"))
    if text.failure is not None:
        raise UsageError(text.detail or say("show.no-document"))
    if text.title:
        print(f"{printable(text.title)}\n")
    for line in text.text.split("\n"):
        print(printable(line))


def _write_raw(home: Home, row: CaptureRow, which: str) -> None:
    if sys.stdout.isatty():
        raise UsageError(say("show.raw-terminal"))
    url = reading.stored(row, _find(row, which))
    for piece in reading.payload(home.archives / row.path, url):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _find(row: CaptureRow, which: str) -> UrlRow:
    """The response that a record number or a URL names; of several for one URL the last."""
    if which.isascii() and which.isdigit():
        found = [url for url in row.urls if str(url.record) == which]
    else:
        wanted = urls.parse(which).href
        found = [url for url in row.urls if url.url == wanted]
    if not found:
        raise UsageError(say("show.no-response", id=row.id[: kept.SHORT_ID]))
    return found[-1]
