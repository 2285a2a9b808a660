"""`mirror save`: capture pages now, seal them, verify what was written."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from mirror import config as configs
from mirror.capture import Scope
from mirror.cli import common
from mirror.cli.kept import human_size, nearby
from mirror.cli.main import printable
from mirror.cli.messages import say
from mirror.cli.verify import not_established
from mirror.errors import HomeError, MirrorError, NetworkError, UsageError
from mirror.model import Completeness, Report
from mirror.pipeline import Kept, Preserver
from mirror.report import BadLine, accept, read_list
from mirror.store import home as homes
from mirror.store import rebuild, secrets
from mirror.text.pool import Extractor
from mirror.verify import policy as policies
from mirror.verify.verdict import Name, Outcome, Verdict

_EXPLAINED = (Name.NOT_LOGGED.value, Name.TIME_UNPROVEN.value)


_AT_ONCE = 8
"""Captures under way at the same time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("urls", nargs="+", metavar="URL", help="pages to keep; - reads a list, one a line, from stdin")
    parser.add_argument("--follow", type=int, default=0, metavar="N", help="keep up to N next parts of an article too")
    parser.add_argument("--sitemap", action="store_true", help="when the URL is a site map, keep the pages it lists")
    parser.add_argument("--vantage", metavar="NAME", help="the way into the network: a [vantage.NAME] of mirror.toml")
    parser.add_argument(
        "--allow-private-hosts", action="store_true", help="fetch from private and local addresses (tests, intranets)"
    )
    parser.add_argument("--no-text", action="store_true", help="do not extract the text for searching")
    parser.add_argument("--json", action="store_true", help="write one JSON object per capture")
    common.add_passphrase_argument(parser)
    common.add_home_argument(parser)


def run(args: argparse.Namespace) -> int:
    if args.follow < 0:
        raise UsageError("--follow takes a number from 0 on")
    home = common.open_home(args)
    config = configs.load(home.config_path)
    if not config.seal.keys:
        raise UsageError("mirror.toml names no key under [seal] keys, so nothing can be sealed; see `mirror keys`")
    if args.vantage:
        config.vantage(args.vantage)
    signers = [secrets.load(home.secrets_dir, n, common.passphrase_source(args, n)) for n in config.seal.keys]
    trust = policies.load(home.keys)
    show = _Show(args.json)
    reports = list(_reports(args.urls, show))
    if reports:
        with homes.at_work(home) as was_left, Extractor() as extractor:
            if was_left or not home.index_path.exists():
                rebuild.catch_up_home(home)
            if not args.no_text:
                extractor.warm()
            job = _save(home, config, signers, trust, reports, args, None if args.no_text else extractor, show)
            _loop(job)
    return show.exit_code()


def _loop(job: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(job)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(job)


def _reports(given: list[str], show: _Show) -> Iterator[Report]:
    """Cleaned reports, each URL once; what cannot be captured is said and counted, and stops nobody else."""
    now = datetime.now(UTC)
    seen: set[str] = set()
    for number, text in enumerate(given, start=1):
        place = f"URL {number}: " if len(given) > 1 else ""
        found = read_list(sys.stdin, now=now) if text == "-" else [_accept(text, now, place)]
        for item in found:
            if isinstance(item, BadLine):
                show.bad(item)
            elif item.url not in seen:
                seen.add(item.url)
                yield item


def _accept(text: str, now: datetime, place: str) -> Report | BadLine:
    try:
        return accept(text, now=now)
    except UsageError as e:
        return BadLine(number=0, reason=f"{place}{e}")


async def _save(
    home: homes.Home,
    config: configs.Config,
    signers: list[secrets.SecretKey],
    trust: policies.TrustPolicy,
    reports: list[Report],
    args: argparse.Namespace,
    extractor: Extractor | None,
    show: _Show,
) -> None:
    scope = Scope(follow=args.follow, sitemap=args.sitemap)
    async with Preserver(
        home,
        config,
        signers,
        vantage=args.vantage,
        allow_private=args.allow_private_hosts,
        scope=scope,
        watch=show.progress,
        at_once=_AT_ONCE,
    ) as preserver:

        async def one(report: Report) -> None:
            try:
                await whole(report)
            except MirrorError:
                raise
            except Exception as e:  # noqa: BLE001  like a job of its own: what goes wrong here must not stop the others
                show.unexpected(report, e)

        async def whole(report: Report) -> None:
            kept = await preserver.preserve(report)
            verdict = await preserver.verify(kept, trust)
            show.kept(report, kept, verdict)
            if extractor is not None:
                try:
                    await preserver.add_text(kept, extractor)
                except HomeError:
                    raise
                except MirrorError as e:  # derived data: it can be made later, and stops nobody else
                    show.no_text(kept, e)

        try:
            async with asyncio.TaskGroup() as group:
                for report in reports:
                    group.create_task(one(report))
        except* MirrorError as errors:
            raise _innermost(errors) from None


def _innermost(errors: BaseExceptionGroup[Any]) -> Any:
    error = errors.exceptions[0]
    return _innermost(error) if isinstance(error, BaseExceptionGroup) else error


class _Show:
    """What a person or a program sees of the captures, and the exit code that follows."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._live = sys.stderr.isatty() and not as_json
        self._requests = self._bytes = 0
        self._codes: list[int] = []

    def exit_code(self) -> int:
        """What contradicts first, then network, then usage; 0 when everything was kept and verified."""
        for code in (Outcome.REFUTED.code, Outcome.MALFORMED.code, Outcome.NOT_PROVEN.code, NetworkError.exit_code):
            if code in self._codes:
                return code
        return max(self._codes, default=0)

    def progress(self, size: int) -> None:
        self._requests += 1
        self._bytes += size
        if self._live:
            sys.stderr.write("\r" + say("save.progress", count=self._requests, size=human_size(self._bytes)) + "\x1b[K")
            sys.stderr.flush()

    def bad(self, line: BadLine) -> None:
        self._codes.append(UsageError.exit_code)
        where = say("save.line", number=line.number) if line.number else "mirror"
        print(f"{where}: {printable(line.reason)}", file=sys.stderr)

    def no_text(self, kept: Kept, error: MirrorError) -> None:
        print(f"mirror: {printable(say('save.no-text', id=kept.row.id[:8], reason=error))}", file=sys.stderr)

    def unexpected(self, report: Report, error: Exception) -> None:
        self._codes.append(MirrorError.exit_code)
        if os.environ.get("MIRROR_DEBUG") == "1":
            traceback.print_exception(error)
        print(f"{printable(report.url)}: {say('main.unexpected', kind=type(error).__name__)}", file=sys.stderr)

    def kept(self, report: Report, kept: Kept, verdict: Verdict) -> None:
        row, result = kept.row, kept.result
        self._codes.append(verdict.outcome.code)
        if row.completeness is Completeness.FAILED:
            self._codes.append(NetworkError.exit_code)
        if self._json:
            common.print_json(_fields(kept, verdict))
            sys.stdout.flush()
            return
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        state = say(f"state.{row.completeness.value}")
        status = f" · HTTP {row.status}" if row.status else ""
        print(printable(row.target))
        if report.removed:
            print("  " + say("save.cleaned", names=printable(", ".join(report.removed))))
        size, seconds = human_size(row.size), f"{kept.seconds:.2f}"
        print(f"  {state}{status} · " + say("save.counts", count=result.requests, size=size, seconds=seconds))
        if result.failure is not None:
            print(f"  ! {printable(result.failure.detail)}")
        elif row.status >= 400:
            print("  ! " + say("save.error-page", status=row.status))
        told = [m for m in result.missing if result.failure is None or m.url != row.target]
        for missing in told[:5]:
            print(f"  - {missing.kind.value}: {printable(missing.url)}\n      {printable(missing.reason)}")
        if len(told) > 5:
            print("  - " + say("save.more-missing", count=len(told) - 5, id=row.id[:8]))
        print(f"  {printable(nearby(kept.path))}")
        print(f"  {printable(verdict.headline)}")
        lacking = not_established(verdict)
        if lacking:
            names = [f"{name} ({say(f'lacks.{name}')})" if name in _EXPLAINED else name for name in lacking]
            print("  " + say("save.not-established", names=", ".join(names)))
        sys.stdout.flush()


def _fields(kept: Kept, verdict: Verdict) -> dict[str, object]:
    row, result = kept.row, kept.result
    return {
        "id": row.id,
        "url": row.target,
        "final": result.final,
        "state": row.completeness.value,
        "status": row.status,
        "failure": {"kind": result.failure.kind.value, "detail": result.failure.detail} if result.failure else None,
        "requests": result.requests,
        "missing": [{"url": m.url, "kind": m.kind.value, "reason": m.reason} for m in result.missing],
        "path": str(kept.path),
        "size": row.size,
        "seconds": round(kept.seconds, 4),
        "root": row.root,
        "verdict": verdict.outcome.value,
        "headline": verdict.headline,
        "not_established": not_established(verdict),
    }
