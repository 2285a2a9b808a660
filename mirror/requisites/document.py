"""What a document refers to, whatever it is: the entry to this room. Pure functions, no I/O, linear time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from mirror.formats import urls
from mirror.model import Link, LinkKind
from mirror.requisites import css, feed, html, jsonld, sitemap

REQUISITES: frozenset[LinkKind] = frozenset(
    {
        LinkKind.STYLE,
        LinkKind.SCRIPT,
        LinkKind.IMAGE,
        LinkKind.FONT,
        LinkKind.MEDIA,
        LinkKind.FRAME,
        LinkKind.ICON,
        LinkKind.PREVIEW,
        LinkKind.OEMBED,
    }
)
"""What is needed to show a page and its preview; the other kinds lead to other pages."""

MAX_LINKS = 50_000
"""Links of one kind taken from one document; a site map may hold as many (sitemaps.org)."""

MAX_REFERENCE = 8192
"""Characters of a reference; a longer one is no URL that we fetch."""

ALL_KINDS: frozenset[LinkKind] = frozenset(LinkKind)


class DocumentKind(Enum):
    HTML = "html"
    CSS = "css"
    FEED = "feed"
    SITEMAP = "sitemap"
    OTHER = "other"  # also SVG and oEmbed answers, whose links are found all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`links` in document order, no pair of URL and kind twice; `base` is what they were resolved against.

    `cut` tells that a kind had more than the limit, and that the rest was left out.
    """

    links: tuple[Link, ...]
    base: urls.Url
    kind: DocumentKind
    cut: bool = False


class _Form(Enum):
    """How a body is to be read."""

    HTML = "html"
    XHTML = "xhtml"
    SVG = "svg"
    CSS = "css"
    XML_FEED = "xml feed"
    JSON = "json"
    XML_SITEMAP = "xml sitemap"
    TEXT_SITEMAP = "text sitemap"
    OPAQUE = "opaque"


_KINDS = {
    _Form.HTML: DocumentKind.HTML,
    _Form.XHTML: DocumentKind.HTML,
    _Form.CSS: DocumentKind.CSS,
    _Form.XML_FEED: DocumentKind.FEED,
    _Form.XML_SITEMAP: DocumentKind.SITEMAP,
    _Form.TEXT_SITEMAP: DocumentKind.SITEMAP,
}


def links(
    body: bytes,
    *,
    url: urls.Url,
    content_type: str,
    charset: str | None,
    kinds: Collection[LinkKind] = ALL_KINDS,
    limit: int = MAX_LINKS,
) -> Found:
    """Find what a document refers to.

    `body` is free of transfer- and content-coding, and cut to a limit by the caller; `content_type` is the header's
    value ("" when absent), `charset` its parameter. What cannot be a link is left out: other schemes, more than
    `MAX_REFERENCE` characters, the document itself. Only `kinds` are resolved, at most `limit` of each. Never raises on
    a hostile body.
    """
    head = _head(body)
    form = _form(head, content_type.partition(";")[0].strip().lower(), url.path.lower())
    kind = _KINDS.get(form, DocumentKind.OTHER)
    base = url
    references: Iterable[tuple[str, LinkKind]] = ()
    if form is _Form.OPAQUE:
        return Found(links=(), base=base, kind=kind)
    text = decode(body, charset)
    if form in (_Form.HTML, _Form.XHTML, _Form.SVG):
        page = html.scan(text, pages=LinkKind.PAGE in kinds, xml=form is not _Form.HTML)
        references = page.references
        if page.base is not None:
            base = urls.join(url, page.base) or url
    elif form is _Form.CSS:
        references = css.scan(text)
    elif form is _Form.XML_FEED:
        references = feed.scan(text, base=url)
    elif form is _Form.XML_SITEMAP:
        references = sitemap.scan(text)
    elif form is _Form.TEXT_SITEMAP:
        references = sitemap.scan_text(text)
    elif references := feed.scan_json(text):
        kind = DocumentKind.FEED
    else:
        references = jsonld.oembed(jsonld.read(text))
    resolved, cut = _resolve(references, base, url.href, frozenset(kinds), limit)
    return Found(links=resolved, base=base, kind=kind, cut=cut)


def _resolve(
    references: Iterable[tuple[str, LinkKind]], base: urls.Url, own: str, kinds: frozenset[LinkKind], limit: int
) -> tuple[tuple[Link, ...], bool]:
    found: list[Link] = []
    # Kinds stand in the tables by identity: the hash of an Enum member is a call of Python code, four for each link.
    room = {id(kind): limit for kind in kinds}
    seen: set[tuple[str, int]] = set()
    cut = False
    for reference, kind in references:
        left = room.get(id(kind))
        raw = reference, id(kind)
        if left is None or raw in seen or len(reference) > MAX_REFERENCE:
            continue
        seen.add(raw)
        if left <= 0:
            cut = True
            continue
        joined = urls.join(base, reference)
        href = joined.href if joined is not None else own
        resolved = href, id(kind)
        if href != own and (href == reference or resolved not in seen):
            seen.add(resolved)
            found.append(Link(href, kind))
            room[id(kind)] = left - 1
    return tuple(found), cut


_SNIFFED = 2048
_HTML_START = re.compile(
    r"<(?:!doctype html"
    r"|(?:html|head|body|title|meta|script|style|link|iframe|table|div|p|h1|br|img|a|center|b|font)[\s/>])",
    re.I | re.A,
)
_ROOT = re.compile(r"<([a-z][a-z0-9]*:)?([a-z]+)[\s/>]", re.I | re.A)
_CSS_START = re.compile(
    r"@(?:charset|import|font-face|media|namespace)\b|[.#:*a-z][^{}<>;=()]{0,200}\{[^{}<>]*:", re.I | re.A
)
_CSS_TYPES = frozenset({"text/css"})
_HTML_TYPES = frozenset({"text/html", "application/vnd.wap.xhtml+xml"})
_JSON_TYPES = frozenset({"application/json", "text/json", "application/json+oembed"})
_VAGUE_TYPES = frozenset(
    {"", "*/*", "text/plain", "text/xml", "application/xml", "application/octet-stream", "application/unknown"}
    | {"unknown/unknown", "application/x-unknown-content-type", "binary/octet-stream"}
)
_ROOTS = {
    "rss": _Form.XML_FEED,
    "feed": _Form.XML_FEED,
    "rdf": _Form.XML_FEED,
    "urlset": _Form.XML_SITEMAP,
    "sitemapindex": _Form.XML_SITEMAP,
    "svg": _Form.SVG,
    "html": _Form.XHTML,
}


def _form(head: str, essence: str, path: str) -> _Form:
    """Decide how to read a body from its type; its first characters decide where the type is vague or known to lie."""
    root = _root(head)
    if essence in _CSS_TYPES:
        return _Form.HTML if _HTML_START.match(head) else _Form.CSS
    if essence in _HTML_TYPES or essence == "application/xhtml+xml":
        if root is not None and root not in (_Form.XHTML, _Form.SVG):
            return root
        if path.endswith(".css") and not head.startswith("<"):
            return _Form.CSS
        return _Form.XHTML if essence == "application/xhtml+xml" and root is _Form.XHTML else _Form.HTML
    if essence in _JSON_TYPES or essence.endswith("+json"):
        return _Form.JSON
    if essence.endswith("+xml") or essence in ("text/xml", "application/xml"):
        return root or (_Form.HTML if _HTML_START.match(head) else _Form.OPAQUE)
    if essence not in _VAGUE_TYPES and "/" in essence:
        return _Form.OPAQUE
    return _sniff(head, root, essence, path)


def _sniff(head: str, root: _Form | None, essence: str, path: str) -> _Form:
    if "\0" in head:
        return _Form.OPAQUE
    if root is not None and root is not _Form.XHTML:
        return root
    if _HTML_START.match(head):
        return _Form.HTML
    if head.startswith("{"):
        return _Form.JSON
    first = head.partition("\n")[0].strip()
    if sitemap.is_absolute(first) and ("sitemap" in path or path.endswith(".txt")):
        return _Form.TEXT_SITEMAP
    if path.endswith(".css") or (essence != "text/plain" and _CSS_START.match(head)):
        return _Form.CSS
    return _Form.OPAQUE


def _root(head: str) -> _Form | None:
    match = _ROOT.match(head)
    return _ROOTS.get(match[2].lower()) if match else None


def _head(body: bytes) -> str:
    """Give the first characters behind byte order mark, XML declaration, comments and a foreign doctype."""
    encoding = _mark(body)
    head = body[:_SNIFFED].decode(encoding or "latin-1", "replace").removeprefix("\ufeff").lstrip()
    while True:
        if head.startswith("<?"):
            end = head.find("?>")
            behind = end + 2
        elif head.startswith(("<!--", "/*")):
            mark = "-->" if head[0] == "<" else "*/"
            end = head.find(mark)
            behind = end + len(mark)
        elif head[:9].lower() == "<!doctype" and head[9:15].strip().lower()[:4] != "html":
            end = head.find(">")
            behind = end + 1
        else:
            return head
        if end < 0:
            return ""
        head = head[behind:].lstrip()


_CHARSET = re.compile(rb"""charset\s{0,9}=\s{0,9}["']?\s{0,9}([a-z0-9_:.-]{2,40})""", re.IGNORECASE)
_XML_ENCODING = re.compile(
    rb"""^\s{0,99}<\?xml[^>]{0,99}?\sencoding\s{0,9}=\s{0,9}["']([a-z0-9_:.-]{2,40})""", re.IGNORECASE
)
_ENCODINGS = re.compile(
    r"utf-8|utf-16(?:-[lb]e)?|ascii|iso8859-\d+|cp(?:125\d|866|874|932|949|950)|koi8-[rut]|mac-(?:roman|cyrillic)"
    r"|gbk|gb2312|gb18030|big5(?:hkscs)?|euc_(?:jp|kr)|shift_jis|iso2022_jp|johab|tis-620"
)
"""What a page may ask for: Python knows encodings that take quadratic time (punycode) or are none (base64)."""


def decode(body: bytes, charset: str | None) -> str:
    """Decode a body well enough to find references in it; wrong bytes become U+FFFD.

    Order: byte order mark, `charset` of the header, the document's own declaration in its first 1,024 bytes, UTF-8 if
    that fits, else windows-1252. What a reader is shown is decided elsewhere, with more care.
    """
    start = body[:1024]
    encoding = _mark(body) or _known(charset)
    if encoding is None:
        declared = _XML_ENCODING.search(start) or _CHARSET.search(start)
        encoding = _known(declared[1].decode("ascii")) if declared else None
        if encoding is not None and encoding.startswith("utf-16"):
            encoding = "utf-8"  # it was just read as ASCII (HTML §13.2.3.2)
    if encoding is not None:
        return body.decode(encoding, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace")


def _mark(body: bytes) -> str | None:
    if body.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return None


def _known(label: str | None) -> str | None:
    """Give Python's name of an encoding, or nothing when it is unknown or not fit for hostile input."""
    if not label or len(label) > 40 or not label.isascii():
        return None
    try:
        name = codecs.lookup(label.strip(" \"'\t")).name
    except (LookupError, ValueError):  # unknown; ValueError: a null character
        return None
    if not _ENCODINGS.fullmatch(name):
        return None
    return "cp1252" if name in ("ascii", "iso8859-1") else "gb18030" if name in ("gbk", "gb2312") else name
