"""The main job on real input: 181 article pages over TLS, kept, sealed, verified, read."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trafilatura
import website

from mirror.report import accept
from mirror.store import reading
from mirror.store.index import Index

ARTICLES = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "articles"
LATENCY = 0.02

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not ARTICLES.is_dir(), reason="the article pages are not here (../shared/vectors/articles)"),
    pytest.mark.skipif(website.missing() is not None, reason=str(website.missing())),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    url: str
    html: bytes
    body: str  # by hand, of the benchmark


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What `mirror save` said of each page, and the home it was kept in."""

    home: Path
    articles: list[Article]
    captures: dict[str, dict[str, Any]]  # URL → JSON object
    hosts: set[str]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    home = tmp_path_factory.mktemp("articles") / "home"
    run("init", str(home), "--no-passphrase")
    articles = list(read_articles())
    with website.serve({a.url: a.html for a in articles}, latency=LATENCY) as web:
        with (home / "mirror.toml").open("a") as file:
            file.write(f'connections_per_host = 6\n[vantage.loopback]\nproxy = "{web.proxy}"\n')
        done = run(
            "save", "--home", str(home), "--vantage", "loopback", "--json", "-",
            given="\n".join(a.url for a in articles), authority=web.authority,
        )  # fmt: skip
        captures = {c["url"]: c for c in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stderr
    yield Saved(home=home, articles=articles, captures=captures, hosts=web.hosts)
    shutil.rmtree(home)


def test_every_page_is_kept_and_verified_at_once(saved: Saved) -> None:
    assert set(saved.captures) == {a.url for a in saved.articles}
    assert Counter((c["verdict"], c["status"]) for c in saved.captures.values()) == {("VERIFIED", 200): 181}
    assert not [c["url"] for c in saved.captures.values() if c["state"] == "failed"]


def test_requisites_are_kept(saved: Saved) -> None:
    requests = sum(c["requests"] for c in saved.captures.values())
    missing = [m for c in saved.captures.values() for m in c["missing"]]
    assert requests > 20 * len(saved.captures)
    assert len(saved.hosts) > 200
    assert len(missing) < requests / 100, Counter(m["reason"] for m in missing).most_common(5)


def test_pages_are_kept_byte_for_byte(saved: Saved) -> None:
    heads: Counter[bytes] = Counter()
    kinds: Counter[str] = Counter()
    with index(saved) as rows:
        for article in saved.articles:
            row = rows.get(saved.captures[article.url]["id"])
            path = saved.home / "archives" / row.path
            page = reading.page_payload(path, row)
            assert page is not None and page.payload == article.html
            kept = reading.record(path, next(url for url in row.urls if url.record == row.page))
            heads.update(line for line in (kept.warc_head + kept.http_head).split(b"\r\n"))
            kinds.update(url.mime for url in row.urls)
    assert heads[b"Transfer-Encoding: chunked"] == heads[b"Content-Encoding: gzip"] == 181
    assert heads[b"WARC-Protocol: tls/1.3"] > 150  # some of the articles are from the days of plain HTTP
    assert {"image/jpeg", "text/css", "application/javascript", "text/html", "video/mp4"} <= set(kinds)


def test_archive_verifies_again(saved: Saved) -> None:
    done = run("verify", "--home", str(saved.home), "--deep", "--json", str(saved.home / "archives"))
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(done.stdout.splitlines()) == 181


def test_warcio_finds_nothing_wrong(saved: Saved) -> None:
    files = [c["path"] for c in saved.captures.values()]
    done = subprocess.run(
        [sys.executable, "-m", "warcio.cli", "check", *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"(?i)fail|error|mismatch|not found", done.stdout)


def test_text_is_as_good_as_straight_from_the_file(saved: Saved) -> None:
    ours, direct = [], []
    with index(saved) as rows:
        for article in saved.articles:
            row = rows.text(saved.captures[article.url]["id"])
            assert row is not None
            assert row.failure is None, row.detail
            ours.append(f1(article.body, row.text))
            direct.append(f1(article.body, trafilatura.extract(article.html, include_comments=False) or ""))
    assert mean(ours) >= mean(direct) - 0.001
    print(f"F1 {mean(ours):.4f}, straight from the file {mean(direct):.4f}")
    assert mean(ours) > 0.85


def test_titles_are_there(saved: Saved) -> None:
    with index(saved) as rows:
        titles = [rows.text(c["id"]).title for c in saved.captures.values()]  # type: ignore[union-attr]
    assert sum(bool(title) for title in titles) >= 0.99 * len(titles)


def index(saved: Saved) -> Index:
    return Index.open(saved.home / "state" / "index.sqlite3", read_only=True)


def read_articles() -> Iterator[Article]:
    truth = json.loads((ARTICLES / "scrapinghub-ground-truth.json").read_text())
    with tarfile.open(ARTICLES / "scrapinghub-html.tar") as tar:
        for member in tar:
            name = Path(member.name).name.removesuffix(".html.gz")
            file = tar.extractfile(member)
            if file is not None and name in truth:
                url = accept(truth[name]["url"], now=datetime.now(UTC)).url
                yield Article(url=url, html=gzip.decompress(file.read()), body=truth[name]["articleBody"])


def run(*words: str, given: str = "", authority: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "MIRROR_HOME"} | {"MIRROR_DEBUG": "1"}
    if authority is not None:
        environment["SSL_CERT_FILE"] = str(authority)
    return subprocess.run(
        [sys.executable, "-m", "mirror", *words],
        input=given, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def f1(wanted: str, found: str) -> float:
    """Overlap of runs of four words, as the benchmark of the pages measures it."""
    a, b = shingles(wanted), shingles(found)
    common = (a & b).total()
    return 2 * common / (a.total() + b.total()) if common else 0.0


def shingles(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[n : n + 4]) for n in range(max(1, len(words) - 3)))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
