"""`mirror init`: a new mirror home with a sealing key and a trust policy that requires it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from mirror import config
from mirror.cli import common
from mirror.cli.messages import say
from mirror.errors import UsageError
from mirror.store import durable, secrets
from mirror.store import home as homes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "home", nargs="?", type=Path, metavar="HOME", help="a new or empty folder (default: $MIRROR_HOME, or this one)"
    )
    parser.add_argument("--no-passphrase", action="store_true", help="do not encrypt the sealing key")
    common.add_passphrase_argument(parser)
    parser.add_argument("--json", action="store_true", help="write the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.no_passphrase and args.passphrase_fd is not None:
        raise UsageError("--no-passphrase and --passphrase-fd exclude each other; give one of them")
    cwd = common.working_directory()
    root = Path(os.path.normpath(cwd / (args.home or os.environ.get("MIRROR_HOME") or ".")))
    homes.check_free(root)  # before anybody types a passphrase twice
    passphrase = None if args.no_passphrase else common.new_passphrase(args, say("init.prompt"))
    key = secrets.generate(f"mirror-seal-{os.urandom(4).hex()}")
    with homes.begin(root) as home:
        secret_path = secrets.path_of(home.secrets_dir, key.name)
        vkey_path = home.keys / f"{key.name}.vkey"
        durable.write_new(secret_path, secrets.seal(key, passphrase), mode=0o600)
        durable.write_new(vkey_path, f"{key.verifier.format()}\n".encode(), mode=0o644)
        durable.write_new(home.trust_path, _trust_policy(key.name), mode=0o644)
        homes.finish(home, config.initial([key.name]))
    if args.no_passphrase:
        print(f"mirror: {say('init.plain', path=secret_path)}", file=sys.stderr)
    if args.json:
        common.print_json(
            {
                "home": str(root),
                "key": key.name,
                "keyid": key.keyid,
                "vkey": key.verifier.format(),
                "encrypted": passphrase is not None,
            }
        )
        return 0
    print(say("init.made", home=root))
    print(say("init.key", name=key.name))
    print(say("init.keyid", keyid=key.keyid))
    print(say("init.public", path=vkey_path))
    if passphrase is not None:
        print(say("init.encrypted"))
    save = "mirror save URL" if root == cwd else f"mirror save --home {shlex.quote(str(root))} URL"
    print(say("init.next", command=save))
    return 0


def _trust_policy(key_name: str) -> bytes:
    return f"""\
# What a reader with this folder as --trust requires before Mirror says VERIFIED.
version = 1
require = ["intact", "sealed"]          # possible: intact, sealed, logged, witnessed, not-after, not-before
[seal]
threshold = 1
keys = ["{key_name}"]          # file names (without .vkey) beside this file
""".encode()
