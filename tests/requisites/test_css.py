"""References of style sheets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import LinkKind
from mirror.requisites import css

STYLE, IMAGE, FONT = LinkKind.STYLE, LinkKind.IMAGE, LinkKind.FONT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a { background: url(x.png) }", [("x.png", IMAGE)]),
        ("a { background: URL( 'x y.png' ) }", [("x y.png", IMAGE)]),
        ('a { background: url(\n"x(1).png"\n) }', [("x(1).png", IMAGE)]),
        ("a{b:url(1.png),url(2.png)}", [("1.png", IMAGE), ("2.png", IMAGE)]),
        ('@import "a.css";', [("a.css", STYLE)]),
        ("@import'a.css';", [("a.css", STYLE)]),
        ("@IMPORT/* x */ url(a.css) layer(b) screen;", [("a.css", STYLE)]),
        ("@media print { @import url('n.css'); }", [("n.css", STYLE)]),
        ("@namespace svg url(http://www.w3.org/2000/svg); a{b:url(c)}", [("c", IMAGE)]),
        ('@namespace "http://www.w3.org/1999/xhtml"; a{b:url(c)}', [("c", IMAGE)]),
        (
            "@font-face{font-family:x;src:url(x.woff2) format('woff2'),url(x.ttf)} a{b:url(c.png)}",
            [("x.woff2", FONT), ("x.ttf", FONT), ("c.png", IMAGE)],
        ),
        ("a{b:image-set('1.png' 1x, url(2.png) 2x)}", [("1.png", IMAGE), ("2.png", IMAGE)]),
        ("a{b:-webkit-image-set(url(1.png) 1x)}", [("1.png", IMAGE)]),
        ("a{b:image-set('1.avif' type('image/avif'), '2.png' 2x)}", [("1.avif", IMAGE), ("2.png", IMAGE)]),
        ("/* url(no.png) */ a{b:url(yes.png)}", [("yes.png", IMAGE)]),
        ("a{content:'url(no.png)';b:url(yes.png)}", [("yes.png", IMAGE)]),
        (r"a{content:'\'url(no.png)';b:url(yes.png)}", [("yes.png", IMAGE)]),
        (r"a{b:url(a\29 b.png)}", [("a)b.png", IMAGE)]),
        (r"a{b:url(a\)b.png)}", [("a)b.png", IMAGE)]),
        (r"a{b:url('\1F600.png')}", [("\U0001f600.png", IMAGE)]),
        (r"a{b:url('a\0 \110000 \d800 z')}", [("a���z", IMAGE)]),
        ("a{b:myurl(x) -url(y);c:url(z)}", [("z", IMAGE)]),
        ("a{filter:url(#f);b:url(data:image/png;base64,AA==);c:url()}", []),
        ("a{b:url(never-closed.png", [("never-closed.png", IMAGE)]),
        ("a{b:url('never-closed.png", [("never-closed.png", IMAGE)]),
        ("a{b:url('bad\n.png');c:url(good.png)}", [("good.png", IMAGE)]),
        ("/* never closed url(x)", []),
        ("", []),
    ],
)
def test_references_are_found(text: str, expected: list[tuple[str, LinkKind]]) -> None:
    assert css.scan(text) == expected


def test_unterminated_functions_take_linear_time() -> None:
    for piece in ('url("a" ', "url(", "@font-face{", "image-set(", "/*", "'\\", "@import/*", "@import url('a' ", "\\)"):
        css.scan(piece * 200_000 + "url(x)")


references = st.text("abcé/.?=%()'\" \\", min_size=1, max_size=20).map(lambda text: "r" + text)


@given(st.lists(references, max_size=6))
def test_an_escaped_reference_is_read_back(names: list[str]) -> None:
    escaped = ["".join(f"\\{ord(c):x} " if c in "()'\" \\" else c for c in name) for name in names]
    for opening, closing in (("url(", ")"), ("url('", "')"), ('url( "', '" )')):
        sheet = "".join(f"a{{b:{opening}{one}{closing}}}/* ' */" for one in escaped)
        assert css.scan(sheet) == [(name, IMAGE) for name in names]


@given(st.text(alphabet="url()'\"\\/*@import-set{};\n fontace"))
def test_no_text_raises(text: str) -> None:
    css.scan(text)
