"""Reports: a pasted link becomes a clean URL; nothing of the person is kept; lists are read line by line."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import MirrorError, UrlError
from mirror.model import Report
from mirror.report import BadLine, accept, read_list

VECTORS = Path(__file__).resolve().parents[1] / ".." / "shared" / "vectors" / "urls"
NOW = datetime(2026, 11, 21, 19, 8, 42, 5, tzinfo=UTC)


def known(name: str) -> list[dict[str, str | None]]:
    path = VECTORS / name
    if not path.is_file():
        pytest.skip(f"{name} is not here: the shared vectors are not part of the repository")
    return json.loads(path.read_text(encoding="utf-8"))


def test_report_is_clean_and_its_time_is_rounded_down_to_the_hour() -> None:
    report = accept(" <https://l.facebook.com/l.php?u=https%3A%2F%2FA.vn%2Fx%3Ffbclid%3DQ&h=AT>. ", now=NOW)
    assert report.url == "https://a.vn/x"
    assert report.removed == ("l.facebook.com", "fbclid")
    assert report.received == datetime(2026, 11, 21, 19, tzinfo=UTC)


def test_time_is_kept_in_utc_so_that_the_zone_is_not_told() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    received = accept("https://a.vn/", now=NOW.astimezone(zone)).received
    assert received == datetime(2026, 11, 21, 19, tzinfo=UTC)
    assert received is not None
    assert received.tzinfo is UTC


def test_time_without_zone_is_refused() -> None:
    with pytest.raises(MirrorError, match="time zone"):
        accept("https://a.vn/", now=NOW.replace(tzinfo=None))


def test_punctuation_bared_by_cleaning_is_cleaned_too() -> None:
    assert accept("https://a.vn/x.?fbclid=Q", now=NOW).url == "https://a.vn/x"


def test_link_that_hides_punctuation_in_many_layers_is_refused() -> None:
    with pytest.raises(UrlError, match="come clean"):
        accept("https://a.vn/x?" + "&".join(["fbclid."] * 900), now=NOW)


PARTS = ["fbclid", "utm_a=1", "v=1", "u=https://a.vn/", "next=/x", ".", ")", "'", "&", "?", "=", "%2e"]
PLACES = ["a.vn/x", "www.facebook.com/l.php", "www.youtube.com/watch", "x.com/login"]


@given(st.sampled_from(PLACES), st.lists(st.sampled_from(PARTS), max_size=12))
def test_accepting_the_cleaned_url_changes_nothing(place: str, parts: list[str]) -> None:
    try:
        once = accept(f"https://{place}?" + "&".join(parts), now=NOW)
    except UrlError:
        return
    assert accept(once.url, now=NOW) == dataclasses.replace(once, removed=())


@pytest.mark.parametrize("name", ["ytdlp_cases.json", "gallerydl_cases.json"])
def test_platform_urls_are_stable_and_keep_their_object(name: str) -> None:
    accepted = 0
    for case in known(name):
        text = case["url"]
        assert text is not None
        try:
            report = accept(text, now=NOW)
        except UrlError:
            # gallery-dl's own notation ("blogger:https://…") is no link
            assert not text.startswith(("http:", "https:")), text
            continue
        accepted += 1
        assert accept(report.url, now=NOW).url == report.url
        wanted = case.get("url_id")
        if wanted is not None and wanted in text:
            # yt-dlp's id of a plug-in frame is the framed link with the frame's own parameters behind it
            wanted = wanted.partition("&show_text=")[0]
            assert unquote(wanted) in unquote(report.url), text
    assert accepted > 200


def test_list_is_read_line_by_line_and_bad_lines_are_told() -> None:
    lines = [
        "\ufeffhttps://a.vn/1\r\n",
        "\r\n",
        "# a comment\n",
        "  # another\n",
        "https://user:secret@a.vn/\n",
        "mailto:x@a.vn\n",
        "a.vn/2?fbclid=Q",
    ]
    results = list(read_list(lines, now=NOW))
    assert [(type(result), getattr(result, "url", None)) for result in results] == [
        (Report, "https://a.vn/1"),
        (BadLine, None),
        (BadLine, None),
        (Report, "https://a.vn/2"),
    ]
    bad = [result for result in results if isinstance(result, BadLine)]
    assert [line.number for line in bad] == [5, 6]
    assert "secret" not in repr(bad)


def test_list_is_read_as_it_comes() -> None:
    def endless() -> object:
        while True:
            yield "https://a.vn/"

    assert isinstance(next(read_list(endless(), now=NOW)), Report)  # type: ignore[arg-type]
