"""References of pages."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import LinkKind as K
from mirror.requisites import html


def found(text: str) -> list[tuple[str, K]]:
    return html.scan(text).references


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<img src=a.jpg>", [("a.jpg", K.IMAGE)]),
        ("<IMG SRC='a b.jpg'>", [("a b.jpg", K.IMAGE)]),
        ('<img\nalt="a > b"\nsrc = "a.jpg"/>', [("a.jpg", K.IMAGE)]),
        ("<img src=a.jpg src=b.jpg>", [("a.jpg", K.IMAGE)]),
        ('<img srcset="a.jpg 1x, b.jpg 2x" src="c.jpg">', [("c.jpg", K.IMAGE), ("a.jpg", K.IMAGE), ("b.jpg", K.IMAGE)]),
        ("<picture><source srcset='a.webp 2x' type=image/webp><img src=b.jpg></picture>",
         [("a.webp", K.IMAGE), ("b.jpg", K.IMAGE)]),
        ('<img class="lazy" data-src="/a.jpg">', [("/a.jpg", K.IMAGE)]),
        ('<img data-original="/a.jpg" data-srcset="/b.jpg 2x">', [("/a.jpg", K.IMAGE), ("/b.jpg", K.IMAGE)]),
        ('<img data-src="{{ photo.url }}">', []),
        ('<div class="x" data-bg="/a.jpg"></div>', [("/a.jpg", K.IMAGE)]),
        ('<div data-background-image="url(/a.jpg)"></div>', [("/a.jpg", K.IMAGE)]),
        ('<div data-bg="dark"></div>', []),
        ('<div data-src="/a.jpg"></div><div data-src="/article/7"></div>', [("/a.jpg", K.IMAGE)]),
        ("<noscript><img src=a.jpg></noscript>", [("a.jpg", K.IMAGE)]),
        ("<input type=image src=a.gif><input type=text src=b.gif>", [("a.gif", K.IMAGE)]),
        ("<body background=a.gif><td background='b.gif'>", [("a.gif", K.IMAGE), ("b.gif", K.IMAGE)]),
        ("<svg><image xlink:href=a.png /><use href='s.svg#i'/><use href='#j'/></svg>",
         [("a.png", K.IMAGE), ("s.svg#i", K.IMAGE)]),
        ('<p style="background:url(&quot;a.png&quot;)">', [("a.png", K.IMAGE)]),
        ("<style>@import 'a.css'; @font-face{src:url(f.woff)}</style>", [("a.css", K.STYLE), ("f.woff", K.FONT)]),
        ("<script src=a.js></script>", [("a.js", K.SCRIPT)]),
        ("<script id=x>var a = '<img src=no.jpg>';</script><img src=b.jpg>", [("b.jpg", K.IMAGE)]),
        ("<script>'<img src=no.jpg>'</SCRIPT ><img src=b.jpg>", [("b.jpg", K.IMAGE)]),
        ('<script type="application/ld+json">{"image":"a.jpg"}</script>', [("a.jpg", K.PREVIEW)]),
        ("<textarea><img src=no.jpg></textarea><title><img src=no.jpg></title>", []),
        ("<!-- <img src=no.jpg> --><img src=a.jpg>", [("a.jpg", K.IMAGE)]),
        ("<!--[if IE]><script src=ie.js></script><![endif]-->", []),
        ("<!--><img src=a.jpg><!-- -->", [("a.jpg", K.IMAGE)]),
        ("<template><template></template><img src=no.jpg></template><img src=a.jpg>", [("a.jpg", K.IMAGE)]),
        ("<template shadowrootmode=open><img src=a.jpg></template>", [("a.jpg", K.IMAGE)]),
        ("<video src=a.mp4 poster=p.jpg><source src=b.mp4><track src=t.vtt></video>",
         [("p.jpg", K.MEDIA), ("a.mp4", K.MEDIA), ("b.mp4", K.MEDIA), ("t.vtt", K.MEDIA)]),
        ("<audio src=a.mp3></audio>", [("a.mp3", K.MEDIA)]),
        ("<iframe src=a.html></iframe><frame src=b.html><embed src=c.swf><object data=d.pdf></object>",
         [("a.html", K.FRAME), ("b.html", K.FRAME), ("c.swf", K.FRAME), ("d.pdf", K.FRAME)]),
        ('<iframe srcdoc="&lt;img src=a.jpg?x=1&amp;amp;y=2&gt;" src=no.html></iframe>', [("a.jpg?x=1&y=2", K.IMAGE)]),
        ("<link rel=stylesheet href=a.css><link rel='shortcut icon' href=f.ico>",
         [("a.css", K.STYLE), ("f.ico", K.ICON)]),
        ("<link rel=manifest href=m.json><link rel=apple-touch-icon href=t.png>",
         [("m.json", K.ICON), ("t.png", K.ICON)]),
        ("<link rel=preload as=font href=f.woff2><link rel=modulepreload href=m.js>",
         [("f.woff2", K.FONT), ("m.js", K.SCRIPT)]),
        ("<link rel=preload as=image imagesrcset='a.jpg 1x, b.jpg 2x'>", [("a.jpg", K.IMAGE), ("b.jpg", K.IMAGE)]),
        ("<link rel=preconnect href=//cdn.example><link rel=dns-prefetch href=//cdn.example>", []),
        ('<link rel="alternate" type="application/json+oembed" href="/o?a=1&amp;b=2">', [("/o?a=1&b=2", K.OEMBED)]),
        ("<link rel=next href=/2><a rel='nofollow next' href=/3>", [("/2", K.NEXT_PART), ("/3", K.NEXT_PART)]),
        ("<meta property=og:image content=a.jpg><meta name=twitter:image content=b.jpg>",
         [("a.jpg", K.PREVIEW), ("b.jpg", K.PREVIEW)]),
        ("<meta property=og:title content=a.jpg>", []),
        ('<meta http-equiv=refresh content="0; URL=\'/next\'">', [("/next", K.FRAME)]),
        ('<meta http-equiv=Refresh content="600;url=/later">', [("/later", K.PAGE)]),
        ('<noscript><meta http-equiv=refresh content="0;url=/plain"></noscript>', [("/plain", K.PAGE)]),
        ('<meta http-equiv=refresh content="30">', []),
        ("<a href=/x>x</a><area href=/y><a href=#z>", [("/x", K.PAGE), ("/y", K.PAGE)]),
        ('<div title="<img src=no.jpg>">', []),
        ("<div title='a > <img src=no.jpg>'><img src=a.jpg>", [("a.jpg", K.IMAGE)]),
        ('<p title="a>" class=x><img src=a.jpg>', [("a.jpg", K.IMAGE)]),
        ('<img src="never closed', []),
        ("a < b <3 <> <!x> </p> <img src=a.jpg>", [("a.jpg", K.IMAGE)]),
        ("", []),
    ],
)  # fmt: skip
def test_references_are_found(text: str, expected: list[tuple[str, K]]) -> None:
    assert found(text) == expected


def test_base_is_the_first_one() -> None:
    assert html.scan("<base target=_top><base href='/a/?x=1&amp;y'><base href=/b/>").base == "/a/?x=1&y"
    assert html.scan("<p>").base is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a&amp;b", "a&b"),
        ("?a=1&copy=2&reg=3", "?a=1&copy=2&reg=3"),
        ("?a&region=1&notit;", "?a&region=1&notit;"),
        ("&copy;=&copy", "©=©"),
        ("&#47;&#x2f;&#x2F", "///"),
        ("&" + "#" + "1" * 5000 + ";", "�"),
        ("&#xd800;&#0;", "��"),
        ("&;&&#;&#x;& &unknown;", "&;&&#;&#x;& &unknown;"),
    ],
)
def test_character_references_are_decoded_as_in_attributes(value: str, expected: str) -> None:
    assert html.decode(value) == expected


def test_ordinary_links_can_be_left_out() -> None:
    text = '<a href="/x">x</a><a rel="next" href="/2">2</a><img src="a.jpg">'
    assert html.scan(text, pages=False).references == [("/2", K.NEXT_PART), ("a.jpg", K.IMAGE)]


def test_xhtml_elements_close_themselves() -> None:
    text = '<title/><script src="a.js"/><iframe src="f.html" /><img src="b.jpg"/>'
    assert [one for one, _ in html.scan(text, xml=True).references] == ["a.js", "f.html", "b.jpg"]


def test_nested_srcdoc_is_bounded() -> None:
    text = "<img src=deep.jpg>"
    for _ in range(html.MAX_NESTING):
        text = '<iframe srcdoc="{}"></iframe>'.format(text.replace("&", "&amp;").replace('"', "&quot;"))
    assert found(text) == [("deep.jpg", K.IMAGE)]
    text = '<iframe srcdoc="{}"></iframe>'.format(text.replace("&", "&amp;").replace('"', "&quot;"))
    assert found(text) == []


HOSTILE: dict[str, Callable[[int], str]] = {
    "angle brackets": lambda n: "<" * n,
    "names": lambda n: "<a" * n,
    "unclosed tags": lambda n: "<img " * n,
    "unclosed quotes": lambda n: "<img a='" + '<img b="' * n,
    "one unclosed quote each": lambda n: "<div a=\"b'>" * n,
    "comments": lambda n: "<!--" * n,
    "almost comments": lambda n: "<!-- -" * n + "->",
    "scripts": lambda n: "<script>" * n,
    "titles": lambda n: "<title><script " * n,
    "templates": lambda n: "<template>" * n,
    "closed templates": lambda n: "<template></template>" * n,
    "attributes": lambda n: "<img " + "a=b " * n + ">",
    "attributes without end": lambda n: "<p " + "a = 'b' " * n,
    "spaces": lambda n: "<img a" + " " * n + "=" + " " * n + "b>",
    "spaced tags": lambda n: ("<img" + " " * 50) * n,
    "idle attributes": lambda n: '<p class="a" class="a" class="a" id="b' * n,
    "giant attribute": lambda n: "<img src='" + "a" * n + "'>",
    "giant name": lambda n: "<" + "a" * n + ">",
    "references": lambda n: "<img src='" + "&amp" * n + "&#" * n + "'>",
    "digits": lambda n: "<img src='&#" + "1" * n + ";'>",
    "refreshes": lambda n: "<meta http-equiv=refresh content='0;url=a'>" * n,
    "refresh spaces": lambda n: "<meta http-equiv=refresh content='" + " " * n + "'>",
    "styles": lambda n: "<p style='url(\"'>" * n,
    "style name": lambda n: "<p style" + " " * n + ">",
    "commas": lambda n: "<img srcset='" + "a, (" * n + "'>",
    "documents": lambda n: "<iframe srcdoc='<iframe srcdoc=" + "&amp;lt;img src=a&amp;gt;" * n + ">'>",
    "equals": lambda n: "<a " + "=" * n + ">",
    "slashes": lambda n: "<img" + "/" * n,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_page_takes_linear_time(name: str) -> None:
    """Four times the page may take four times as long; quadratic work would take sixteen times."""
    make = HOSTILE[name]
    small, large = make(20_000), make(80_000)
    html.scan(make(1000))

    def fastest(text: str) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            html.scan(text)
            times.append(time.process_time() - start)
        return min(times)

    assert fastest(large) < 10 * fastest(small) + 0.02


@given(st.text(alphabet="<>!-/ '\"=aimgsrctyle&#;:()\n", max_size=200))
def test_no_text_raises(text: str) -> None:
    page = html.scan(text)
    assert all(reference for reference, _ in page.references)
    assert html.scan(text, xml=True, pages=False) is not page


attribute_values = st.text(alphabet="ab/.?=&'\"<> é", min_size=1, max_size=15).map(lambda text: "v" + text)


@given(st.lists(attribute_values, max_size=5), st.sampled_from(["", " class='>'", ' data-x="a" id="<b>"', " alt=it's"]))
def test_an_escaped_attribute_is_read_back(values: list[str], other: str) -> None:
    escaped = [v.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") for v in values]
    text = "".join(f'<p{other}><img{other} src="{value}"{other}>\n' for value in escaped)
    assert found(text) == [(value, K.IMAGE) for value in values]
