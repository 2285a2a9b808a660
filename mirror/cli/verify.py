"""`mirror verify`: what files prove to a reader with a trust policy. Opens no socket and writes nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirror.cli import workers
from mirror.cli.main import printable
from mirror.cli.messages import say
from mirror.errors import HomeError, UsageError
from mirror.verify import policy as policies
from mirror.verify import verifier
from mirror.verify.verdict import Claim, Name, Outcome, Status, Verdict, worst

_SUFFIXES = (".warc", ".warc.gz")
_LARGE = verifier.PARALLEL_FROM
_MARK = {Status.PASSED: "+", Status.FAILED: "!", Status.MISSING: "-", Status.UNTRUSTED: "?"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="WARC files, folders of them, or - for one on stdin")
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="DIR",
        help="folder with trust.toml and *.vkey (default: keys/ of the home)",
    )
    parser.add_argument(
        "--no-trust", action="store_true", help="trust nobody: only say whether files agree with themselves"
    )
    parser.add_argument("--deep", action="store_true", help="recompute the records' own digests too")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--json", action="store_true", help="write one JSON object per file")
    parser.add_argument("-q", "--quiet", action="store_true", help="no output, only the exit status")
    parser.add_argument("--home", type=Path, metavar="DIR", help="the mirror home whose keys/ is trusted")


def run(args: argparse.Namespace) -> int:
    jobs = args.jobs if args.jobs is not None else len(os.sched_getaffinity(0))
    if jobs < 1:
        raise UsageError("--jobs takes a number from 1 on")
    if args.no_trust and args.trust:
        raise UsageError("--trust and --no-trust exclude each other; give one of them")
    paths = list(_files(args.paths))
    trust = policies.NO_TRUST if args.no_trust else _trust(args)
    outcomes: list[Outcome] = []
    progress = _Progress(len(paths), quiet=args.quiet or args.json)
    for document in _verdicts(paths, trust, args.deep, jobs):
        progress.clear()
        outcomes.append(Outcome(document["verdict"]))
        if args.json:
            print(json.dumps(document))
        elif not args.quiet:
            _print(document, short=len(paths) > 1)
        progress.step(len(outcomes))
    progress.clear()
    if not paths:
        raise UsageError(say("verify.nothing"))
    if len(paths) > 1 and not args.json and not args.quiet:
        counts = [f"{sum(o is kind for o in outcomes)} {kind.value}" for kind in Outcome if kind in outcomes]
        print(say("verify.total", count=len(outcomes), counts=", ".join(counts)))
    if not args.json and not args.quiet:
        print(printable(_trusted(trust)))
    return worst(outcomes).code


def _verdicts(paths: list[Path], trust: policies.TrustPolicy, deep: bool, jobs: int) -> Iterator[dict[str, Any]]:
    """Large files one after the other, each on all processes; small ones side by side, in the order given."""
    if len(paths) == 1 or jobs == 1:
        for path in paths:
            yield verifier.verify(path, trust, deep=deep, runner=workers.runner(jobs)).as_json()
        return
    done: dict[int, dict[str, Any]] = {}
    small = [n for n, path in enumerate(paths) if _size(path) < _LARGE]
    following = 0

    def task(number: int) -> dict[str, Any]:
        return verifier.verify(paths[number], trust, deep=deep).as_json()

    for position, document in workers.run(task, small, jobs):
        done[small[position]] = document
        while following in done:
            yield done.pop(following)
            following += 1
    for number in range(following, len(paths)):
        if number not in done:
            done[number] = verifier.verify(paths[number], trust, deep=deep, runner=workers.runner(jobs)).as_json()
        yield done.pop(number)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _files(given: list[str]) -> Iterator[Path]:
    for text in given:
        if text == "-":
            yield _stdin()
            continue
        path = Path(text)
        if path.is_dir():
            yield from sorted(
                Path(folder) / name
                for folder, _, names in os.walk(path, onerror=_unreadable)
                for name in names
                if name.endswith(_SUFFIXES) and not name.startswith(".tmp-")
            )
        else:
            yield path


def _unreadable(error: OSError) -> None:
    """A folder that is passed over could hold anything."""
    raise HomeError(f"{error.filename} cannot be read ({error.strerror}); mend that, or name what lies beside it")


def _stdin() -> Path:
    """Standard input as a file: a seal stands at the end, so a pipe goes to a nameless file first."""
    with tempfile.TemporaryFile() as file:
        try:
            while chunk := sys.stdin.buffer.read(1 << 20):
                file.write(chunk)
            file.flush()
        except OSError as e:
            raise HomeError(f"standard input cannot be kept for reading ({e.strerror}); save it to a file first") from e
        return Path(f"/dev/fd/{os.dup(file.fileno())}")


def _trust(args: argparse.Namespace) -> policies.TrustPolicy:
    """--trust; else keys/ of --home, $MIRROR_HOME, or of the nearest home at or above the working directory.

    Never what lies beside the file: whoever sends a file can send keys along.
    """
    if args.trust is not None:
        return policies.load(args.trust)
    home = args.home or os.environ.get("MIRROR_HOME")
    if home:
        return policies.load(Path(home) / "keys")
    try:
        folder = Path.cwd()
    except OSError as e:
        raise HomeError("the working directory is gone; change to one that exists") from e
    for above in (folder, *folder.parents):
        if (above / "keys" / "trust.toml").is_file() and (above / "archives").is_dir():
            return policies.load(above / "keys")
    return policies.NO_TRUST


class _Progress:
    """A line on stderr while many files are verified; nothing when nobody watches."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._shown = not quiet and total > 1 and sys.stderr.isatty() and not sys.stdout.isatty()

    def step(self, done: int) -> None:
        if self._shown:
            sys.stderr.write(f"\r{done}/{self._total}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def _print(document: dict[str, Any], *, short: bool) -> None:
    print(f"{printable(document['path'])}: {printable(document['headline'])}")
    if short and document["verdict"] == Outcome.VERIFIED.value:
        return
    print("  " + say(f"verify.{document['verdict']}"))
    for check in document["checks"]:
        mark = _MARK[Status(check["status"])]
        name = f"{check['verdict']}: " if check["verdict"] else ""
        print(_hanging(f"  {mark} {check['check']:<14} ", f"{name}{printable(check['sentence'])}"))
    claimed = document["facts"].get("claimed")
    if claimed:
        print("    " + say("verify.claimed", started=claimed["started"], finished=claimed["finished"]))


def _hanging(label: str, text: str) -> str:
    """`text` after `label`; on a terminal its further lines stand below its first."""
    try:
        columns = os.get_terminal_size(1).columns
    except (OSError, ValueError):  # no terminal
        return label + text
    import textwrap  # not on the way of a program that calls us

    return "\n".join(textwrap.wrap(text, max(columns, 40), initial_indent=label, subsequent_indent=" " * len(label)))


def _trusted(trust: policies.TrustPolicy) -> str:
    if trust is policies.NO_TRUST:
        return say("verify.no-trust")
    return say("verify.trust", folder=trust.source, claims=", ".join(c.value for c in Claim if c in trust.require))


def not_established(verdict: Verdict) -> list[str]:
    """The named verdicts of what a file does not show, each once."""
    names: list[Name] = [c.name for c in verdict.checks if c.status in (Status.MISSING, Status.UNTRUSTED) and c.name]
    return [name.value for name in dict.fromkeys(names)]
