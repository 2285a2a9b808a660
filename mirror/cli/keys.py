"""`mirror keys`: the keys of the home, public and secret halves side by side. Opens no secret."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from mirror import config
from mirror.cli import common
from mirror.cli.messages import say
from mirror.errors import HomeError
from mirror.formats import vkey
from mirror.store import durable, secrets
from mirror.store.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of a home; `encrypted` is None when its secret half is not here."""

    verifier: vkey.VerifierKey
    roles: tuple[str, ...]
    encrypted: bool | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["list"], default="list", help="list (default)")
    common.add_home_argument(parser)
    parser.add_argument("--json", action="store_true", help="write one JSON object per key")


def run(args: argparse.Namespace) -> int:
    home = common.open_home(args)
    found = entries(home, config.load(home.config_path))
    for entry in found:
        if args.json:
            common.print_json(
                {
                    "name": entry.verifier.name,
                    "keyid": entry.verifier.keyid,
                    "roles": list(entry.roles),
                    "secret": entry.encrypted is not None,
                    "encrypted": entry.encrypted,
                    "vkey": entry.verifier.format(),
                }
            )
        else:
            kept = {True: "keys.encrypted", False: "keys.plain", None: "keys.absent"}[entry.encrypted]
            roles = ", ".join(entry.roles) or say("keys.no-role")
            print(f"{entry.verifier.name}  {roles}  {say(kept)}")
            print(f"  keyid  {entry.verifier.keyid}")
            print(f"  vkey   {entry.verifier.format()}")
    if not found and not args.json:
        print(say("keys.none", path=home.keys))
    return 0


def entries(home: Home, settings: config.Config) -> list[Entry]:
    """Return the keys of `home` by file name: every `keys/*.vkey` and every secret in `state/keys/`.

    Raises `MalformedError` for a file that is no key, `HomeError` if the two halves of one name differ.
    """
    public = {
        name: vkey.parse_file(_read(home.keys / f"{name}.vkey"), f"{name}.vkey") for name in _stems(home.keys, ".vkey")
    }
    secret = {
        name: secrets.describe(secrets.read(secrets.path_of(home.secrets_dir, name)))
        for name in _stems(home.secrets_dir, ".json")
    }
    found = []
    for name in sorted(public.keys() | secret.keys()):
        label = secret.get(name)
        key = public.get(name)
        if label and key and (label.name, label.public) != (key.name, key.public):
            raise HomeError(f"the secret and the public half of {name} differ; restore keys/{name}.vkey from a backup")
        if key is None and label is not None:
            key = vkey.make(label.name, label.public)
        if key is not None:
            roles = ("seal",) if name in settings.seal.keys else ()
            found.append(Entry(verifier=key, roles=roles, encrypted=label.encrypted if label else None))
    return found


def _stems(folder: Path, suffix: str) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as e:
        raise durable.explain(e, folder) from e
    return [n.removesuffix(suffix) for n in names if n.endswith(suffix) and not n.startswith(".")]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4 * vkey.MAX_LENGTH + 1)
    except OSError as e:
        raise durable.explain(e, path) from e
