"""The `mirror` command: finds the verb, imports its module alone, and turns errors into exit codes.

A command is a module in `mirror.cli` with `add_arguments(parser)` and `run(args) -> int`, a name in `COMMANDS`, and
`<name>.summary` in `mirror.cli.messages`. This module and what it imports stay light, so that
`mirror --help` is quick.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import mirror
from mirror.cli.messages import choose, say
from mirror.errors import MirrorError

COMMANDS = {  # in the order of --help
    "init": "mirror.cli.init",
    "save": "mirror.cli.save",
    "verify": "mirror.cli.verify",
    "list": "mirror.cli.list",
    "show": "mirror.cli.show",
    "search": "mirror.cli.search",
    "index": "mirror.cli.index",
    "keys": "mirror.cli.keys",
}

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name. Returns the exit code and never raises."""
    choose(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another charset is no reason to fail
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SystemExit as e:  # argparse: --help, --version, wrong usage
        return e.code if isinstance(e.code, int) else 0 if e.code is None else 2
    except MirrorError as e:
        _complain(str(e))
        return e.exit_code
    except KeyboardInterrupt:
        _complain(say("main.interrupted"))
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at exit
        return _BROKEN_PIPE
    except Exception as e:  # noqa: BLE001  the last resort: one line for people, the traceback on request
        if os.environ.get("MIRROR_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        _complain(say("main.unexpected", kind=type(e).__name__))
        return 1


def exit_status() -> str:
    """Return the EXIT STATUS section that ends every --help."""
    lines = [f"  {code}  {say(f'exit.{code}')}" for code in range(8)]
    return "\n".join([f"{say('exit.title')}:", *lines])


def printable(text: str) -> str:
    """Return `text` as one line that cannot steer a terminal: what does not print is shown escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _run(argv: list[str]) -> int:
    command = next((word for word in argv if not word.startswith("-")), None)
    module = importlib.import_module(COMMANDS[command]) if command in COMMANDS else None
    parser = argparse.ArgumentParser(
        prog="mirror",
        description=say("main.description"),
        epilog=f"{say('main.more')}\n\n{exit_status()}",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mirror {mirror.__version__}")
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        summary = say(f"{name}.summary")
        verb = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=exit_status(),
            formatter_class=_Help,
            allow_abbrev=False,
        )
        if module and name == command:
            module.add_arguments(verb)
    args = parser.parse_args(argv)
    if module is None:
        parser.error("COMMAND")
    code: int = module.run(args)
    return code


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size().columns - 2
        except OSError:  # not a terminal
            width = 98
        super().__init__(prog, width=max(40, min(width, 98)))  # given here, or argparse imports shutil to ask


def _complain(text: str) -> None:
    try:
        print(f"mirror: {printable(text)}", file=sys.stderr, flush=True)
    except OSError:
        return  # nobody listens on stderr; the exit code still tells
