# ruff: noqa: S608  the statements are put together from constants of this module
"""The index of a home: which captures there are, which URLs are in them, what their pages say. SQLite, WAL.

It is a cache: files are the truth, and `mirror.store.rebuild` makes it anew from them alone, the same row for row.
Several processes may write at once. A rebuild replaces the file under an exclusive lock; each write holds the shared
one, and moves to the new file if there is one.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from mirror.errors import HomeError, MalformedError, UsageError
from mirror.model import CaptureId, CaptureRow, Completeness, UrlRow
from mirror.store import database, matching
from mirror.store.lock import HomeLock
from mirror.text.wire import Extract, ExtractFailure

LOCK = "index"
LOCK_WAIT_S = 60.0
NO_DOCUMENT = "no-document"
"""Stands as the failure of a capture whose page is missing or is no HTML."""

_PAGE = 500
_MOST_RANKED = 1000
_PREFIX = re.compile(r"[0-9a-f-]{4,36}")

_CAPTURE = (
    "id, path, target, surt, started, finished, completeness, origin, missing, status, page, records, size, root, "
    "signers"
)
_TEXT = "title, author, date, language, text, tool, tool_version, encoding, failure, detail"
_URL = "surt, date, url, status, mime, digest, record, offset, length, revisit"
_ADD_CAPTURE = f"INSERT OR REPLACE INTO captures ({_CAPTURE}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_ADD_URL = f"INSERT INTO urls (capture, {_URL}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_ADD_TEXT = f"INSERT INTO texts (capture, {_TEXT}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_WITH_PREFIX = f"SELECT {_CAPTURE} FROM captures WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
_URLS_OF = f"SELECT {_URL} FROM urls WHERE capture = ? ORDER BY record"
_TEXT_OF = f"SELECT {_TEXT} FROM texts WHERE capture = ?"
_VERSIONS = f"SELECT capture, {_URL} FROM urls WHERE surt = ? ORDER BY date, capture, record"
_NEWEST = f"SELECT capture, {_URL} FROM urls WHERE surt = ? ORDER BY date DESC, capture DESC, record DESC LIMIT 1"
_AROUND = f"""
    SELECT * FROM (SELECT capture, {_URL} FROM urls WHERE surt = ?1 AND date <= ?2
                   ORDER BY date DESC, capture DESC, record DESC LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT capture, {_URL} FROM urls WHERE surt = ?1 AND date > ?2
                   ORDER BY date, capture, record LIMIT 1)
"""
_RANKED = """
    SELECT n FROM (SELECT rowid AS n, bm25(words, 10.0, 1.0) AS score FROM words WHERE words MATCH ?
                   ORDER BY rowid DESC LIMIT ?) ORDER BY score, n DESC LIMIT ?
"""
_FOUND = """
    SELECT c.id, t.title, c.target, c.started, t.text FROM texts t JOIN captures c ON c.id = t.capture WHERE t.n = ?
"""
_UNREAD = """
    SELECT id FROM captures c WHERE NOT EXISTS (SELECT 1 FROM texts t WHERE t.capture = c.id) ORDER BY started, id
"""
_DUMP = {
    "captures": f"SELECT {_CAPTURE} FROM captures ORDER BY id",
    "urls": f"SELECT capture, {_URL} FROM urls ORDER BY surt, date, capture, record",
    "texts": f"SELECT capture, {_TEXT}, raw, folded FROM texts LEFT JOIN words ON words.rowid = n ORDER BY capture",
}


class Located(NamedTuple):
    """A response and the capture that holds it."""

    capture: CaptureId
    url: UrlRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """What was read from a capture's page, or why nothing was (`failure`, `detail`)."""

    title: str | None
    author: str | None
    date: str | None
    language: str | None
    text: str
    tool: str | None
    tool_version: str | None
    encoding: str | None
    failure: str | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A capture that a search found. `exact`: the words stand there as typed, marks included."""

    capture: CaptureId
    title: str | None
    url: str
    started: str
    snippet: str
    exact: bool


class Index:
    """An open index. May be shared by threads; a context manager. Every failure of SQLite becomes a `HomeError`."""

    def __init__(self, path: Path, db: sqlite3.Connection, *, locks: Path | None, created: bool) -> None:
        """For `open` and `build`; `locks` is None for a file nobody else knows."""
        self.path = path
        self.created = created  # by this `open`: if the home has captures, they are not in it (`rebuild.catch_up`)
        self._db = db
        self._locks = locks
        self._identity = database.identity(path)
        self._turn = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open the index at `path`, made if it is missing (not when `read_only`: then nothing at all is written).

        Raises `HomeError` that names `mirror index rebuild` when it is missing, damaged, or of a newer Mirror.
        """
        if read_only:
            if not path.is_file():
                raise HomeError("this home has no index; `mirror index rebuild` makes it from the captures")
            with database.explained(path):
                db = database.connect_read_only(path)
                return cls(path, database.check_version(db, path), locks=None, created=False)
        locks = path.parent / "locks"
        with HomeLock(locks, LOCK, shared=True, wait_s=LOCK_WAIT_S):
            db, created = database.connect(path)
            return cls(path, db, locks=locks, created=created)

    @classmethod
    def build(cls, path: Path) -> Self:
        """Open an empty file that only the caller knows, for many rows quickly: nothing is durable before `close`."""
        with database.explained(path):
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = MEMORY")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA temp_store = MEMORY")
            database.migrate(db, path)
            return cls(path, db, locks=None, created=True)

    def close(self) -> None:
        with self._turn:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- writing

    def add(self, *rows: CaptureRow) -> None:
        """Put captures in, in one transaction; durable on return. One that is there already is replaced."""
        with self._writing() as db:
            for row in rows:
                db.execute("DELETE FROM urls WHERE capture = ?", (row.id,))
                db.execute(_ADD_CAPTURE, _capture_values(row))
                db.executemany(_ADD_URL, ((row.id, *_url_values(url)) for url in row.urls))

    def add_text(self, capture: CaptureId, found: Extract | ExtractFailure | None) -> None:
        """Put in what a page says, in place of what was there; None: the capture has no document to read."""
        row = _text_row(found)
        with self._writing() as db:
            old = db.execute("SELECT n FROM texts WHERE capture = ?", (capture,)).fetchone()
            if old is not None:
                db.execute("DELETE FROM words WHERE rowid = ?", old)
                db.execute("DELETE FROM texts WHERE n = ?", old)
            values = (getattr(row, name) for name in TextRow.__slots__)
            n = db.execute(_ADD_TEXT, (capture, *values)).lastrowid
            if row.failure is None:
                keys = matching.keys(f"{row.title or ''}\n{row.text}")
                db.execute("INSERT INTO words (rowid, raw, folded) VALUES (?,?,?)", (n, *keys))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        lock = HomeLock(self._locks, LOCK, shared=True, wait_s=LOCK_WAIT_S) if self._locks else contextlib.nullcontext()
        with self._turn, lock, database.explained(self.path):
            if self._locks and database.identity(self.path) != self._identity:
                self._db.close()
                self._db, self.created = database.connect(self.path)
                self._identity = database.identity(self.path)
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    # -- reading

    def captures(
        self,
        limit: int | None = None,
        *,
        before: tuple[str, str] | None = None,
        surt: str | None = None,
        site: str | None = None,
    ) -> Iterator[CaptureRow]:
        """Yield captures without their `urls`, newest first, from behind `before` (`started`, `id`) on.

        Only those of one URL (`surt`), or of one host (`site`: the key up to its closing bracket, `vn,example)`).
        """
        left = limit
        while left is None or left > 0:
            batch = _PAGE if left is None else min(left, _PAGE)
            sql, values = captures_query(batch, before=before, surt=surt, site=site)
            found = self._all(sql, values)
            for line in found:
                yield self._capture(line, ())
            if len(found) < batch:
                return
            before = (found[-1][4], found[-1][0])
            left = None if left is None else left - batch

    def get(self, prefix: str) -> CaptureRow:
        """The capture whose id starts with `prefix` (four characters or more), with its `urls`.

        Raises `UsageError` when there is none or more than one.
        """
        prefix = prefix.lower()
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(f"`{prefix[:40]}` is not a capture id; `mirror list` shows them (4 characters are enough)")
        found = self._all(_WITH_PREFIX, (prefix, prefix + "g"))
        if not found:
            raise UsageError(f"no capture with an id that starts with {prefix}; `mirror list` shows them")
        if len(found) > 1:
            both = f"{found[0][0]}, {found[1][0]}"
            raise UsageError(f"more than one capture starts with {prefix}: {both}; type more of it")
        urls = self._all(_URLS_OF, (found[0][0],))
        return self._capture(found[0], tuple(_url_row(u) for u in urls))

    def lookup(self, surt: str, at: str | None = None) -> Located | None:
        """The response for a URL whose WARC-Date is nearest to `at` (RFC 3339 UTC); without `at`, the newest."""
        if at is not None:
            when = _time(at)
            around = self._all(_AROUND, (surt, when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")))
            found = min(around, key=lambda line: abs(_time(line[2]) - when), default=None)
        else:
            with self._turn:
                try:
                    found = self._db.execute(_NEWEST, (surt,)).fetchone()
                except sqlite3.DatabaseError as e:  # no `explained` here: this is the fast path
                    raise database.home_error(e, self.path) from e
        return None if found is None else Located(found[0], _url_row(found[1:]))

    def versions(self, surt: str) -> Iterator[Located]:
        """Every response for a URL, oldest first."""
        for line in self._all(_VERSIONS, (surt,)):
            yield Located(line[0], _url_row(line[1:]))

    def text(self, capture: CaptureId) -> TextRow | None:
        """What was read from a capture's page; None if nobody tried yet."""
        found = self._all(_TEXT_OF, (capture,))
        names = TextRow.__slots__
        return TextRow(**dict(zip(names, found[0], strict=True))) if found else None

    def search(self, query: str, limit: int = 20) -> list[Hit]:
        """Captures whose page has all words of `query` ("…" keeps words together), best first.

        A query with diacritics matches exactly these; one without matches every spelling, and those that stand there as
        typed come first. Of more than 1,000 matches the ones last added are ranked. Raises `UsageError` for no words.
        """
        wanted = matching.parse(query)
        ranked: dict[int, bool] = {}
        for expression, is_exact in wanted.expressions():
            if len(ranked) < limit:
                for (n,) in self._all(_RANKED, (expression, _MOST_RANKED, limit)):
                    ranked.setdefault(n, is_exact)
        hits = []
        for n, is_exact in list(ranked.items())[:limit]:
            for capture, title, url, started, text in self._all(_FOUND, (n,)):
                snippet = matching.snippet(text, wanted)
                hits.append(
                    Hit(capture=capture, title=title, url=url, started=started, snippet=snippet, exact=is_exact)
                )
        return hits

    def without_text(self) -> list[CaptureId]:
        """Captures of which nobody tried to read the page, oldest first."""
        return [CaptureId(line[0]) for line in self._all(_UNREAD)]

    def dump(self) -> Iterator[str]:
        """Everything the index holds as lines of JSON, in an order that does not depend on its history."""
        for table, sql in _DUMP.items():
            for line in self._all(sql):
                yield json.dumps([table, *line], ensure_ascii=False)

    def _all(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._turn, database.explained(self.path):
            return self._db.execute(sql, values).fetchall()

    def _capture(self, line: Any, urls: tuple[UrlRow, ...]) -> CaptureRow:
        try:
            values = dict(zip(CaptureRow.__slots__, line, strict=False))
            values |= {"completeness": Completeness(line[6]), "signers": tuple(line[14].split()), "urls": urls}
            return CaptureRow(**values)
        except (ValueError, AttributeError) as e:
            raise database.damaged(self.path) from e


def captures_query(
    limit: int, *, before: tuple[str, str] | None, surt: str | None, site: str | None
) -> tuple[str, tuple[Any, ...]]:
    """The statement behind `Index.captures`: walks one of the indexes from its end, never sorts."""
    where: list[str] = []
    values: list[Any] = []
    if surt is not None:
        where, values = ["surt = ?"], [surt]
    elif site is not None:
        where, values = ["substr(surt, 1, instr(surt, ')')) = ?"], [site]
    if before is not None:
        where.append("(started, id) < (?, ?)")
        values += before
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    return f"SELECT {_CAPTURE} FROM captures {condition} ORDER BY started DESC, id DESC LIMIT ?", (*values, limit)


def _capture_values(row: CaptureRow) -> tuple[object, ...]:
    values = {name: getattr(row, name) for name in CaptureRow.__slots__ if name != "urls"}
    return tuple((values | {"completeness": row.completeness.value, "signers": " ".join(row.signers)}).values())


def _url_values(url: UrlRow) -> tuple[object, ...]:
    return tuple(getattr(url, name) for name in UrlRow.__slots__)


def _url_row(line: Any) -> UrlRow:
    surt, date, url, status, mime, digest, record, offset, length, revisit = line
    return UrlRow(
        surt=surt, date=date, url=url, status=status, mime=mime, digest=digest, record=record, offset=offset,
        length=length, revisit=bool(revisit),
    )  # fmt: skip


def _text_row(found: Extract | ExtractFailure | None) -> TextRow:
    if isinstance(found, Extract):
        return TextRow(
            title=found.title, author=found.author, date=found.date, language=found.language, text=found.text,
            tool=found.tool, tool_version=found.tool_version, encoding=found.encoding, failure=None, detail=None,
        )  # fmt: skip
    failure, detail = (found.reason.value, found.detail) if found else (NO_DOCUMENT, None)
    return TextRow(
        title=None, author=None, date=None, language=None, text="", tool=None, tool_version=None, encoding=None,
        failure=failure, detail=detail,
    )  # fmt: skip


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise MalformedError("not a time in RFC 3339, such as 2026-11-21T10:02:00Z", text[:40]) from e
