"""References of site maps."""

from __future__ import annotations

from mirror.model import LinkKind as K
from mirror.requisites import sitemap

NAMESPACES = (
    'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:i="http://www.google.com/schemas/sitemap-image/1.1"'
    ' xmlns:v="http://www.google.com/schemas/sitemap-video/1.1" xmlns:x="http://www.w3.org/1999/xhtml"'
)


def test_pages_images_and_videos_are_found() -> None:
    text = f"""<?xml version="1.0"?><urlset {NAMESPACES}><url><loc>https://a.example/1?a&amp;b</loc>
    <lastmod>2026-01-01</lastmod><x:link rel="alternate" hreflang="vi" href="https://a.example/vi/1"/>
    <i:image><i:loc>https://a.example/1.jpg</i:loc></i:image>
    <v:video><v:thumbnail_loc>https://a.example/t.jpg</v:thumbnail_loc>
    <v:content_loc>https://a.example/v.mp4</v:content_loc></v:video></url></urlset>"""
    assert sitemap.scan(text) == [
        ("https://a.example/1?a&b", K.SITEMAP_ITEM),
        ("https://a.example/vi/1", K.PAGE),
        ("https://a.example/1.jpg", K.IMAGE),
        ("https://a.example/t.jpg", K.IMAGE),
        ("https://a.example/v.mp4", K.MEDIA),
    ]


def test_an_index_gives_its_site_maps() -> None:
    text = f"<sitemapindex {NAMESPACES}><sitemap><loc> https://a.example/1.xml </loc></sitemap></sitemapindex>"
    assert sitemap.scan(text) == [("https://a.example/1.xml", K.SITEMAP_ITEM)]


def test_broken_xml_gives_what_came_before() -> None:
    assert sitemap.scan("<urlset><url><loc>/1</loc></url><url><loc>/2") == [("/1", K.SITEMAP_ITEM)]


def test_plain_text_has_one_url_a_line() -> None:
    text = (
        "\ufeffhttps://a.example/1\r\n\r\nnot a link\r\nhttps://a.example/2 x\nHTTP://a.example/3\nhttps://a.example/1"
    )
    assert [one for one, _ in sitemap.scan_text(text)] == ["https://a.example/1", "HTTP://a.example/3"]
