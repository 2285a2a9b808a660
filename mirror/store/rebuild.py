"""Make the index anew from the capture files alone, or add to it what a crash left out.

1  read every capture into a new file beside the index; savers go on with the old one meanwhile
2  take the exclusive lock, and read what was saved during 1
3  move a damaged index aside (it is never deleted); a sound one is replaced
4  publish the new file, durably
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import HomeError, MalformedError
from mirror.model import CaptureRow
from mirror.store import durable, home, reading
from mirror.store.home import Home
from mirror.store.index import LOCK, LOCK_WAIT_S, Index
from mirror.store.lock import HomeLock
from mirror.text.wire import Extract, ExtractFailure

Extraction = Callable[[Path, CaptureRow], Extract | ExtractFailure | None]
"""Reads the text of a capture's page: `reading.page_text` with an extractor."""

Progress = Callable[[int, int], None]
"""Told how many files are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a rebuild did: captures indexed, texts read, files left out and why, the old index if moved aside."""

    captures: int
    texts: int
    skipped: tuple[tuple[Path, str], ...]
    aside: Path | None


def rebuild(place: Home, *, extract: Extraction | None = None, progress: Progress | None = None) -> Summary:
    """Make the index of a home anew, the same as saving had made it. Without `extract` it holds no text.

    Raises `HomeError`; until the last step the old index stays as it was.
    """
    durable.make_dir(place.state, base=place.root, mode=0o700)
    with durable.Staged.open(place.state, ".sqlite3") as staged, Index.build(staged.path) as index:
        work = _Filling(place, index, extract)
        work.run(progress)  # step 1
        with HomeLock(place.locks_dir, LOCK, wait_s=LOCK_WAIT_S):
            work.run(None)  # step 2
            index.close()
            aside = _clear(place.index_path)  # step 3
            staged.publish(place.index_path, replace=True)  # step 4
    return Summary(captures=work.captures, texts=work.texts, skipped=tuple(work.skipped), aside=aside)


def catch_up(place: Home, index: Index, *, progress: Progress | None = None) -> Summary:
    """Add the captures that are on disk but not in `index`: a crash came between sealing and indexing, or it is new."""
    work = _Filling(place, index, None)
    work.seen = {row.path for row in index.captures()}
    work.run(progress)
    return Summary(captures=work.captures, texts=0, skipped=tuple(work.skipped), aside=None)


def catch_up_home(place: Home) -> None:
    """The same with the home's own index, after a crash or when it is new. Raises `HomeError`."""
    with Index.open(place.index_path) as index:
        catch_up(place, index)


class _Filling:
    """Brings files into an index, each once."""

    def __init__(self, place: Home, index: Index, extract: Extraction | None) -> None:
        self._place = place
        self._index = index
        self._extract = extract
        self._ids: dict[str, str] = {}
        self.seen: set[str] = set()
        self.captures = 0
        self.texts = 0
        self.skipped: list[tuple[Path, str]] = []

    def run(self, progress: Progress | None) -> None:
        archives = self._place.archives
        paths = [p for p in home.captures(self._place) if p.relative_to(archives).as_posix() not in self.seen]
        for done, path in enumerate(paths):
            if progress:
                progress(done, len(paths))
            self._one(path, archives)
        if progress:
            progress(len(paths), len(paths))

    def _one(self, path: Path, archives: Path) -> None:
        self.seen.add(path.relative_to(archives).as_posix())
        try:
            row = reading.rows(path, archives)
        except (MalformedError, HomeError) as e:
            self.skipped.append((path, str(e)))
            return
        first = self._ids.setdefault(row.id, row.path)
        if first != row.path:
            self.skipped.append((path, f"the same capture as {first}; keep one of the two"))
            return
        self._index.add(row)
        self.captures += 1
        if self._extract:
            found = self._extract(path, row)
            self._index.add_text(row.id, found)
            self.texts += isinstance(found, Extract)


def _clear(index: Path) -> Path | None:
    """Make way at `index`. Returns where a damaged one lies now; its -wal and -shm go with it."""
    sidecars = [path for suffix in ("-wal", "-shm") if (path := index.with_name(index.name + suffix)).exists()]
    if not index.exists() and not sidecars:
        return None
    if index.exists() and _is_sound(index):
        for path in sidecars:  # its last rows are in the new index too; left behind, they would be replayed into it
            durable.remove(path)
        return None
    number = 1
    while (aside := index.with_name(f"{index.name}.damaged-{number}")).exists():
        number += 1
    for path in (*sidecars, index):
        if path.exists():
            try:
                path.rename(aside.with_name(aside.name + path.name.removeprefix(index.name)))
            except OSError as e:
                raise durable.explain(e, path) from e
    durable.sync_dir(index.parent)
    return aside


def _is_sound(index: Path) -> bool:
    """Look at it without touching it; if it is sound, bring its -wal home, so that a crash now costs nothing."""
    uri = index.absolute().as_uri()
    try:
        with closing(sqlite3.connect(f"{uri}?mode=ro", uri=True, isolation_level=None)) as db:
            if db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                return False
        with closing(sqlite3.connect(index, timeout=1.0, isolation_level=None)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error:
        return False
    return True
