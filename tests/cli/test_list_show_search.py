"""`mirror list`, `show`, `search` and `index rebuild`, called as a person or a program calls them."""

from __future__ import annotations

import json
import os
import pty
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from made import Maker, answer

from mirror.cli import kept
from mirror.cli.main import main
from mirror.store import home, reading, rebuild
from mirror.store.home import Home
from mirror.store.index import Index
from mirror.text.pool import Extract

PAGE = "https://example.vn/tin"
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\r\nFAKE LINE"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("MIRROR_LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    made = home.create(tmp_path / "home")
    monkeypatch.setenv("MIRROR_HOME", str(made.root))
    return made


def _save(place: Home, path: Path, title: str = "Tin", text: str = "Người dân ở Đồng Tâm") -> str:
    with Index.open(place.index_path) as index:
        row = reading.rows(path, place.archives)
        index.add(row)
        index.add_text(
            row.id,
            Extract(
                title=title, author=None, date="2026-11-21", language="vi", text=text, links=(), tool="t",
                tool_version="1", encoding="utf-8",
            ),
        )  # fmt: skip
    return row.id


def _objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_empty_home_says_what_to_type(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["list"], ["search", "gì"]):
        assert main(words) == 0
        assert "mirror save URL" in capsys.readouterr().out
    assert main(["show", "abcd"]) == 2
    assert "mirror save URL" in capsys.readouterr().err
    assert main(["list", "--json"]) == 0 and capsys.readouterr().out == ""
    assert not place.index_path.exists()


def test_missing_index_is_an_error_that_names_the_cure(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Maker(place).capture()
    for words in (["list"], ["show", "abcd"], ["search", "gì"]):
        assert main(words) == 6
        assert "mirror index rebuild" in capsys.readouterr().err


def test_list_shows_the_newest_first(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    maker = Maker(place)
    ids = [_save(place, maker.capture(f"{PAGE}/{n}", started=datetime(2026, 1, n, tzinfo=UTC))) for n in (1, 3, 2)]
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", ids[1][:8], ids[2][:8], ids[0][:8]]
    assert lines[1].split()[1:4] == ["2026-01-03", "00:00Z", "complete"] and lines[1].endswith(f"{PAGE}/3")
    assert main(["list", "--json", "--limit", "2"]) == 0
    assert [o["id"] for o in _objects(capsys.readouterr().out)] == [ids[1], ids[2]]
    assert main(["list", "--limit", "1"]) == 0
    assert "--all" in capsys.readouterr().err


def test_list_of_a_url_or_a_site(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    maker = Maker(place)
    first = _save(place, maker.capture(f"{PAGE}/1"))
    second = _save(place, maker.capture(f"{PAGE}/2", started=datetime(2026, 12, 1, tzinfo=UTC)))
    _save(place, maker.capture("https://other.vn/"))
    for url, ids in (
        (f"{PAGE}/1?fbclid=abc#top", [first]),
        ("http://WWW.example.vn", [second, first]),
        ("example.vn/nothing", []),
    ):
        assert main(["list", "--json", url]) == 0
        assert [o["id"] for o in _objects(capsys.readouterr().out)] == ids, url
    assert main(["list", "example.vn/nothing"]) == 0
    assert "No capture of" in capsys.readouterr().out
    assert main(["list", "mailto:a@example.vn"]) == 2


@pytest.mark.parametrize("columns", [20, 40, 63, 64, 80])
def test_list_fits_the_terminal(place: Home, columns: int) -> None:
    _save(place, Maker(place).capture(PAGE + "/rat-dai" * 20))
    text = _at_a_terminal(["list"], columns)
    assert text.count("\n") == 2
    assert all(len(line) <= columns for line in text.splitlines())
    assert "2026" in text


def test_show_tells_what_is_missing_and_why(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    missing = [{"url": "https://example.vn/a.png", "kind": "image", "reason": "connection refused"}]
    capture = _save(place, Maker(place).capture(PAGE, missing=missing), title="Tin nóng")
    assert main(["show", capture[:6]]) == 0
    text = capsys.readouterr().out
    for part in (capture, PAGE, "Tin nóng", "partial: 1 of", "image    https://example.vn/a.png", "connection refused"):
        assert part in text
    assert main(["show", capture, "--json", "--urls"]) == 0
    (shown,) = _objects(capsys.readouterr().out)
    assert shown["missing"] == missing and shown["state"] == "partial" and shown["title"] == "Tin nóng"
    assert [url["url"] for url in shown["urls"]] == [PAGE]  # type: ignore[attr-defined]


def test_show_text_and_urls(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    style = answer("https://example.vn/s.css", b"p{}", mime="text/css")
    capture = _save(place, Maker(place).capture(PAGE, [answer(PAGE, b"<p>"), style]), text="Dòng một\nDòng hai")
    assert main(["show", capture, "--text"]) == 0
    assert capsys.readouterr().out == "Tin\n\nDòng một\nDòng hai\n"
    assert main(["show", capture, "--urls"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["1", "200", "text/html", PAGE],
        ["3", "200", "text/css", "https://example.vn/s.css"],
    ]


def test_show_without_text_says_why(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    path = Maker(place).capture(PAGE, [answer(PAGE, b"\x89PNG", mime="image/png")])
    with Index.open(place.index_path) as index:
        row = reading.rows(path, place.archives)
        index.add(row)
        assert main(["show", row.id, "--text"]) == 2
        assert "index rebuild" in capsys.readouterr().err
        index.add_text(row.id, None)
    assert main(["show", row.id, "--text"]) == 2
    assert "no HTML" in capsys.readouterr().err


def test_show_raw_writes_the_payload_alone(place: Home, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    body = bytes(range(256)) * 1000
    exchanges = [answer(PAGE, b"<p>"), answer(f"{PAGE}/a", body, mime="image/png"), answer(f"{PAGE}/b", body)]
    capture = _save(place, Maker(place).capture(PAGE, exchanges))
    for which in ("3", f"{PAGE}/a", f"{PAGE}/b"):
        assert main(["show", capture, "--raw", which]) == 0
        assert capfdbinary.readouterr().out == body, which
    for which in ("2", "99", f"{PAGE}/c"):
        assert main(["show", capture, "--raw", which]) == 2
        assert b"--urls" in capfdbinary.readouterr().err
    assert main(["show", capture, "--raw", "3", "--json"]) == 2


def test_raw_bytes_never_reach_a_terminal(place: Home) -> None:
    capture = _save(place, Maker(place).capture(PAGE, [answer(PAGE, b"\x1b[2J")]))
    text = _at_a_terminal(["show", capture, "--raw", "1"], 80)
    assert "\x1b" not in text and "> FILE" in text


def test_search_shows_title_address_and_the_words(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    capture = _save(place, Maker(place).capture(PAGE), title="Tin nóng")
    for words in (["dong", "tam"], ["Đồng Tâm"], ["nguoi dan"]):
        assert main(["search", *words]) == 0
        text = capsys.readouterr().out
        assert text == f"{capture[:8]}  2026-11-21 10:02Z  Tin nóng\n  {PAGE}\n  Người dân ở Đồng Tâm\n", words
    assert main(["search", "--json", "dong tam"]) == 0
    (hit,) = _objects(capsys.readouterr().out)
    assert (hit["id"], hit["url"], hit["exact"]) == (capture, PAGE, False)
    assert main(["search", "động", "tâm"]) == 0
    assert "Nothing found" in capsys.readouterr().out
    assert main(["search", "?!"]) == 2


def test_hostile_pages_cannot_steer_the_terminal(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    missing = [{"url": HOSTILE, "kind": HOSTILE, "reason": HOSTILE}]
    odd = answer(PAGE, b"<p>", mime="text/\x1b[2Jhtml")
    path = Maker(place).capture(PAGE, [odd], missing=missing)
    capture = _save(place, path, title=HOSTILE, text=f"Người {HOSTILE}")
    for words in (
        ["list"],
        ["show", capture],
        ["show", capture, "--urls"],
        ["show", capture, "--text"],
        ["search", "nguoi"],
    ):
        for more in ([], ["--json"]):
            assert main([*words, *more]) == 0
            text = capsys.readouterr().out
            assert not set("\x1b\x07\u202e\r") & set(text), words
            assert "\nFAKE" not in text or words[-1] == "--text"


def test_rebuild_restores_what_was_lost(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    maker = Maker(place)
    ids = {maker.capture(f"{PAGE}/{n}", title=f"Bài {n}").name.removesuffix(".warc.gz") for n in range(2)}
    assert main(["index", "rebuild"]) == 0
    done = capsys.readouterr()
    assert "2 captures, 2 with text" in done.out and done.err == ""
    assert main(["search", "--json", "dong", "tam"]) == 0
    assert {str(o["id"]) for o in _objects(capsys.readouterr().out)} == ids
    place.index_path.write_bytes(b"damage" * 2000)
    assert main(["list"]) == 6
    assert "mirror index rebuild" in capsys.readouterr().err
    assert main(["index", "rebuild", "--json", "--no-text"]) == 0
    (summary,) = _objects(capsys.readouterr().out)
    aside = place.state / "index.sqlite3.damaged-1"
    assert summary == {"captures": 2, "texts": 0, "skipped": [], "aside": str(aside)} and aside.exists()
    assert main(["list", "--json"]) == 0
    assert {str(o["id"]) for o in _objects(capsys.readouterr().out)} == ids


def test_rebuild_names_what_it_left_out(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    path = Maker(place).capture()
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["index", "rebuild", "--no-text"]) == 5
    done = capsys.readouterr()
    assert f"left out: {path}" in done.err and "0 captures" in done.out


def test_rebuild_shows_progress_at_a_terminal_only(place: Home) -> None:
    Maker(place).capture()
    assert "1/1" in _at_a_terminal(["index", "rebuild", "--no-text"], 80)


@pytest.mark.parametrize("command", ["list", "show", "search", "index"])
def test_help_ends_with_the_exit_status(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "EXIT STATUS" in text and "--home" in text and "--json" in text


def test_listing_loads_no_crawler_or_extractor(place: Home) -> None:
    _save(place, Maker(place).capture())
    code = (
        "import sys; from mirror.cli.main import main; assert main(['list']) == 0\n"
        "print(sorted({'aiohttp', 'asyncio', 'trafilatura', 'lxml', 'cryptography', 'brotli'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (9949, "9.9 KB"), (9950, "10 KB"), (999_499, "999 KB"),
     (999_500, "1.0 MB"), (2_000_000_000, "2.0 GB")],
)  # fmt: skip
def test_sizes_are_short(size: int, text: str) -> None:
    assert kept.human_size(size) == text and len(text) <= 6


def test_vietnamese_is_spoken(place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LANG", "vi_VN.UTF-8")
    capture = _save(place, Maker(place, random.Random(3)).capture())
    for words in (["list"], ["show", capture]):
        assert main(words) == 0
        assert "đầy đủ" in capsys.readouterr().out
    rebuild.rebuild(place)
    monkeypatch.setenv("LANG", "C")
    assert main(["list"]) == 0
    assert "complete" in capsys.readouterr().out


def _at_a_terminal(words: list[str], columns: int) -> str:
    """What a person sees on a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "mirror", *words]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other side was closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    process.wait()
    return seen.decode().replace("\r\n", "\n")
