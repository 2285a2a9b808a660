"""The index: what it finds, how it looks things up, what it survives."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import stat
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from made import Maker, answer

from mirror.errors import HomeError, MalformedError, UsageError
from mirror.model import CaptureId, CaptureRow, Completeness, UrlRow
from mirror.store import database, home, index, matching, reading, rebuild
from mirror.store.home import Home
from mirror.store.index import Index
from mirror.text.pool import Extract, ExtractFailure, Extractor, FailureReason

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "vietnamese"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return home.create(tmp_path / "home")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 10,000 captures."""
    folder = tmp_path_factory.mktemp("large")
    path = folder / "index.sqlite3"
    (folder / "locks").mkdir()
    with Index.open(path) as opened:
        for first in range(0, 10_000, 1000):
            opened.add(*(_row(n) for n in range(first, first + 1000)))
        for n in range(0, 10_000, 1000):
            opened.add_text(_row(n).id, _extract(f"Bài số {n}", "Một bài báo"))
    return path


def _row(n: int, *, urls: int = 2, target: str | None = None) -> CaptureRow:
    started = (START + timedelta(minutes=n)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    surt = target or f"vn,example{n % 7})/page/{n % 500}"
    capture = CaptureId(str(uuid.UUID(int=random.Random(n).getrandbits(128), version=4)))
    rows = tuple(
        UrlRow(
            surt=surt if u == 0 else f"vn,cdn)/{n}/{u}", date=started, url="https://example.vn/", status=200,
            mime="text/html", digest="sha256:" + "0" * 64, record=2 * u + 1, offset=100 * u, length=100,
        )
        for u in range(urls)
    )  # fmt: skip
    return CaptureRow(
        id=capture, path=f"captures/2026/01/01/{capture}.warc.gz", target=f"https://example.vn/{n}", surt=surt,
        started=started, finished=started, completeness=Completeness.COMPLETE, origin="captured", missing=0, status=200,
        page=1, records=4, size=1000 + n, root="0" * 64, signers=("1" * 64, "2" * 64), urls=rows,
    )  # fmt: skip


def _extract(title: str | None, text: str) -> Extract:
    return Extract(
        title=title, author=None, date="2026-11-21", language="vi", text=text, links=(), tool="t", tool_version="1",
        encoding="utf-8",
    )  # fmt: skip


def _found(opened: Index, query: str) -> list[str]:
    return [str(hit.title) for hit in opened.search(query)]


# -- captures and URLs


def test_row_comes_back_as_it_was_put_in(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(_row(1), _row(2))
        assert opened.get(_row(1).id) == _row(1)
        assert [row.id for row in opened.captures()] == [_row(2).id, _row(1).id]
        assert all(row.urls == () for row in opened.captures())


def test_adding_twice_changes_nothing(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(_row(1))
        before = list(opened.dump())
        opened.add(_row(1))
        assert list(opened.dump()) == before
        opened.add(_row(1, urls=1))
        assert opened.get(_row(1).id).urls == _row(1, urls=1).urls


def test_unique_beginning_of_an_id_is_enough(large: Path) -> None:
    ids = sorted(_row(n).id for n in range(10_000))
    with Index.open(large, read_only=True) as opened:
        assert opened.get(ids[5000][:13]).id == ids[5000]
        assert opened.get(ids[5000].upper()).id == ids[5000]
        twin = next(a for a, b in itertools.pairwise(ids) if a[:4] == b[:4])
        with pytest.raises(UsageError, match="more than one"):
            opened.get(twin[:4])
        with pytest.raises(UsageError, match="mirror list"):
            opened.get("00000000-0000-4000-8000-000000000000")
        for nonsense in ("abc", "%", "zzzz", "'; DROP TABLE captures"):
            with pytest.raises(UsageError):
                opened.get(nonsense)


def test_pages_of_captures_join_without_gap_or_overlap(large: Path) -> None:
    with Index.open(large, read_only=True) as opened:
        whole = [row.id for row in opened.captures()]
        assert whole == [_row(n).id for n in range(9999, -1, -1)]
        pages, before = [], None
        while page := list(opened.captures(333, before=before)):
            pages += [row.id for row in page]
            before = (page[-1].started, page[-1].id)
        assert pages == whole


def test_captures_of_one_url_and_of_one_site(large: Path) -> None:
    with Index.open(large, read_only=True) as opened:
        expected = [_row(n) for n in range(9999, -1, -1)]
        surt = "vn,example3)/page/3"
        assert [r.id for r in opened.captures(surt=surt)] == [r.id for r in expected if r.surt == surt]
        site = [r.id for r in expected if r.surt.startswith("vn,example3)")]
        assert [r.id for r in opened.captures(700, site="vn,example3)")] == site[:700]
        assert list(opened.captures(site="vn,example)")) == []


def test_lookup_takes_the_nearest_version(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(*(_row(n, target="vn,a)/") for n in (0, 10, 30)))
        for at, n in (
            (None, 30),
            ("2026-01-01T00:04:59Z", 0),
            ("2026-01-01T00:05:01Z", 10),
            ("2026-01-01T00:10:00Z", 10),
            ("2026-01-01T07:10:00+07:00", 10),
            ("2026-01-01T00:20:01Z", 30),
            ("2030-01-01T00:00:00Z", 30),
            ("1999-01-01T00:00:00Z", 0),
        ):
            found = opened.lookup("vn,a)/", at)
            assert found is not None and found == (_row(n).id, _row(n, target="vn,a)/").urls[0]), at
        assert opened.lookup("vn,b)/") is None
        assert opened.lookup("vn,b)/", "2026-01-01T00:04:59Z") is None
        assert [found.capture for found in opened.versions("vn,a)/")] == [_row(n).id for n in (0, 10, 30)]
        with pytest.raises(MalformedError):
            opened.lookup("vn,a)/", "yesterday")


def test_no_statement_of_the_hot_paths_scans_or_sorts(large: Path) -> None:
    before = ("2026-01-03T00:00:00.000000Z", "a")
    statements = [
        index.captures_query(50, before=b, surt=s, site=t)
        for b in (None, before)
        for s, t in ((None, None), ("vn,a)/", None), (None, "vn,a)"))
    ]
    statements += [
        (index._NEWEST, ("vn,a)/",)),
        (index._AROUND, ("vn,a)/", before[0])),
        (index._VERSIONS, ("vn,a)/",)),
        (index._WITH_PREFIX, ("abcd", "abcdg")),
        (index._URLS_OF, ("a",)),
        (index._TEXT_OF, ("a",)),
        (index._FOUND, (1,)),
        ("DELETE FROM urls WHERE capture = ?", ("a",)),
    ]
    db = sqlite3.connect(large)
    try:
        for sql, values in statements:
            plan = [line[3] for line in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            assert not [step for step in plan if "TEMP B-TREE" in step], (sql, plan)
            scans = [s for s in plan if s.startswith("SCAN") and "USING INDEX" not in s and "subquery" not in s.lower()]
            assert not [s for s in scans if not s.startswith("SCAN (")], (sql, plan)
            assert any("SEARCH" in s or "captures_by_time" in s for s in plan), (sql, plan)
    finally:
        db.close()


# -- text


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not here")
def test_known_searches_of_vietnamese(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        for number, case in enumerate(json.loads((VECTORS / "search.json").read_text())):
            opened.add(_row(number))
            opened.add_text(_row(number).id, _extract(str(number), case["doc"]))
            for query in case["queries_hit"]:
                assert _found(opened, query) == [str(number)], query
            for query in case["queries_miss_when_diacritics_given"]:
                assert _found(opened, query) == [], query


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not here")
def test_both_tone_placements_find_each_other(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        for number, pair in enumerate(json.loads((VECTORS / "tone_placement.json").read_text())["pairs"]):
            opened.add(_row(number))
            opened.add_text(
                _row(number).id, _extract(str(number), f"{'kh' + pair['old']} {'TH' + pair['new'].upper()}")
            )
            for query in (f"kh{pair['new']}", f"th{pair['old']}"):
                assert _found(opened, query) == [str(number)], query


def test_what_stands_there_as_typed_comes_first(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        for n, text in enumerate(["tam tam tam", "tám tám tám tám tám tám", "Đồng Tâm và người dân", "tạm " * 40]):
            opened.add(_row(n))
            opened.add_text(_row(n).id, _extract(str(n), text))
        assert _found(opened, "tam")[0] == "0"
        assert sorted(_found(opened, "tam")) == ["0", "1", "2", "3"]
        assert _found(opened, "tám") == ["1"]
        assert [hit.exact for hit in opened.search("tam")] == [True, False, False, False]


def test_quoted_words_stay_together(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        for n, text in enumerate(["người dân làng", "dân và người"]):
            opened.add(_row(n))
            opened.add_text(_row(n).id, _extract(str(n), text))
        assert sorted(_found(opened, "nguoi dan")) == ["0", "1"]
        assert _found(opened, '"nguoi dan"') == ["0"]


@pytest.mark.parametrize("query", ["", "  ", '""', "!!! ***", "_", "a " * 40, "x" * 2000])
def test_search_for_nothing_or_too_much_is_wrong_usage(place: Home, query: str) -> None:
    with Index.open(place.index_path) as opened, pytest.raises(UsageError):
        opened.search(query)


@pytest.mark.parametrize(
    "query", ['a"', "raw:x", "x OR", "NEAR(a b)", "-x", "x*", "(b", "{raw}:a", "a\x00b", "\ud800a", "^a"]
)
def test_no_query_breaks_the_search_language(place: Home, query: str) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(_row(1))
        opened.add_text(_row(1).id, _extract("t", "a b x"))
        opened.search(query)


def test_text_is_replaced_and_failures_are_remembered(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(_row(1), _row(2), _row(3))
        assert opened.without_text() == [_row(1).id, _row(2).id, _row(3).id]
        opened.add_text(_row(1).id, ExtractFailure(reason=FailureReason.TIMEOUT, detail="too slow"))
        opened.add_text(_row(2).id, None)
        assert opened.without_text() == [_row(3).id]
        failed = opened.text(_row(1).id)
        assert failed is not None and (failed.failure, failed.detail) == ("timeout", "too slow")
        opened.add_text(_row(1).id, _extract("old", "một hai"))
        opened.add_text(_row(1).id, _extract("new", "ba bốn"))
        assert _found(opened, "hai") == [] and _found(opened, "ba") == ["new"]
        assert opened.text(_row(3).id) is None


def test_snippet_shows_the_words_in_their_own_spelling() -> None:
    text = "Mở đầu dài. " * 50 + "Chuyện ở xã\nĐồng Tâm, huyện Mỹ Đức. " + "Phần sau. " * 50
    found = matching.snippet(text, matching.parse("dong tam"))
    assert "Chuyện ở xã Đồng Tâm, huyện Mỹ Đức." in found
    assert found.startswith("… ") and found.endswith(" …") and len(found) < 250
    assert matching.snippet("Ngắn thôi", matching.parse("dong tam")) == "Ngắn thôi"
    assert matching.snippet("", matching.parse("dong tam")) == ""


# -- the file


def test_only_the_owner_can_read_it(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(_row(1))
        for path in place.state.glob("index.sqlite3*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_first_opening_says_that_it_made_the_file(place: Home) -> None:
    for created in (True, False):
        with Index.open(place.index_path) as opened:
            assert opened.created is created


def test_missing_index_is_not_made_by_reading(place: Home) -> None:
    with pytest.raises(HomeError, match="mirror index rebuild"):
        Index.open(place.index_path, read_only=True)
    assert not place.index_path.exists()


def test_index_of_a_newer_mirror_is_refused(place: Home) -> None:
    Index.open(place.index_path).close()
    db = sqlite3.connect(place.index_path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    for read_only in (False, True):
        with pytest.raises(HomeError, match="mirror index rebuild"):
            Index.open(place.index_path, read_only=read_only)


def test_index_of_an_older_mirror_is_brought_forward(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(_row(1))
    step = "CREATE TABLE later (a TEXT); ALTER TABLE captures ADD COLUMN b TEXT"
    monkeypatch.setattr(database, "_MIGRATIONS", (*database._MIGRATIONS, step))
    with Index.open(place.index_path) as opened:
        assert not opened.created
        opened.add(_row(2))
        assert [row.id for row in opened.captures()] == [_row(2).id, _row(1).id]


def test_damaged_index_says_to_rebuild(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(*(_row(n) for n in range(300)))
    data = place.index_path.read_bytes()
    damages = [b"not a database" * 400, data[:4096] + bytes(len(data) - 4096), data[:5000], b"\xff" * 100 + data[100:]]
    for damage in damages:
        place.index_path.write_bytes(damage)
        for read_only in (False, True):
            with pytest.raises(HomeError, match="mirror index rebuild"):  # noqa: SIM117
                with Index.open(place.index_path, read_only=read_only) as opened:
                    list(opened.captures())
                    opened.lookup(_row(5).surt)
                    opened.get(_row(5).id)


def test_read_only_home_can_be_read(place: Home) -> None:
    with Index.open(place.index_path) as opened:
        opened.add(_row(1))
    place.index_path.chmod(0o444)
    for folder in (place.root, place.state):
        folder.chmod(0o555)
    try:
        done = subprocess.run([sys.executable, "-c", _READER, place.root], capture_output=True, text=True)
    finally:
        for folder in (place.root, place.state):
            folder.chmod(0o700)
    assert done.stdout == "1\n", done.stderr
    assert sorted(path.name for path in place.state.glob("index*")) == ["index.sqlite3"]


_READER = """
import os, sys, urllib.parse
from pathlib import Path
from mirror.store.index import Index
root = Path(sys.argv[1])
if os.getuid() == 0:  # root may write everywhere: become somebody who may not
    os.chroot(root)
    os.setgid(65534)
    os.setuid(65534)
    root = Path("/")
with Index.open(root / "state" / "index.sqlite3", read_only=True) as opened:
    print(len(list(opened.captures())))
"""

_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:4]
from test_index import _row, _extract
from mirror.store.index import Index
start = int(sys.argv[4])
with Index.open(Path(sys.argv[1])) as opened:
    for n in range(start, start + 100):
        opened.add(_row(n))
        opened.add_text(_row(n).id, _extract(str(n), "chung"))
"""


def _writers(path: Path, count: int) -> list[subprocess.Popen[str]]:
    here = Path(__file__).parent
    return [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, path, here, here.parent, str(100 * n)], stderr=subprocess.PIPE, text=True
        )
        for n in range(count)
    ]


def test_processes_writing_at_once_lose_nothing(place: Home) -> None:
    for writer in _writers(place.index_path, 3):
        assert writer.communicate()[1] == "" and writer.returncode == 0
    with Index.open(place.index_path, read_only=True) as opened:
        assert [row.id for row in opened.captures()] == [_row(n).id for n in range(299, -1, -1)]
        assert len(opened.search("chung", 1000)) == 300


# -- rebuilding


def _saved(place: Home, count: int = 4) -> Index:
    """A home with captures and the index that saving them makes, in another order than that of their files."""
    maker = Maker(place)
    opened = Index.open(place.index_path)
    paths = [
        maker.capture(
            f"https://example.vn/{n}",
            started=START + timedelta(days=count - n),
            exchanges=None if n else [answer("https://example.vn/0", b"\x89PNG", mime="image/png")],
            title=f"Bài {n}",
        )
        for n in range(count)
    ]
    with Extractor() as extractor:
        for path in paths:
            row = reading.rows(path, place.archives)
            opened.add(row)
            opened.add_text(row.id, reading.page_text(path, row, extractor))
    return opened


def _rebuilt(place: Home) -> rebuild.Summary:
    with Extractor() as extractor:
        return rebuild.rebuild(place, extract=lambda path, row: reading.page_text(path, row, extractor))


def test_rebuilt_index_is_identical(place: Home) -> None:
    with _saved(place) as opened:
        before = list(opened.dump())
    assert any('"Bài 3"' in line for line in before) and any('"no-document"' in line for line in before)
    seen: list[tuple[int, int]] = []
    rebuild.rebuild(place, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 4) for n in range(5)]
    summary = _rebuilt(place)
    assert (summary.captures, summary.texts, summary.skipped, summary.aside) == (4, 3, (), None)
    with Index.open(place.index_path, read_only=True) as opened:
        assert list(opened.dump()) == before
        assert _found(opened, "dong tam") == ["Bài 1", "Bài 2", "Bài 3"] or len(_found(opened, "dong tam")) == 3
    place.index_path.unlink()
    _rebuilt(place)
    with Index.open(place.index_path) as opened:
        assert list(opened.dump()) == before
        assert not opened.created
    assert not list(place.state.glob(".tmp-*"))


def test_damaged_index_is_moved_aside_never_deleted(place: Home) -> None:
    with _saved(place, 2) as opened:
        before = list(opened.dump())
    for number in (1, 2):
        place.index_path.write_bytes(b"damage %d" % number * 1000)
        place.index_path.with_name("index.sqlite3-wal").write_bytes(b"stale")
        summary = _rebuilt(place)
        assert summary.aside == place.state / f"index.sqlite3.damaged-{number}"
        assert summary.aside.read_bytes() == b"damage %d" % number * 1000
        assert summary.aside.with_name(summary.aside.name + "-wal").read_bytes() == b"stale"
        with Index.open(place.index_path) as opened:
            assert list(opened.dump()) == before


def test_files_that_are_no_captures_are_named_and_left_out(place: Home) -> None:
    _saved(place, 2).close()
    broken = next(home.captures(place))
    broken.write_bytes(broken.read_bytes()[:-1])
    copy = broken.parent / "00000000-0000-4000-8000-000000000000.warc.gz"
    copy.write_bytes(b"foreign")
    summary = rebuild.rebuild(place)
    assert summary.captures == 1 and sorted(path for path, _ in summary.skipped) == sorted([broken, copy])


def test_writer_goes_on_in_the_new_file_after_a_rebuild(place: Home) -> None:
    with _saved(place, 2) as opened:
        rebuild.rebuild(place)
        late = Maker(place, random.Random(99)).capture("https://example.vn/late", started=START)
        opened.add(reading.rows(late, place.archives))
        with Index.open(place.index_path, read_only=True) as reader:
            assert len(list(reader.captures())) == 3


def test_rebuild_beside_busy_writers_leaves_a_sound_index(place: Home) -> None:
    writers = _writers(place.index_path, 2)
    while any(writer.poll() is None for writer in writers):
        rebuild.rebuild(place)
    for writer in writers:
        assert writer.communicate()[1] == "" and writer.returncode == 0
    with Index.open(place.index_path) as opened:
        list(opened.dump())
    db = sqlite3.connect(place.index_path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def test_captures_that_a_crash_left_out_are_caught_up(place: Home) -> None:
    with _saved(place, 3) as opened:
        late = Maker(place, random.Random(99)).capture("https://example.vn/late", started=START)
        assert rebuild.catch_up(place, opened).captures == 1
        assert rebuild.catch_up(place, opened).captures == 0
        assert [str(row) for row in opened.without_text()] == [late.name.removesuffix(".warc.gz")]
