"""The database under the index: opening it, bringing its schema up to date, explaining its failures."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import HomeError
from mirror.store import durable

_BUSY_S = 30.0

_MIGRATIONS = (
    """
    CREATE TABLE captures (
        id TEXT NOT NULL PRIMARY KEY, path TEXT NOT NULL, target TEXT NOT NULL, surt TEXT NOT NULL,
        started TEXT NOT NULL, finished TEXT NOT NULL, completeness TEXT NOT NULL, origin TEXT NOT NULL,
        missing INTEGER NOT NULL, status INTEGER NOT NULL, page INTEGER, records INTEGER NOT NULL,
        size INTEGER NOT NULL, root TEXT NOT NULL, signers TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX captures_by_time ON captures (started, id);
    CREATE INDEX captures_by_surt ON captures (surt, started, id);
    CREATE INDEX captures_by_site ON captures (substr(surt, 1, instr(surt, ')')), started, id);
    CREATE TABLE urls (
        surt TEXT NOT NULL, date TEXT NOT NULL, capture TEXT NOT NULL, record INTEGER NOT NULL, url TEXT NOT NULL,
        status INTEGER NOT NULL, mime TEXT NOT NULL, digest TEXT NOT NULL, offset INTEGER NOT NULL,
        length INTEGER NOT NULL, revisit INTEGER NOT NULL, PRIMARY KEY (surt, date, capture, record)
    ) WITHOUT ROWID;
    CREATE INDEX urls_by_capture ON urls (capture, record);
    CREATE TABLE texts (
        n INTEGER PRIMARY KEY, capture TEXT NOT NULL UNIQUE, title TEXT, author TEXT, date TEXT, language TEXT,
        text TEXT NOT NULL, tool TEXT, tool_version TEXT, encoding TEXT, failure TEXT, detail TEXT
    );
    CREATE VIRTUAL TABLE words USING fts5(raw, folded, tokenize = 'unicode61 remove_diacritics 0');
    """,
)
"""Step i brings a database of `user_version` i to i + 1. Steps are never changed, only added."""


_MAPPED = 1 << 30
"""Bytes of the database that a reader maps, so that look-ups copy no pages; a writer does not (a full disk)."""


def connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """A connection that writes, and whether the file was made by this call."""
    with explained(path):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as e:
            raise durable.explain(e, path) from e
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            _tune(db)
            created = migrate(db, path)
        except BaseException:
            db.close()
            raise
        if created:
            durable.sync_dir(path.parent)
        return db, created


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that never writes; on a read-only disk the file is taken as it lies there."""
    uri = path.absolute().as_uri()
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        db = sqlite3.connect(f"{uri}?{mode}", uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _tune(db)
            db.execute(f"PRAGMA mmap_size = {_MAPPED}")
            db.execute("SELECT count(*) FROM (SELECT 1 FROM sqlite_schema LIMIT 1)").fetchone()
            return db
        except sqlite3.OperationalError as e:
            db.close()
            if mode != "mode=ro" or _code(e) not in _NO_SIDECARS:
                raise
        except BaseException:
            db.close()
            raise
    raise HomeError(f"{path} cannot be opened; run `mirror index rebuild`")


def _tune(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA temp_store = MEMORY")  # a search leaves nothing in the system's temporary folder
    db.execute("PRAGMA cache_size = -16384")  # KiB


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; the busy timeout does not cover the switch, which two processes may try at once."""
    deadline = time.monotonic() + _BUSY_S
    while db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as e:
            if _code(e) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def check_version(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Return `db` if its schema is of this version; else close it and raise `HomeError`."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != len(_MIGRATIONS):
        db.close()
        raise HomeError(f"{path} was written by another version of Mirror; run `mirror index rebuild`")
    return db


def migrate(db: sqlite3.Connection, path: Path) -> bool:
    """Bring the schema to this version, in one transaction; True if there was none."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == len(_MIGRATIONS):
        return False
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]  # another process may have been quicker
        if not 0 <= version <= len(_MIGRATIONS):
            raise HomeError(f"{path} was written by a newer Mirror; upgrade, or run `mirror index rebuild`")
        for step in _MIGRATIONS[version:]:
            for command in filter(str.strip, step.split(";")):
                db.execute(command)
        db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return bool(version == 0)


def identity(path: Path) -> tuple[int, int] | None:
    """Tell whether a path still leads to the same file; None if it leads to none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise durable.explain(e, path) from e
    return found.st_dev, found.st_ino


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into `HomeError`; misuse of the module stays what it is, a fault of ours."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as e:
        raise home_error(e, path) from e


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # absent: text in a row is not UTF-8


_NO_SIDECARS = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
"""What opening says when -wal and -shm cannot be made beside the file: a read-only or a full disk."""

_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process is writing to it; wait until it is done, then run the command again",
    sqlite3.SQLITE_LOCKED: "another process is writing to it; wait until it is done, then run the command again",
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then run the command again",
    sqlite3.SQLITE_READONLY: "it cannot be written; check who owns the mirror home, or use one on a writable disk",
    sqlite3.SQLITE_PERM: "permission denied; check who owns the mirror home and its modes",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check who owns the mirror home and its modes",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check it, then run `mirror index rebuild`",
    sqlite3.SQLITE_NOMEM: "not enough memory; close other programs and run the command again",
}


def home_error(error: sqlite3.Error, path: Path) -> HomeError:
    if "fts5" in str(error) and "no such module" in str(error):
        return HomeError("this Python's SQLite has no full-text search (FTS5); use a Python that has it")
    extended = getattr(error, "sqlite_errorcode", 0)
    advice = _ADVICE.get(sqlite3.SQLITE_FULL if extended == sqlite3.SQLITE_IOERR_SHMSIZE else _code(error))
    return HomeError(f"{path}: {advice}") if advice else damaged(path)


def damaged(path: Path) -> HomeError:
    return HomeError(f"{path} is damaged; run `mirror index rebuild` (captures are files of their own: none is lost)")
