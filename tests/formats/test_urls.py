"""Web addresses: known answers of the WHATWG test suite, what people paste, hostile input."""

import contextlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import UrlError
from mirror.formats.urls import MAX_BYTES, Url, join, parse, parse_href, surt

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors" / "urls"
BASE = parse("https://example.com/a/b/c.html?x=1")


def known(name: str) -> object:
    path = VECTORS / name
    if not path.is_file():
        pytest.skip(f"{name} is not here: the shared vectors are not part of the repository")
    return json.loads(path.read_text(encoding="utf-8"))


# ---- known answers

EMPTY_LABELS = {"http://./", "http://../", "http://foo.09.."}


def deliberate_refusal(case: dict[str, str]) -> str | None:
    """Name the class of a case that the standard accepts and we refuse; the classes are all listed here."""
    if case.get("username") or case.get("password"):
        return "user-info: it may be a password"
    if case["input"] in EMPTY_LABELS:
        return "a host with an empty label, which no resolver can look up"
    return None


def http(href: str | None) -> bool:
    return href is not None and href.startswith(("http:", "https:"))


def test_whatwg_cases_have_the_standard_answer() -> None:
    cases = [case for case in known("whatwg/urltestdata.json") if isinstance(case, dict)]
    seen = refused = 0
    for case in cases:
        base = case.get("base")
        if base is not None and not http(base):
            continue
        expected = case["href"].partition("#")[0] if http(case.get("href")) else None
        try:
            if base is None:
                got = parse_href(case["input"])
            elif "@" in base:
                continue  # a base with user-info: no document has one here
            else:
                got = join(parse_href(base), case["input"])
        except UrlError:
            got = None
        seen += 1
        if expected is not None and deliberate_refusal(case):
            refused += 1
            expected = None
        assert (got.href if got else None) == expected, case
        if got:
            assert got.scheme == case["protocol"].removesuffix(":")
            assert got.host_header == case["host"]
            assert got.path == case["pathname"]
            assert (f"?{got.query}" if got.query else "") == case["search"]
    assert seen > 700
    assert refused < 45


def test_parse_agrees_with_the_standard_except_for_the_surroundings_of_a_pasted_link() -> None:
    ending = set("?.,;:!'\"`<>")  # closing punctuation, an empty query
    invisible = {chr(sign) for sign in (0xAD, 0x202D, 0x202E, 0x2060, 0xFEFF)}
    for case in known("whatwg/urltestdata.json"):
        if not isinstance(case, dict) or case.get("base") is not None or not http(case.get("href")):
            continue
        text = case["input"]
        if deliberate_refusal(case) or text.rstrip()[-1] in ending or invisible & set(text) or "#" in text:
            continue
        assert parse(text).href == case["href"], text


def test_host_names_of_url_normalize() -> None:
    lists = known("url_normalize_cases.json")["lists"]
    for host, expected in lists["test_normalize_host.py:param:('host', 'expected'):8"]:
        assert parse_href(f"https://{host}/").host == expected


def test_absolute_urls_of_url_normalize() -> None:
    lists = known("url_normalize_cases.json")["lists"]
    deliberate = {
        "http://example.com/?q=%C7",  # escapes stay as they are
        "http://www.foo.com/%7Ebar",
        "http://www.foo.com/%7ebar",
        "http://www.foo.com.:81/foo",  # the final dot of a name stays, as in browsers
        "http://www.foo.com./foo/bar.html",
        "http://USER:pass@www.Example.COM/foo/bar",  # user-info is refused
    }
    checked = 0
    for text, expected in lists["test_url_normalize.py:param:('value', 'expected'):53"]:
        if text.startswith("http") and text not in deliberate:
            checked += 1
            assert parse(text).href == expected
    assert checked >= 8


def literal_cases(name: str, function: str) -> list[tuple[list[str], str]]:
    asserts = known(name)["asserts"]
    calls = [(entry["call"], entry["expect"]) for entry in asserts if isinstance(entry["call"], dict)]
    return [
        (call["args"], expected)
        for call, expected in calls
        if call.get("call") == function
        and not call["kwargs"]
        and isinstance(expected, str)
        and all(isinstance(argument, str) for argument in call["args"])
    ]


def test_download_urls_of_w3lib() -> None:
    cases = literal_cases("w3lib_cases.json", "safe_download_url")
    assert cases
    for (text,), expected in cases:
        assert parse(text).href == expected


def test_relative_links_of_courlan() -> None:
    cases = literal_cases("courlan_cases.json", "fix_relative_urls")
    assert cases
    for (base, reference), expected in cases:
        got = join(parse(base), reference)
        assert got is not None
        if reference == "{privacy}":  # a template left unfilled: courlan keeps it bare, the standard resolves it
            assert got.path == "/%7Bprivacy%7D"
        else:
            assert got.href in (expected, expected + "/")


# ---- what people paste


@pytest.mark.parametrize(
    ("pasted", "href"),
    [
        ("example.com/x", "https://example.com/x"),
        ("  HTTPS://Example.COM  ", "https://example.com/"),
        ("<https://example.com/x>", "https://example.com/x"),
        ("“https://example.com/x”.", "https://example.com/x"),
        ("(https://example.com/x)", "https://example.com/x"),
        ("(https://vi.example/wiki/Hu%E1%BA%BF_(city)).", "https://vi.example/wiki/Hu%E1%BA%BF_(city)"),
        ("[https://example.com/x]", "https://example.com/x"),
        ("https://example.com/x, ", "https://example.com/x"),
        ("https://example.com/x).", "https://example.com/x"),
        ("https://example.com/wiki/Inc%2E", "https://example.com/wiki/Inc%2E"),
        ("\ufeffhttps://exam\u200bple.com/\u2060x\u200b", "https://example.com/x"),
        ("https://example.com/a\nb", "https://example.com/ab"),
        ("//example.com/x", "https://example.com/x"),
        ("example.com:8080/x", "https://example.com:8080/x"),
        ("localhost:8080/x", "https://localhost:8080/x"),
        ("https://https://example.com/x", "https://example.com/x"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com/#!/post/1", "https://example.com/"),
        ("https://example.com/x#:~:text=a", "https://example.com/x"),
        (
            "https://báo.vn/đường?q=Đồng Tâm",
            "https://xn--bo-mia.vn/%C4%91%C6%B0%E1%BB%9Dng?q=%C4%90%E1%BB%93ng%20T%C3%A2m",
        ),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("http://0177.0.0.01/", "http://127.0.0.1/"),
        ("http://[::FFFF:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
        ("http://[2001:db8:0:0:1:0:0:1]:8080/x", "http://[2001:db8::1:0:0:1]:8080/x"),
        ("https://example.com\\x\\y", "https://example.com/x/y"),
        ("https://example.com/a/./b/../c", "https://example.com/a/c"),
        ("https://example.com/%7e%41?b=2&a=%2f", "https://example.com/%7e%41?b=2&a=%2f"),
    ],
)
def test_pasted_link_is_cleaned(pasted: str, href: str) -> None:
    assert parse(pasted).href == href


@pytest.mark.parametrize(
    ("pasted", "word"),
    [
        ("", "no link"),
        (" \u200b\n", "no link"),
        ("hello", "not a web address"),
        ("see here https://example.com", "more here than one link"),
        ("/just/a/path", "not a web address"),
        ("https://", "no host"),
        ("https:///", "no host"),
        ("mailto:a@example.com", "mailto"),
        ("javascript:alert(1)", "javascript"),
        ("java\nscript:alert(1)", "javascript"),
        ("ftp://example.com/", "ftp"),
        ("file:///etc/passwd", "file"),
        ("data:text/html,x", "data"),
        ("https://user:secret@example.com/", "password"),
        ("john.doe:secret@example.com/x", "password"),
        ("someone@example.com", "user name"),
        ("https://example.com:70000/", "65535"),
        ("https://example.com:x/", "port"),
        (f"https://{'a' * 64}.com/", "longer than the Internet allows"),
        (f"https://{'a.' * 127}com/", "longer than the Internet allows"),
        ("https://a..com/", "between two dots"),
        ("https://exa\x01mple.com/", "characters"),
        ("https://exa mple.com/", "characters"),
        ("https://example.com/\ud800", "broken characters"),
        ("https://1.2.3.4.5/", "numeric address"),
        ("https://256.1.1.1/", "numeric address"),
        ("https://[::1/", "not closed"),
        ("https://[fe80::1%25eth0]/", "numeric address"),
        ("https://example.com/" + "a" * MAX_BYTES, "longer than 8192"),
        ("https://a.example/ https://b.example/", "more here than one link"),
    ],
)
def test_refused_link_gets_one_clear_sentence(pasted: str, word: str) -> None:
    with pytest.raises(UrlError, match=word) as caught:
        parse(pasted)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "secret" not in sentence
    assert caught.value.exit_code == 2


def test_link_of_exactly_the_limit_is_accepted() -> None:
    start = "https://example.com/"
    assert len(parse(start + "a" * (MAX_BYTES - len(start))).href) == MAX_BYTES
    with pytest.raises(UrlError):
        parse(start + "a" * (MAX_BYTES - len(start) + 1))


def test_parts_of_a_url() -> None:
    url = parse("http://Example.com:8080/a?b=1#c")
    assert (url.scheme, url.host, url.port, url.path, url.query) == ("http", "example.com", 8080, "/a", "b=1")
    assert (url.origin, url.host_header, url.target) == ("http://example.com:8080", "example.com:8080", "/a?b=1")
    assert parse("http://[::1]:81/").host == "::1"
    assert parse("http://[::1]:81/").host_header == "[::1]:81"
    assert parse("https://example.com").target == "/"
    assert parse_href("https://example.com/?").query == ""


# ---- links in documents


@pytest.mark.parametrize(
    ("reference", "href"),
    [
        ("img.png", "https://example.com/a/b/img.png"),
        ("/x", "https://example.com/x"),
        ("//cdn.example.net/y", "https://cdn.example.net/y"),
        ("?p=2", "https://example.com/a/b/c.html?p=2"),
        ("#top", "https://example.com/a/b/c.html?x=1"),
        ("", "https://example.com/a/b/c.html?x=1"),
        ("../../../../x", "https://example.com/x"),
        ("https:rel", "https://example.com/a/b/rel"),
        ("http://other.example/wiki/Inc.", "http://other.example/wiki/Inc."),
        ("data:image/png;base64,AA", None),
        ("javascript:void(0)", None),
        ("mailto:a@example.com", None),
        ("https://u:p@example.com/", None),
        ("https://[::1", None),
        ("http://\ud800/", None),
        ("x" * (MAX_BYTES + 1), None),
    ],
)
def test_reference_is_resolved(reference: str, href: str | None) -> None:
    got = join(BASE, reference)
    assert (got.href if got else None) == href


@given(st.text(alphabet=st.characters(), max_size=200))
def test_join_never_raises(reference: str) -> None:
    join(BASE, reference)


@given(
    st.lists(
        st.sampled_from(
            [
                "http",
                "https",
                ":",
                "/",
                "//",
                "\\",
                "@",
                "[",
                "]",
                "::1",
                "xn--",
                "a",
                "Đ",
                ".",
                "%",
                "%2e",
                "?",
                "#",
                "\n",
                "0x",
                "9",
                "\ud800",
                "\u00ad",
                " ",
            ]
        ),
        max_size=30,
    )
)
def test_whatever_parses_is_ascii_and_stable(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        url: Url | None = parse_href(text)
    except UrlError:
        url = join(BASE, text)
    if url is not None:
        assert url.href.isascii()
        assert not set(url.href) & set(" \r\n\t#")
        assert parse_href(url.href) == url
        assert join(BASE, url.href) == url
        surt(url)


@given(st.text(max_size=60))
def test_cleaning_what_is_pasted_twice_changes_nothing(text: str) -> None:
    try:
        once = parse(text)
        twice = parse(once.href)
    except UrlError:
        return
    assert parse(twice.href) == twice


@pytest.mark.parametrize(
    "text",
    [
        "https://x.example/" + "../a/" * 1500,
        '" ' * 30_000 + "https://x.example/",
        "https://x.example/" + ".)" * 4000,
        "http:" * 12_000,
        "https://" + "đ" * 8000 + "/",
        "https://" + ".".join(["đ" * 60] * 15) + "/",
        "https://" + "xn--a" * 10 + ".đ/",
        "https://[" + "0:" * 4000 + "]/",
        "https://" + "9" * 8000 + "/",
        "https://" + "a." * 4000 + "/",
        "https://" + "@" * 8000 + "x.example/",
        "https://x.example/" + " " * 60_000 + "a",
        "a" * 1_000_000,
        "data:" + "a" * 10_000_000,
    ],
)
def test_hostile_text_costs_milliseconds(text: str) -> None:
    started = time.process_time()
    join(BASE, text)
    with contextlib.suppress(UrlError):
        parse(text)
    assert time.process_time() - started < 0.5


# ---- index keys


@pytest.mark.parametrize(
    ("href", "key"),
    [
        ("https://www.example.vn/path?query", "vn,example)/path?query"),
        ("http://www2.Example.com:8080/A/../B/", "com,example:8080)/b"),
        ("https://example.com:443/?", "com,example)/"),
        ("https://example.com/?b=2&a=1&a=0&c", "com,example)/?a=0&a=1&b=2&c"),
        ("https://example.com/x;jsessionid=A1?PHPSESSID=B2", "com,example)/x;jsessionid=a1?phpsessid=b2"),
        ("https://example.com/%C3%A9%2525//x/", "com,example)/%c3%a9%25/x"),
        ("http://127.0.0.1/", "1,0,0,127)/"),
        ("http://[::1]:8080/a", "::1:8080)/a"),
        ("https://www.com/", "com)/"),
        ("https://example.com/..%2f..%2fx", "com,example)/x"),
        ("https://example.com/..%2fx", "com,example)/../x"),
    ],
)
def test_index_key(href: str, key: str) -> None:
    assert surt(parse_href(href)) == key


def test_index_key_ignores_scheme_www_and_order() -> None:
    one = surt(parse("https://www.example.com/Page/?b=1&a=2"))
    assert one == surt(parse("http://example.com:80/page?a=2&b=1"))


def test_index_key_of_nested_escapes_costs_milliseconds() -> None:
    url = parse_href("https://x.example/%" + "25" * 4000)
    started = time.process_time()
    assert surt(url) == "example,x)/%25"
    assert time.process_time() - started < 0.5
