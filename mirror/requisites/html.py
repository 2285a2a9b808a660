"""References of an HTML page (HTML Living Standard §13.2.5 tokenization, and the elements that load something).

A scanner of our own, because it runs in the crawler's event loop: one compiled expression finds the next start tag that
can matter, the text between is never looked at, and every character is read a bounded number of times whatever the
page holds. It knows comments, raw text (`script`, `style`, `textarea`, …), templates, and quotes; it builds no tree.
A quote or comment that never closes ends the scan, as it ends the page in a browser.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape as _unescape
from html.entities import html5 as _NAMED

from mirror.model import LinkKind
from mirror.requisites import css, jsonld, srcset

MAX_NESTING = 3
"""How deep `srcdoc` documents in `srcdoc` documents are read."""

REDIRECT_SECONDS = 5
"""A `<meta http-equiv=refresh>` at most this late is a redirect: its target is what a reader sees."""

Attributes = dict[str, str]
"""Attribute values by lower-case name, character references not decoded; the first of two equal names counts."""


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LAZY = _names(
    "data-src data-original data-original-src data-lazy-src data-lazy data-lazyload data-lazy-load data-echo data-image"
    " data-img data-img-src data-image-src data-ll-src data-delayed-url data-cfsrc data-pagespeed-lazy-src"
    " data-pagespeed-high-res-src data-hi-res-src data-hires data-retina data-src-retina data-thumb data-full-src"
    " data-large-file data-orig-file data-fallback-src data-flickity-lazyload data-pin-media data-url data-deferred"
    " data-defer-src data-async-src data-runner-src data-lazysrc data-gifsrc data-srclarge data-poster"
)
_LAZY_SETS = _names(
    "data-srcset data-lazy-srcset data-original-set data-original-srcset data-ll-srcset data-flickity-lazyload-srcset"
    " data-bgset data-image-srcset data-deferred-srcset data-lazysrcset"
)
_LAZY_BACKGROUNDS = _names(
    "data-bg data-bg-src data-bg-image data-bgimage data-background data-background-image data-background-src"
    " data-lazy-bg data-lazy-background data-image-background data-bg-hidpi data-bg-multi"
)
_LAZY_ANY = _LAZY | _LAZY_SETS | _LAZY_BACKGROUNDS
_ANYWHERE = _LAZY_ANY | {"style", "background"}
_LAZY_NAME = re.compile("data-(?:{})".format("|".join(sorted(name[5:] for name in _LAZY_ANY))))

# Group 1: an element whose content is not markup. Group 2, 3: any other start tag with attributes, and what stands
# up to the next angle bracket. Tags without attributes, and with none but such as never load anything, fail inside the
# expression, which is much cheaper than a match. No part can cross a "<": a failed attempt costs what it skipped.
_RAW = "script|style|title|textarea|template|xmp|iframe|noembed|plaintext"
_ANY_CASE = "|".join("".join(f"[{c}{c.upper()}]" for c in name) for name in _RAW.split("|"))
_ANY_FIRST = "".join(sorted({first for name in _RAW.split("|") for first in (name[0], name[0].upper())}))
_IDLE = r'(?:class|id|dir|lang|role|title|aria-[a-z]++|data-(?!{})[a-z0-9-]++)="[^"<>]*+"'.format(
    "|".join(sorted({name[5:8] for name in _LAZY_ANY}))
)
_TAG = re.compile(
    rf"<(?:(?=[{_ANY_FIRST}])({_ANY_CASE})(?=[ \t\n\r\f/>])"
    rf"|([a-zA-Z][^ \t\n\r\f/<>]*+)[ \t\n\r\f/](?!{_IDLE}(?: {_IDLE}){{0,9}} ?/?>)([^<>]*+)"
    rf"|!--)"
)
_ATTRIBUTE = re.compile(
    r"[ \t\n\r\f/]*+(?:(>)|([^ \t\n\r\f/>][^ \t\n\r\f/>=]*+)"
    r"(?:[ \t\n\r\f]*+=[ \t\n\r\f]*+(?:\"([^\"]*+)\"|'([^']*+)'|([\"'])|([^ \t\n\r\f>]*+)))?|\Z)"
)  # matches everywhere, if only nothing at the end: a failure would be tried again at each following character
_PLAIN_ATTRIBUTE = re.compile(
    r"([^ \t\n\r\f/>=\"][^ \t\n\r\f/>=\"]*+)(?:[ \t\n\r\f]*+=[ \t\n\r\f]*+(?:\"([^\"]*+)\"|([^ \t\n\r\f\"]++)))?"
)
_COMMENT_END = re.compile(r"--!?>")
_RAW_END = {name: re.compile(rf"</{name}(?=[ \t\n\r\f/>])", re.I | re.A) for name in _RAW.split("|")}
_TEMPLATE_EDGE = re.compile(r"<(/?)template(?=[ \t\n\r\f/>])", re.I | re.A)
_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9a-fA-F]++;?|[a-zA-Z][a-zA-Z0-9]*+;?=?)")
_REFRESH = re.compile(
    r"\s*+([0-9]*+)[0-9.]*+\s*+[;,]?\s*+(?:url\s*+=\s*+)?(?:\"([^\"]*+)|'([^']*+)|(.*+))", re.I | re.S
)
_TYPE_IMAGE = re.compile(r"\.(?:jpe?g|png|gif|webp|avif|svg|bmp|jxl)(?:[?#]|$)", re.IGNORECASE)

_PREVIEW = _names(
    "og:image og:image:url og:image:secure_url og:video og:video:url og:video:secure_url og:audio og:audio:url"
    " og:audio:secure_url twitter:image twitter:image:src twitter:image0 twitter:player:stream image thumbnail"
    " thumbnailurl contenturl sailthru.image.full sailthru.image.thumb parsely-image-url"
)
_TILES = _names(
    "msapplication-tileimage msapplication-square70x70logo msapplication-square150x150logo"
    " msapplication-wide310x150logo msapplication-square310x310logo"
)
_ICONS = frozenset({"icon", "apple-touch-icon", "apple-touch-icon-precomposed", "mask-icon", "fluid-icon", "manifest"})
_OTHER_PAGES = frozenset({"alternate", "amphtml", "canonical", "prev", "previous", "first", "last", "start"})
_PRELOADED = {
    "style": LinkKind.STYLE,
    "script": LinkKind.SCRIPT,
    "worker": LinkKind.SCRIPT,
    "fetch": LinkKind.SCRIPT,
    "image": LinkKind.IMAGE,
    "font": LinkKind.FONT,
    "audio": LinkKind.MEDIA,
    "video": LinkKind.MEDIA,
    "track": LinkKind.MEDIA,
    "document": LinkKind.FRAME,
    "embed": LinkKind.FRAME,
    "object": LinkKind.FRAME,
}


class Page:
    """What a scan found: `references` as (reference, kind) in document order; `base` as `<base href>` has it."""

    __slots__ = ("base", "nesting", "pages", "position", "references", "refreshed", "text", "xml")

    def __init__(self, text: str, *, pages: bool, xml: bool, nesting: int) -> None:
        self.references: list[tuple[str, LinkKind]] = []
        self.base: str | None = None
        self.text = text
        self.position = 0  # of the tag being read
        self.pages = pages
        self.xml = xml
        self.nesting = nesting
        self.refreshed = False

    def add(self, value: str | None, kind: LinkKind) -> None:
        """Keep a reference as an attribute holds it."""
        if value and value[0] != "#":
            self.references.append((decode(value) if "&" in value else value, kind))

    def add_set(self, value: str | None) -> None:
        """Keep the candidates of a `srcset`."""
        if value:
            self.references += [(one, LinkKind.IMAGE) for one in srcset.parse(decode(value))]

    def add_style(self, text: str) -> None:
        self.references += css.scan(text)


def scan(text: str, *, pages: bool = True, xml: bool = False, nesting: int = 0) -> Page:
    """Find what the page `text` refers to. Without `pages` ordinary links (`<a href>`) are skipped, which is faster.

    With `xml` (XHTML, SVG) an element may close itself, `<script src="…"/>`.

    Contents of `noscript` count, since many pages name an image only there; contents of comments (Internet Explorer's
    conditional ones too) and of `template` do not, except of a template that is shown (`shadowrootmode`).
    """
    page = Page(text, pages=pages, xml=xml, nesting=nesting)
    search, pos, end_of_text = _TAG.search, 0, len(text)
    while pos < end_of_text and (match := search(text, pos)):
        raw, name, rest = match.groups()
        pos = match.end()
        if name is not None:
            name = name.lower()
            read = _READERS.get(name)
            wanted = read is not None and (pages or name != "a" or "next" in rest)
            plain = "'" not in rest and rest.count('"') == 2 * rest.count('="')  # no ">" between quotes
            if plain and not wanted and not _interesting(rest):
                continue
            if plain and text.startswith(">", pos):
                attributes = _plain_attributes(rest)
            else:
                attributes, pos = _attributes(text, match.end(2), end_of_text)
            if attributes:
                if wanted and read is not None:
                    page.position = match.start()
                    read(page, attributes)
                if not _ANYWHERE.isdisjoint(attributes):
                    _read_anywhere(page, attributes, lazy=read not in _LAZY_READERS)
        elif raw is not None:
            pos = _read_raw(page, text, raw.lower(), match.end(1))
        else:
            end = _COMMENT_END.search(text, pos - 2)  # "<!-->" is a whole comment
            pos = end.end() if end else end_of_text
    return page


def _interesting(rest: str) -> bool:
    """Say whether attributes not yet parsed may hold one that loads something on any element."""
    rest = rest.lower()
    if "style=" in rest or "style =" in rest or "background" in rest:
        return True
    return "data-" in rest and _LAZY_NAME.search(rest) is not None


def _plain_attributes(rest: str) -> Attributes:
    """Read the attributes of a tag that has no surprises: the same as `_attributes`, in a third of the time."""
    found: Attributes = {}
    for name, quoted, bare in _PLAIN_ATTRIBUTE.findall(rest):
        found.setdefault(name.lower(), quoted or bare)
    return found


def _attributes(text: str, pos: int, end_of_text: int) -> tuple[Attributes, int]:
    """Read attributes from `pos` (behind the tag's name) to behind the tag's end; a tag without end is no tag."""
    found: Attributes = {}
    for match in _ATTRIBUTE.finditer(text, pos):
        close, name, double, single, unclosed, bare = match.groups()
        if close:
            return found, match.end()
        if unclosed or not name:
            break
        name = name.lower()
        if name not in found:
            found[name] = double or single or bare or ""
    return {}, end_of_text


def decode(value: str) -> str:
    """Decode the character references of an attribute's value (HTML §13.2.5.72 ff.).

    `&copy=` in a query stays what it is: a name without semicolon before "=" or a letter is not a reference.
    """
    return _REFERENCE.sub(_character, value) if "&" in value else value


def _character(match: re.Match[str]) -> str:
    found = match[0]
    if found[1] == "#":
        return _unescape(found) if len(found) < 12 else "�"
    if found.endswith("="):
        return found if not found.endswith(";=") else _NAMED.get(found[1:-1], found[:-1]) + "="
    return _NAMED.get(found[1:], found)


def _read_raw(page: Page, text: str, name: str, pos: int) -> int:
    """Read an element whose content is not markup, from behind its name; return where markup goes on."""
    attributes, start = _attributes(text, pos, len(text))
    if name == "plaintext":
        return len(text)
    if name == "template":
        return start if "shadowrootmode" in attributes else _template_end(text, start)
    if name == "iframe":
        _read_frame(page, attributes)
    closed = page.xml and text.endswith("/>", 0, start)
    end = None if closed else _RAW_END[name].search(text, start)
    stop = end.start() if end else start if closed else len(text)
    if name == "style":
        page.add_style(text[start:stop])
    elif name == "script":
        page.add(attributes.get("src") or attributes.get("data-src"), LinkKind.SCRIPT)
        if "ld+json" in attributes.get("type", "").lower():
            page.references += jsonld.scan(text[start:stop])
    return end.end() if end else stop


def _template_end(text: str, pos: int) -> int:
    depth = 1
    while depth and (match := _TEMPLATE_EDGE.search(text, pos)):
        depth += -1 if match[1] else 1
        pos = match.end()
    return pos if not depth else len(text)


def _read_anywhere(page: Page, attributes: Attributes, *, lazy: bool) -> None:
    """Read the attributes that load something on any element: styles, backgrounds, and what scripts load lazily.

    `lazy` is for elements that load nothing by themselves: there, a `data-src` must look like an image.
    """
    for name, value in attributes.items():
        if name not in _ANYWHERE:
            continue
        if name == "style":
            if "(" in value:
                page.add_style(decode(value))
        elif name == "background":
            page.add(value, LinkKind.IMAGE)
        elif name in _LAZY_SETS:
            page.add_set(value)
        elif name in _LAZY_BACKGROUNDS and "url(" in value:
            page.add_style(decode(value))
        elif name in _LAZY_BACKGROUNDS:
            if _plausible(value):
                page.add(value, LinkKind.IMAGE)
        elif lazy and _TYPE_IMAGE.search(value) and _plausible(value):
            page.add(value, LinkKind.IMAGE)


def _plausible(value: str) -> bool:
    """Say whether the value of a lazy-load attribute may be a reference: no placeholder, JSON, colour or sentence."""
    if len(value) > 8192 or not ("/" in value or "." in value) or any(sign in value for sign in "{}<[\n\t"):
        return False
    return " " not in value.strip() or _TYPE_IMAGE.search(value) is not None


def _lazy(page: Page, attributes: Attributes, kind: LinkKind) -> None:
    if not _LAZY.isdisjoint(attributes):
        for name, value in attributes.items():
            if name in _LAZY and _plausible(value):
                page.add(value, kind)


def _read_image(page: Page, attributes: Attributes) -> None:
    page.add(attributes.get("src"), LinkKind.IMAGE)
    page.add_set(attributes.get("srcset"))
    page.add(attributes.get("href") or attributes.get("xlink:href"), LinkKind.IMAGE)  # <image> of SVG
    _lazy(page, attributes, LinkKind.IMAGE)


def _read_source(page: Page, attributes: Attributes) -> None:
    kind = LinkKind.IMAGE if attributes.get("type", "").lower().startswith("image/") else LinkKind.MEDIA
    page.add(attributes.get("src"), kind)
    page.add_set(attributes.get("srcset"))
    _lazy(page, attributes, kind)


def _read_media(page: Page, attributes: Attributes) -> None:
    page.add(attributes.get("poster"), LinkKind.MEDIA)
    page.add(attributes.get("src"), LinkKind.MEDIA)
    _lazy(page, attributes, LinkKind.MEDIA)


def _read_frame(page: Page, attributes: Attributes) -> None:
    if "srcdoc" in attributes:
        if page.nesting < MAX_NESTING:
            inner = scan(decode(attributes["srcdoc"]), pages=page.pages, nesting=page.nesting + 1)
            page.references += inner.references
        return
    page.add(attributes.get("src"), LinkKind.FRAME)
    _lazy(page, attributes, LinkKind.FRAME)


def _read_object(page: Page, attributes: Attributes) -> None:
    kind = LinkKind.IMAGE if attributes.get("type", "").lower().startswith("image/") else LinkKind.FRAME
    page.add(attributes.get("data") or attributes.get("src"), kind)
    _lazy(page, attributes, kind)


def _read_input(page: Page, attributes: Attributes) -> None:
    if attributes.get("type", "").strip().lower() == "image":
        _read_image(page, attributes)


def _read_use(page: Page, attributes: Attributes) -> None:
    page.add(attributes.get("href") or attributes.get("xlink:href"), LinkKind.IMAGE)


def _read_base(page: Page, attributes: Attributes) -> None:
    if page.base is None and "href" in attributes:
        page.base = decode(attributes["href"])


def _read_anchor(page: Page, attributes: Attributes) -> None:
    following = "next" in attributes.get("rel", "").lower().split()
    page.add(attributes.get("href"), LinkKind.NEXT_PART if following else LinkKind.PAGE)


def _read_link(page: Page, attributes: Attributes) -> None:
    relations = set(attributes.get("rel", "").lower().split())
    href, content_type = attributes.get("href"), attributes.get("type", "").lower()
    if "stylesheet" in relations:
        page.add(href or attributes.get("data-href"), LinkKind.STYLE)
    elif not _ICONS.isdisjoint(relations):
        page.add(href, LinkKind.ICON)
    elif "modulepreload" in relations:
        page.add(href, LinkKind.SCRIPT)
    elif "preload" in relations:
        kind = _PRELOADED.get(attributes.get("as", "").strip().lower())
        if kind is not None:
            page.add(href, kind)
        page.add_set(attributes.get("imagesrcset"))
    elif "alternate" in relations and "oembed" in content_type:
        page.add(href, LinkKind.OEMBED)
    elif "image_src" in relations:
        page.add(href, LinkKind.PREVIEW)
    elif "next" in relations:
        page.add(href, LinkKind.NEXT_PART)
    elif page.pages and not _OTHER_PAGES.isdisjoint(relations):
        page.add(href, LinkKind.PAGE)


def _read_meta(page: Page, attributes: Attributes) -> None:
    content = attributes.get("content")
    if not content:
        return
    if attributes.get("http-equiv", "").strip().lower() == "refresh":
        _read_refresh(page, decode(content))
        return
    for name in ("property", "name", "itemprop"):
        key = attributes.get(name, "").strip().lower()
        if key in _PREVIEW:
            page.add(content, LinkKind.PREVIEW)
        elif key in _TILES:
            page.add(content, LinkKind.ICON)


def _read_refresh(page: Page, content: str) -> None:
    """Read the first `refresh`: FRAME when it is a redirect, since a reader sees only its target.

    PAGE when it is late, or meant for browsers without scripts (in `noscript`).
    """
    match = _REFRESH.match(content)
    if page.refreshed or match is None:
        return
    page.refreshed = True
    seconds, target = match[1], (match[2] or match[3] or match[4] or "").strip()
    soon = len(seconds) < 4 and int(seconds or "0") <= REDIRECT_SECONDS
    before = page.text[: page.position].lower()
    if before.rfind("<noscript") > before.rfind("</noscript"):
        soon = False
    if target and target[0] != "#":
        page.references.append((target, LinkKind.FRAME if soon else LinkKind.PAGE))


_READERS: dict[str, Callable[[Page, Attributes], None]] = {
    "a": _read_anchor,
    "area": _read_anchor,
    "amp-anim": _read_image,
    "amp-audio": _read_media,
    "amp-iframe": _read_frame,
    "amp-img": _read_image,
    "amp-video": _read_media,
    "audio": _read_media,
    "base": _read_base,
    "bgsound": _read_media,
    "embed": _read_object,
    "feimage": _read_use,
    "frame": _read_frame,
    "image": _read_image,
    "img": _read_image,
    "input": _read_input,
    "link": _read_link,
    "meta": _read_meta,
    "object": _read_object,
    "source": _read_source,
    "track": _read_media,
    "use": _read_use,
    "video": _read_media,
}
_LAZY_READERS = {_read_image, _read_source, _read_media, _read_frame, _read_object, _read_input}
