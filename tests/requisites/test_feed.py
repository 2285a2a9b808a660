"""References of feeds."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.formats import urls
from mirror.model import LinkKind as K
from mirror.requisites import feed

BASE = urls.parse("https://a.example/feed/")


def found(text: str) -> list[tuple[str, K]]:
    return feed.scan(text, base=BASE)


RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/" xmlns:atom="http://www.w3.org/2005/Atom"
 xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">
<channel><title>t</title><link>https://a.example/</link>
<atom:link rel="self" href="https://a.example/feed/"/><atom:link rel="next" href="https://a.example/feed/?p=2"/>
<image><url>https://a.example/logo.png</url><link>https://a.example/</link></image>
<itunes:image href="/cover.jpg"/>
<item><link> https://a.example/1?x=1&amp;y=2 </link><guid isPermaLink="true">https://a.example/?p=1</guid>
 <enclosure url="/1.mp3" type="audio/mpeg" length="1"/><enclosure url="/1.jpg" type="image/jpeg" length="1"/></item>
<item><guid>https://a.example/2</guid><media:group><media:content url="/2.mp4" medium="video"/>
 <media:thumbnail url="/2.jpg"/></media:group></item>
<item><link><![CDATA[/3]]></link><guid isPermaLink="false">tag:3</guid></item>
</channel></rss>"""


def test_rss_items_and_media_are_found() -> None:
    assert found(RSS) == [
        ("https://a.example/", K.PAGE),
        ("https://a.example/feed/?p=2", K.NEXT_PART),
        ("https://a.example/logo.png", K.IMAGE),
        ("/cover.jpg", K.IMAGE),
        ("https://a.example/1?x=1&y=2", K.FEED_ITEM),
        ("/1.mp3", K.MEDIA),
        ("/1.jpg", K.IMAGE),
        ("https://a.example/2", K.FEED_ITEM),
        ("/2.mp4", K.MEDIA),
        ("/2.jpg", K.IMAGE),
        ("/3", K.FEED_ITEM),
    ]


def test_rss_1_items_are_found() -> None:
    text = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/">
    <channel rdf:about="x"><link>/</link></channel><item rdf:about="/1"><link>/1</link></item></rdf:RDF>"""
    assert found(text) == [("/", K.PAGE), ("/1", K.FEED_ITEM)]


def test_atom_entries_are_resolved_at_their_own_base() -> None:
    text = """<feed xmlns="http://www.w3.org/2005/Atom" xml:base="/blog/"><icon>i.png</icon>
    <link href="./"/><link rel="self" href="self"/><link rel="next" href="?page=2"/>
    <entry xml:base="2026/"><link href="one"/><link rel="enclosure" type="audio/ogg" href="one.ogg"/>
    <link rel="edit" href="no"/></entry><entry><link rel="alternate" href="two"/></entry></feed>"""
    assert found(text) == [
        ("https://a.example/blog/i.png", K.ICON),
        ("https://a.example/blog/", K.PAGE),
        ("https://a.example/blog/?page=2", K.NEXT_PART),
        ("https://a.example/blog/2026/one", K.FEED_ITEM),
        ("https://a.example/blog/2026/one.ogg", K.MEDIA),
        ("https://a.example/blog/two", K.FEED_ITEM),
    ]


def test_json_feed_items_are_found() -> None:
    text = json.dumps(
        {
            "version": "https://jsonfeed.org/version/1.1",
            "home_page_url": "/",
            "next_url": "/feed?2",
            "items": [
                {"url": "/1", "image": "/1.jpg", "attachments": [{"url": "/1.mp3", "mime_type": "audio/mpeg"}]},
                {"url": 7},
                "no",
            ],
        }
    )
    expected = [("/", K.PAGE), ("/1", K.FEED_ITEM), ("/1.jpg", K.IMAGE), ("/1.mp3", K.MEDIA), ("/feed?2", K.NEXT_PART)]
    assert feed.scan_json(text) == expected
    assert feed.scan_json('{"items": [{"url": "/1"}]}') == []


def test_a_document_type_without_entities_is_read() -> None:
    head = '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://my.example/rss-0.91.dtd">'
    assert found(head + "<rss><channel><item><link>/1</link></item></channel></rss>") == [("/1", K.FEED_ITEM)]


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/hostname">',
        '<!ENTITY % a SYSTEM "http://a.example/x.dtd"> %a;',
    ],
)
def test_declared_entities_end_the_reading(declaration: str) -> None:
    text = f"<!DOCTYPE rss [{declaration}]><rss><channel><item><link>/&a;</link></item></channel></rss>"
    assert found(text) == []


def test_broken_xml_gives_what_came_before() -> None:
    assert found("<rss><channel><item><link>/1</link></item><item><link>/2</oops>") == [("/1", K.FEED_ITEM)]
    assert found("") == []


def test_hostile_xml_is_read_in_linear_time() -> None:
    n = 200_000
    for text in (
        "<a>" * n,
        "<rss " + "a='b' " * n,
        "<!--" * n,
        "<a><![CDATA[" + "]" * n,
        "<l>" + "&amp;" * n,
        "\0" * n,
    ):
        found(text)


links = st.text(alphabet="ab/?&<>é'\"", min_size=1, max_size=15).map(lambda text: "/" + text + "/")


@given(st.lists(links, max_size=5, unique=True))
def test_written_items_are_read_back(items: list[str]) -> None:
    text = "".join(f"<item><title>x</title><link>{escape(link)}</link></item>" for link in items)
    assert found(f"<rss><channel>{text}</channel></rss>") == [(link, K.FEED_ITEM) for link in items]


@given(st.text(alphabet="<>/=!&;'\" \ud800\0item[]CDATA-", max_size=80))
def test_no_text_raises(text: str) -> None:
    found(text)
    found("<rss><item>" + text)
