"""Extraction: quality on real pages, Vietnamese dates, language, links, hostile documents, determinism."""

import gzip
import json
import re
import subprocess
import sys
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trafilatura

from mirror.errors import UrlError
from mirror.text.encoding import decode
from mirror.text.extract import Extract, extract

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"
CAPTURED = datetime(2025, 7, 1, tzinfo=UTC)
NEWS = "Người dân ở xã này nói rằng họ chưa được đền bù đất đai, dù việc khiếu nại đã kéo dài hơn mười năm."


def run(html: bytes | str, url: str = "https://example.com/a/b.html", charset: str | None = None) -> Extract:
    body = html.encode() if isinstance(html, str) else html
    return extract(body, url=url, http_charset=charset, captured=CAPTURED)


def page(content: str, head: str = "") -> str:
    return f"<html><head><title>Tựa bài</title>{head}</head><body><article>{content}</article></body></html>"


# --- quality --------------------------------------------------------------------------------------------------------


def shingles(text: str | None) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text or "")
    return Counter(tuple(words[at : at + 4]) for at in range(max(1, len(words) - 3)) if words)


def f1(pairs: Iterable[tuple[str, str | None]]) -> float:
    """F1 of averaged precision and recall over shingles of four tokens (article-extraction-benchmark)."""
    precisions, recalls = [], []
    for truth, prediction in pairs:
        wanted, found = shingles(truth), shingles(prediction)
        hits = sum((wanted & found).values())
        if found:
            precisions.append(hits / sum(found.values()))
        if wanted:
            recalls.append(hits / sum(wanted.values()))
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.slow
def test_quality_is_not_below_calling_trafilatura_directly() -> None:
    archive = VECTORS / "articles" / "scrapinghub-html.tar"
    if not archive.exists():
        pytest.skip("the shared vectors are not here")
    truth = json.loads((VECTORS / "articles" / "scrapinghub-ground-truth.json").read_text())
    ours, direct = [], []
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is None:
                continue
            body, known = gzip.decompress(stream.read()), truth[Path(member.name).name.partition(".")[0]]
            ours.append((known["articleBody"], run(body, known["url"]).text))
            direct.append((known["articleBody"], trafilatura.extract(body)))
    assert len(ours) == 181
    assert f1(ours) >= f1(direct) - 0.001
    assert f1(ours) >= 0.95


# --- fields ---------------------------------------------------------------------------------------------------------


def test_vietnamese_dates_are_read_day_first() -> None:
    path = VECTORS / "vietnamese" / "dates.json"
    if not path.exists():
        pytest.skip("the shared vectors are not here")
    for case in json.loads(path.read_text()):
        found = run(page(f'<span class="date">{case["text"]}</span><p>{NEWS}</p>')).date
        assert found == case["date"], case


def test_time_stamp_at_the_end_of_the_url_is_a_date() -> None:
    path = VECTORS / "vietnamese" / "dates_in_urls.json"
    if not path.exists():
        pytest.skip("the shared vectors are not here")
    for case in json.loads(path.read_text()):
        assert run(page(f"<p>{NEWS}</p>"), case["url"]).date == case["published_or_created"][:10], case


@pytest.mark.parametrize(
    "tail", ["-2024111122021280", "-99999999999999", "-20300101101010", "-02302024101010", "-20240101256010", "-123"]
)
def test_ambiguous_impossible_or_future_stamps_are_no_date(tail: str) -> None:
    assert run(page(f"<p>{NEWS}</p>"), f"https://example.com/bai{tail}.html").date is None


def test_no_date_after_the_capture_is_believed() -> None:
    """What is left then may be another reading (5 August as 8 May) or the mere year, but never the future."""
    for day in ("25/08/2025", "05/08/2025", "03/07/2025", "1/1/2026", "20260101"):
        found = run(page(f"<p class=date>{day}</p><p>{NEWS}</p>")).date
        assert found is None or found <= "2025-07-02"


def test_unknown_capture_time_reads_no_clock() -> None:
    html = page(f"<p class=date>05/08/2125</p><p>{NEWS}</p>").encode()
    assert extract(html, url="https://example.com/", http_charset=None, captured=None).date == "2125-08-05"


def test_title_author_and_text_are_nfc() -> None:
    head = '<meta name="author" content="Nguyễn Văn Á">'
    found = run(unicodedata.normalize("NFD", page(f"<p>{NEWS}</p>", head)))
    assert found.title == "Tựa bài"
    assert found.author is not None and "Nguyễn Văn Á" in found.author
    assert NEWS in found.text
    assert found.tool == "trafilatura"
    assert found.tool_version == trafilatura.__version__


def test_vietnamese_text_is_vi_whatever_the_template_says() -> None:
    assert run(f'<html lang="en-US"><body><article><p>{NEWS}</p></article></body></html>').language == "vi"


def test_declared_language_is_kept_for_other_text() -> None:
    english = "<p>The journalist was released after the court had heard the case in a café.</p>"
    assert run(f'<html lang="en-US"><body><article>{english}</article></body></html>').language == "en"
    assert run(page(english, '<meta property="og:locale" content="fr_FR">')).language == "fr"
    assert run(page(english)).language is None


def test_tcvn_page_is_searchable_text() -> None:
    body = page(f"<p>{NEWS}</p>", '<meta charset="x-user-defined">')
    codes = {decode(b"\xff\xff" + bytes((c,)), http_charset="tcvn").text[2:]: c for c in reversed(range(256))}
    found = run(bytes(codes[char] for char in body))
    assert NEWS in found.text
    assert (found.title, found.encoding, found.language) == ("Tựa bài", "tcvn5712-1", "vi")


def test_undeclared_cyrillic_page_gets_the_guess_of_the_detector() -> None:
    text = "Журналиста задержали после публикации расследования о коррупции в областной администрации. " * 5
    found = run(page(f"<p>{text}</p>").replace("Tựa bài", "Заголовок").encode("cp1251"))
    assert text.strip() in found.text
    assert found.encoding == "windows-1251"


def test_links_are_absolute_unique_and_in_order() -> None:
    html = page(
        '<a href="/x#part">1</a><a href="c?d=1&amp;e=2">2</a><a href="#top">3</a><a href="javascript:void(0)">4</a>'
        '<a href="mailto:a@b.c">5</a><a>6</a><a href="/x">7</a><a href="https://[bad">8</a><a href="//ví.vn/">9</a>'
    )
    assert run(html).links == (
        "https://example.com/x",
        "https://example.com/a/c?d=1&e=2",
        "https://xn--v-jga.vn/",
    )


def test_base_element_is_honoured() -> None:
    assert run(page('<a href="c">1</a>', '<base href="/other/">')).links == ("https://example.com/other/c",)


def test_address_that_is_none_is_refused() -> None:
    with pytest.raises(UrlError):
        run(page("x"), "file:///etc/passwd")


# --- hostile --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"\0" * 1000,
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"plain text",
        b"<",
        b"<html/>",
        b"<?xml version='1.0' encoding='utf-8'?><html><body><p>x</p></body></html>",
        b"%PDF-1.4",
        b"\x1f\x8b\x08\0\0\0",
        b"<p>&#xD800;&#0;&#x110000;</p><p>x</p>",
        b"<div>" * 200_000 + b"x",
        b"<html><body>" + b"<b>" * 200_000 + b"x",
        b"<" * 1_000_000,
        b"<p><a href='" + b"a" * 1_000_000 + b"'>x</a></p><p>y</p>",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_odd_documents_have_an_extract_all_the_same(body: bytes) -> None:
    found = run(body)
    found.text.encode()
    assert found == run(body)


def test_deeply_nested_metadata_does_not_cost_the_text() -> None:
    nested = '<script type="application/ld+json">' + '{"a":' * 100_000 + "</script>"
    assert NEWS in run(page(f"<p>{NEWS}</p>", nested)).text


def test_want_of_memory_is_not_an_empty_page() -> None:
    """The library logs it and goes on; in a process of its own, because the limit cannot be raised again."""
    code = """
import resource
from mirror.text.extract import extract
give = dict(url="https://example.com/", http_charset=None, captured=None)
extract(b"<html><body><p>abc</p></body></html>", **give)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (40 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
    extract(b"<html><body>" + b"<p>a <b>b</b></p>" * 400_000, **give)
except MemoryError:
    print("memory")
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=root, capture_output=True, check=False, timeout=120)
    assert done.stdout.strip() == b"memory"


def test_order_of_documents_changes_nothing() -> None:
    pages = [
        page(f"<p class=date>{day}</p><p>{NEWS}</p>")
        for day in (
            "3/4/2022",
            "April 5, 2021",
            "5. Mai 2020",
            "11 tháng Mười Một, 2020",
            "06/07/2023",
            "1er mars 2019",
        )
    ]
    forwards = [run(html) for html in pages]
    backwards = [run(html) for html in reversed(pages)]
    assert forwards == backwards[::-1]
