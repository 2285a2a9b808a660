"""What several commands share: finding the home, asking for a passphrase, writing JSON lines."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mirror.cli.messages import say
from mirror.errors import HomeError, PassphraseError, UsageError
from mirror.store import home as homes

MAX_PASSPHRASE_BYTES = 4096
CREDENTIAL = "mirror-passphrase"
"""Name of the service credential (systemd `LoadCredential=`) that holds the passphrase."""


def add_home_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="the mirror home (default: $MIRROR_HOME, or the nearest mirror.toml)"
    )


def open_home(args: argparse.Namespace) -> homes.Home:
    """Return the home that the arguments, the environment or the working directory name. Raises `HomeError`."""
    return homes.find(args.home, os.environ, working_directory())


def working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as e:
        raise HomeError("the working directory is gone; change to one that exists") from e


def add_passphrase_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-fd",
        type=int,
        metavar="N",
        help="read the passphrase from file descriptor N (default: service credential, then a prompt)",
    )


def passphrase_source(args: argparse.Namespace, name: str) -> Callable[[], bytes]:
    """Return a function that gets the passphrase of key `name` when it is first called, and remembers it.

    In this order: `--passphrase-fd`, the service credential, a prompt. It raises `PassphraseError`.
    """
    known: list[bytes] = []

    def get() -> bytes:
        if not known:
            given = _given(args, os.environ)
            known.append(_ask(say("passphrase.prompt", name=name)) if given is None else given)
        return known[0]

    return get


def new_passphrase(args: argparse.Namespace, prompt: str) -> bytes:
    """Get a passphrase for a new key, from the same places; a prompt asks twice. Raises `PassphraseError`."""
    given = _given(args, os.environ)
    if given is not None:
        return given
    first = _ask(prompt)
    if _ask(say("passphrase.again")) != first:
        raise PassphraseError(say("passphrase.differ"))
    return first


def print_json(fields: Mapping[str, object]) -> None:
    """Write one object on one line of stdout, ASCII only, so that no charset and no terminal can spoil it."""
    sys.stdout.write(json.dumps(fields, separators=(", ", ": ")) + "\n")


def _given(args: argparse.Namespace, env: Mapping[str, str]) -> bytes | None:
    """Return the passphrase from a file descriptor or the service manager, None if neither was set up."""
    if args.passphrase_fd is not None:
        if args.passphrase_fd < 0:
            raise UsageError("--passphrase-fd needs the number of an open file descriptor, such as 3")
        return _read(args.passphrase_fd, f"--passphrase-fd {args.passphrase_fd}")
    folder = env.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    try:
        fd = os.open(Path(folder) / CREDENTIAL, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # the service has other credentials only
    except OSError as e:
        raise PassphraseError(f"service credential {CREDENTIAL} cannot be read ({e.strerror}); check the unit") from e
    try:
        return _read(fd, f"service credential {CREDENTIAL}")
    finally:
        os.close(fd)


def _read(fd: int, source: str) -> bytes:
    data = b""
    try:
        while len(data) <= MAX_PASSPHRASE_BYTES and (chunk := os.read(fd, MAX_PASSPHRASE_BYTES + 1)):
            data += chunk
    except OSError as e:
        raise PassphraseError(f"{source} cannot be read ({e.strerror}); check how the command is started") from e
    return _checked(data)


def _ask(prompt: str) -> bytes:
    """Ask at the terminal, unseen. Never reads stdin: that may be a pipe of URLs."""
    import getpass

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as e:
        raise PassphraseError(say("passphrase.no-terminal")) from e
    try:
        return _checked(getpass.getpass(prompt).encode("utf-8", "surrogateescape"))
    except EOFError as e:
        raise PassphraseError(say("passphrase.empty")) from e


def _checked(data: bytes) -> bytes:
    """Strip one line end; refuse what is empty or too long to be meant."""
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data:
        raise PassphraseError(say("passphrase.empty"))
    if len(data) > MAX_PASSPHRASE_BYTES:
        raise PassphraseError(f"the passphrase is longer than {MAX_PASSPHRASE_BYTES} bytes; is it the right file?")
    return data
