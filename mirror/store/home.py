"""The layout of a mirror home, how one is found, and how one is made.

mirror.toml               configuration; written last, so a folder without it is no home
archives/captures/YYYY/MM/DD/<capture id>.warc.gz
keys/                     public: trust.toml and *.vkey
state/         0700       never published: index.sqlite3, keys/ (secret keys, 0600), locks/
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mirror.errors import HomeError, MalformedError
from mirror.model import CaptureId
from mirror.store import durable
from mirror.store.lock import HomeLock

_FOLDERS = ("archives", "keys", "state")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SUFFIX = ".warc.gz"
_DATE_LEVELS = (re.compile(r"[0-9]{4}"), re.compile(r"[0-9]{2}"), re.compile(r"[0-9]{2}"))


@dataclass(frozen=True, slots=True)
class Home:
    """A mirror home by its root folder (absolute). Says where things are; touches nothing."""

    root: Path

    @property
    def config_path(self) -> Path:
        return self.root / "mirror.toml"

    @property
    def archives(self) -> Path:
        return self.root / "archives"

    @property
    def captures_dir(self) -> Path:
        return self.archives / "captures"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def trust_path(self) -> Path:
        return self.keys / "trust.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def index_path(self) -> Path:
        return self.state / "index.sqlite3"

    @property
    def secrets_dir(self) -> Path:
        return self.state / "keys"

    @property
    def locks_dir(self) -> Path:
        return self.state / "locks"

    @property
    def unfinished_path(self) -> Path:
        """A mark that stands while `mirror init` is at work, and after it was killed."""
        return self.state / "unfinished"


def find(explicit: Path | None, env: Mapping[str, str], cwd: Path) -> Home:
    """Return the home that --home, then `$MIRROR_HOME`, then the nearest mirror.toml at or above `cwd` names.

    A mirror.toml met on the way up is taken only from this user or root: whoever plants one in a shared folder would
    otherwise choose our proxy. Raises `HomeError`.
    """
    named = explicit if explicit is not None else Path(env["MIRROR_HOME"]) if env.get("MIRROR_HOME") else None
    if named is not None:
        home = Home(cwd / named)
        if home.config_path.is_file():
            return home
        raise HomeError(f"{home.root} is not a mirror home (no mirror.toml); make one with `mirror init {named}`")
    for folder in (cwd, *cwd.parents):
        try:
            owner = (folder / "mirror.toml").lstat().st_uid  # of a link: whoever made it
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError as e:
            raise durable.explain(e, folder / "mirror.toml") from e
        if owner not in (os.geteuid(), 0):
            raise HomeError(f"{folder / 'mirror.toml'} belongs to another user; name your own home with --home")
        return Home(folder)
    raise HomeError("no mirror home here; make one with `mirror init FOLDER`, or name yours with --home FOLDER")


def create(root: Path, config: bytes = b"") -> Home:
    """Make a home without keys: `begin` and `finish` in one."""
    with begin(root) as home:
        finish(home, config)
    return home


def check_free(root: Path) -> None:
    """Raise `HomeError` unless a home can be made at `root`: missing, empty, or left by a killed `mirror init`."""
    home = Home(root)
    if os.path.lexists(home.config_path):
        raise HomeError(f"{root} is a mirror home already; use it with `mirror save --home {root} URL`")
    try:
        with os.scandir(root) as entries:
            names = {entry.name for entry in entries if not entry.name.startswith(durable.TEMP_PREFIX)}
    except FileNotFoundError:
        return
    except OSError as e:
        raise durable.explain(e, root) from e
    if names - set(_FOLDERS):
        raise HomeError(f"{root} is not empty; give `mirror init` a new or empty folder")
    finished = not home.unfinished_path.is_file()
    if _holds_files(home.archives) or (finished and any(_holds_files(root / name) for name in names)):
        raise HomeError(f"{root} holds data but no mirror.toml; restore that file, or give `mirror init` a new folder")


@contextlib.contextmanager
def begin(root: Path) -> Iterator[Home]:
    """Make the folders of a home, which the `with` block fills and completes with `finish`; one process at a time.

    What a killed earlier try left is cleared first: its keys never signed. A block that ends without `finish` leaves
    such a try. Root and state are made 0700, the others by the umask. Raises `HomeError` as `check_free` does.
    """
    check_free(root)
    home = Home(root)
    durable.make_dir(root, base=_existing(root), mode=0o700)
    durable.make_dir(home.state, base=root, mode=0o700)
    durable.replace(home.unfinished_path, b"")
    with HomeLock(home.locks_dir, "init"):
        check_free(root)  # another process may have finished meanwhile
        durable.make_dir(home.secrets_dir, base=root, mode=0o700)
        for folder in (home.captures_dir, home.keys):
            durable.make_dir(folder, base=root)
        tidy(home)
        for folder in (home.keys, home.secrets_dir):
            for path in sorted(folder.iterdir()):
                durable.remove(path)
        yield home


def finish(home: Home, config: bytes) -> None:
    """Write mirror.toml, durably: from here on the folder is a home. Raises `HomeError`."""
    durable.write_new(home.config_path, config, mode=0o644)
    durable.remove(home.unfinished_path)


def capture_path(home: Home, capture_id: CaptureId, started: datetime) -> Path:
    """Return where the capture's WARC belongs, by the UTC date of `started` (aware); makes no folder.

    Raises `MalformedError` if the id is not a lower-case UUID or `started` has no time zone.
    """
    if not _UUID.fullmatch(capture_id):
        raise MalformedError("not a capture id (a lower-case UUID)", capture_id)
    if started.tzinfo is None:
        raise MalformedError("the start of a capture has no time zone", capture_id)
    day = started.astimezone(UTC)
    return home.captures_dir / f"{day.year:04}" / f"{day.month:02}" / f"{day.day:02}" / f"{capture_id}{_SUFFIX}"


def captures(home: Home) -> Iterator[Path]:
    """Yield the WARC of every capture, by date, then id. Temporary and foreign files and symlinks are passed over."""
    for day in _days(home):
        for name in _names(day, folders=False):
            if name.endswith(_SUFFIX) and _UUID.fullmatch(name.removesuffix(_SUFFIX)):
                yield day / name


@contextlib.contextmanager
def at_work(home: Home) -> Iterator[bool]:
    """Mark the home while captures are added to it. Yields whether an earlier process did not come to its end.

    Then its leftovers have been removed, and captures may be sealed that no index knows (`rebuild.catch_up`). The mark
    is a `.tmp-` file in state/ under flock; a killed process, or a block that raises, leaves it for the next.
    """
    mark = durable.Staged.open(home.state)
    try:
        durable.sync_dir(home.state)
        was_left = durable.sweep(home.state) > 0
        if was_left:
            tidy(home)
        yield was_left
    except BaseException:
        mark.leave()
        raise
    mark.discard()


def tidy(home: Home) -> int:
    """Remove what killed writers left behind anywhere in the home; returns how many files. Raises `HomeError`."""
    folders = [home.root, home.keys, home.state, home.secrets_dir, *_days(home)]
    return sum(durable.sweep(folder) for folder in folders if folder.is_dir())


def _days(home: Home) -> Iterator[Path]:
    year, month, day = _DATE_LEVELS
    for y in filter(year.fullmatch, _names(home.captures_dir, folders=True)):
        for m in filter(month.fullmatch, _names(home.captures_dir / y, folders=True)):
            for d in filter(day.fullmatch, _names(home.captures_dir / y / m, folders=True)):
                yield home.captures_dir / y / m / d


def _names(folder: Path, *, folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            wanted = (e for e in entries if (e.is_dir if folders else e.is_file)(follow_symlinks=False))
            return sorted(e.name for e in wanted)
    except FileNotFoundError:
        return []
    except OSError as e:
        raise durable.explain(e, folder) from e


def _existing(path: Path) -> Path:
    """Return the nearest folder at or above `path` that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def _holds_files(folder: Path) -> bool:
    """Say whether anything but folders and leftovers of killed writers is in `folder`, or it is itself a file."""
    if not folder.is_dir():
        return os.path.lexists(folder)
    return any(not name.startswith(durable.TEMP_PREFIX) for _, _, names in os.walk(folder) for name in names)
