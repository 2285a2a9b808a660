"""Any document: its form, its encoding, its links resolved; and real pages against another parser."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.formats import urls
from mirror.model import Link
from mirror.model import LinkKind as K
from mirror.requisites import document
from mirror.requisites.document import DocumentKind as D

URL = urls.parse("https://a.example/dir/page.html?q")


def links(
    body: bytes | str, content_type: str = "text/html", charset: str | None = None, url: urls.Url = URL
) -> document.Found:
    raw = body.encode() if isinstance(body, str) else body
    return document.links(raw, url=url, content_type=content_type, charset=charset)


def hrefs(*arguments: bytes | str | None) -> list[str]:
    return [link.url for link in links(*arguments).links]  # type: ignore[arg-type]


def test_links_are_absolute_in_order_and_unique() -> None:
    found = links("<img src=b.png#x><img src=/a.png><img src=b.png><a href=b.png>x</a><img src=//c.example/c.png>")
    assert found.kind is D.HTML
    assert found.base == URL
    assert found.links == (
        Link("https://a.example/dir/b.png", K.IMAGE),
        Link("https://a.example/a.png", K.IMAGE),
        Link("https://a.example/dir/b.png", K.PAGE),
        Link("https://c.example/c.png", K.IMAGE),
    )


def test_base_element_moves_links() -> None:
    found = links("<img src=a.png><base href=/other/><a href=b>b</a>")
    assert found.base.href == "https://a.example/other/"
    assert [link.url for link in found.links] == ["https://a.example/other/a.png", "https://a.example/other/b"]


@pytest.mark.parametrize("base", ["javascript:1", "data:text/html,x", "https://[", ""])
def test_a_base_that_cannot_be_is_not_used(base: str) -> None:
    assert links(f"<base href='{base}'><img src=a.png>").links[0].url == "https://a.example/dir/a.png"


def test_the_document_itself_and_other_schemes_are_left_out() -> None:
    body = "<a href='#x'><a href=''><a href='?q'><a href=javascript:1><a href=mailto:a@b><img src=data:x><a href='http://['>"
    assert links(body).links == ()


def test_kinds_that_are_not_wanted_are_left_out() -> None:
    body = b"<a href=/x>x</a><img src=/a.png><link rel=next href=/2>"
    found = document.links(body, url=URL, content_type="", charset=None, kinds=document.REQUISITES)
    assert [link.kind for link in found.links] == [K.IMAGE]


def test_a_limit_holds_for_each_kind_and_is_declared() -> None:
    body = b"".join(b"<a href=/%d>x</a>" % n for n in range(9)) + b"<img src=/a.png>"
    found = document.links(body, url=URL, content_type="text/html", charset=None, limit=3)
    assert [link.kind for link in found.links] == [K.PAGE] * 3 + [K.IMAGE]
    assert found.cut
    assert not links(body).cut


def test_an_overlong_reference_is_left_out() -> None:
    assert links("<img src=/" + "a" * document.MAX_REFERENCE + "><img src=/b>").links == (
        Link("https://a.example/b", K.IMAGE),
    )


RSS = "<?xml version='1.0'?><!-- x --><rss><channel><item><link>/1</link></item></channel></rss>"
MAP = "<urlset><url><loc>https://a.example/1</loc></url></urlset>"
PAGE = "<!-- x --><!DOCTYPE HTML><title>x</title><img src=/1>"
SHEET = "/* x */ body { background: url(/1) }"
JSON_FEED = '{"version": "https://jsonfeed.org/version/1", "items": [{"url": "/1"}]}'
OEMBED = '{"type": "photo", "version": "1.0", "url": "/1"}'
SVG = (
    "<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x' 'y'><svg xmlns='http://www.w3.org/2000/svg'><image href='/1'/></svg>"
)


@pytest.mark.parametrize(
    ("body", "content_type", "path", "kind"),
    [
        (PAGE, "text/html; charset=utf-8", "/", D.HTML),
        (PAGE, "", "/", D.HTML),
        (PAGE, "text/plain", "/", D.HTML),
        (PAGE, "application/octet-stream", "/", D.HTML),
        (PAGE, "text/css", "/a.css", D.HTML),
        (PAGE, "nonsense", "/", D.HTML),
        ("<html xmlns='http://www.w3.org/1999/xhtml'><img src='/1'/></html>", "application/xhtml+xml", "/", D.HTML),
        ("<?xml version='1.0'?><html><img src='/1'/></html>", "text/xml", "/", D.HTML),
        (RSS, "application/rss+xml", "/", D.FEED),
        (RSS, "text/html", "/", D.FEED),
        (RSS, "text/plain", "/", D.FEED),
        (RSS, "", "/", D.FEED),
        (
            "<a:feed xmlns:a='http://www.w3.org/2005/Atom'><a:entry><a:link href='/1'/></a:entry></a:feed>",
            "text/xml",
            "/",
            D.FEED,
        ),
        (JSON_FEED, "application/feed+json", "/", D.FEED),
        (JSON_FEED, "application/json", "/", D.FEED),
        (JSON_FEED, "", "/", D.FEED),
        (OEMBED, "application/json+oembed", "/", D.OTHER),
        (MAP, "application/xml", "/", D.SITEMAP),
        (MAP, "text/html", "/", D.SITEMAP),
        ("https://a.example/1\n", "text/plain", "/sitemap.txt", D.SITEMAP),
        (SHEET, "text/css", "/", D.CSS),
        (SHEET, "", "/", D.CSS),
        (SHEET, "text/plain", "/a.css", D.CSS),
        (SHEET, "text/html", "/a.css", D.CSS),
        (SVG, "image/svg+xml", "/", D.OTHER),
    ],
)
def test_a_form_is_recognised_even_if_its_type_lies(body: str, content_type: str, path: str, kind: D) -> None:
    found = links(body, content_type, url=urls.parse("https://a.example" + path))
    assert found.kind is kind
    assert [link.url for link in found.links] == ["https://a.example/1"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x89PNG\r\n\x1a\n<img src=/1>", "image/png"),
        (b"\x89PNG\r\n\x1a\n\0\0<img src=/1>", ""),
        (b"var a = {b: 'url(/1)'};", "text/javascript"),
        (b"just a text about @import and <img src=/1>", "text/plain"),
        (b'{"image": "/1"}', "application/json"),
        (b"", ""),
        (b"<?xml", "text/xml"),
        (b"<!--", ""),
    ],
)
def test_other_documents_have_no_links(body: bytes, content_type: str) -> None:
    assert links(body, content_type) == document.Found(links=(), base=URL, kind=D.OTHER)


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("<img src='/ả.png'>".encode(), None),
        ("<img src='/ả.png'>".encode(), "utf-8"),
        ("<img src='/ả.png'>".encode(), "no-such-thing"),
        ("<img src='/ả.png'>".encode("utf-8-sig"), "windows-1252"),
        ("<img src='/ả.png'>".encode("utf-16"), None),
        ("<meta charset=gb18030><img src='/ả.png'>".encode("gb18030"), None),
        ("<meta charset=utf-16><img src='/ả.png'>".encode(), None),
        (b"<img src='/&#x1ea3;.png'>", "punycode"),
    ],
)
def test_encodings_are_found(body: bytes, charset: str | None) -> None:
    assert hrefs(body, "text/html", charset) == ["https://a.example/%E1%BA%A3.png"]


def test_bytes_that_fit_no_declaration_are_read_as_windows_1252() -> None:
    assert hrefs(b"<img src='/\xe9.png'>") == ["https://a.example/%C3%A9.png"]


@given(
    st.binary(max_size=200),
    st.sampled_from(["", "text/html", "text/css", "text/xml", "application/json"]),
    st.text(max_size=8),
)
def test_no_body_raises(body: bytes, content_type: str, charset: str) -> None:
    found = links(body, content_type, charset)
    assert all(link.url.startswith("http") for link in found.links)


ARTICLES = Path(__file__).parents[3] / "shared/vectors/articles/scrapinghub-html.tar"


def real_pages() -> list[bytes]:
    if not ARTICLES.exists():
        pytest.skip("the real pages of ../shared/vectors are not here")
    with tarfile.open(ARTICLES) as archive:
        files = [archive.extractfile(member) for member in archive if member.isfile()]
        return [gzip.decompress(file.read()) for file in files if file is not None]


@pytest.mark.slow
def test_real_pages_lose_nothing_that_another_parser_sees() -> None:
    """Every img and script source and style sheet that lxml's tree of 181 real pages holds is found."""
    etree = pytest.importorskip("lxml.html", reason="lxml is not installed")
    wanted = (("//img/@src", K.IMAGE), ("//script/@src", K.SCRIPT), ("//link[@href]", K.STYLE))
    missed, seen = [], 0
    for number, body in enumerate(real_pages()):
        found = links(body)
        ours = {(link.url, link.kind) for link in found.links}
        text = document.decode(body, None)
        tree = etree.document_fromstring(
            text.encode("utf-8"), parser=etree.HTMLParser(encoding="utf-8", huge_tree=True)
        )
        for path, kind in wanted:
            for one in tree.xpath(path):
                if kind is K.STYLE:
                    if "stylesheet" not in one.get("rel", "").lower().split():
                        continue
                    one = one.get("href")
                joined = urls.join(found.base, str(one))
                if joined is None or joined.href == URL.href or len(one) > document.MAX_REFERENCE:
                    continue
                seen += 1
                if (joined.href, kind) not in ours:
                    missed.append((number, kind, str(one)[:100]))
    assert seen > 5000
    assert missed == []
