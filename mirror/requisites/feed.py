"""Items and media of feeds: RSS 0.9x, 1.0, 2.0 with Media RSS and iTunes, Atom (RFC 4287, RFC 5005), JSON Feed 1.1.

XML of foreign origin goes through expat alone: no external file is ever opened, a document that declares an entity is
read up to that place and no further, and so is one that is not well-formed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from xml.parsers import expat

from mirror.formats import urls
from mirror.model import LinkKind
from mirror.requisites import jsonld

MAX_TEXT = 8192
"""Characters kept of an element's text: no URL we fetch is longer."""

MAX_DEPTH = 256


class _Stop(Exception):
    """The rest of the document is not read: it declares an entity or nests too deep."""


class XmlReader(ABC):
    """A reader of XML without a tree: `start` and `end` are called with local names, lower-case, without name spaces.

    `path` holds the names of the open elements, the current one last (in `end` too).
    """

    def __init__(self) -> None:
        self.path: list[str] = []
        self.references: dict[tuple[str, LinkKind], None] = {}
        self._text: list[str] = []
        self._room = 0

    @abstractmethod
    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    @abstractmethod
    def end(self, name: str, text: str) -> None: ...

    def add(self, reference: str | None, kind: LinkKind) -> None:
        reference = (reference or "").strip()
        if reference and reference[0] != "#":
            self.references[reference, kind] = None

    def read(self, text: str) -> bool:
        """Read a document; say whether it was read to its end. What was found before an error stays found."""
        parser = expat.ParserCreate(encoding="utf-8")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.EntityDeclHandler = _refuse
        parser.buffer_text = True
        try:
            parser.Parse(text.lstrip("\ufeff \t\r\n").encode("utf-8", "replace"), True)
        except (expat.ExpatError, _Stop):
            return False
        return True

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.path) >= MAX_DEPTH:
            raise _Stop
        name = name.rpartition(":")[2].lower()
        self.path.append(name)
        self._text, self._room = [], MAX_TEXT
        self.start(name, attributes)

    def _end(self, name: str) -> None:
        self.end(self.path[-1], "".join(self._text).strip())
        self.path.pop()
        self._text, self._room = [], 0  # text behind a child is nobody's

    def _data(self, data: str) -> None:
        if self._room > 0:
            self._text.append(data[: self._room])
            self._room -= len(data)


def _refuse(*declaration: object) -> None:
    raise _Stop


def scan(text: str, *, base: urls.Url) -> list[tuple[str, LinkKind]]:
    """List the references of an XML feed in document order.

    FEED_ITEM for each item's page, IMAGE and MEDIA for enclosures, ICON for the feed's own, NEXT_PART for the next page
    of a paged or archived feed, PAGE for the site. `base` is the feed's URL, for `xml:base`. The HTML inside items is
    not searched: the items' own pages hold it.
    """
    reader = _FeedReader(base)
    reader.read(text)
    return list(reader.references)


class _FeedReader(XmlReader):
    def __init__(self, base: urls.Url) -> None:
        super().__init__()
        self.bases: list[urls.Url | None] = [base]
        self.rebased = False
        self.item_link = False

    def add(self, reference: str | None, kind: LinkKind) -> None:
        base = self.bases[-1]
        if self.rebased and reference and base is not None:
            joined = urls.join(base, reference.strip())
            reference = joined.href if joined else None
        super().add(reference, kind)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        base = self.bases[-1]
        if "xml:base" in attributes and base is not None:
            base = urls.join(base, attributes["xml:base"]) or base
            self.rebased = True
        self.bases.append(base)
        if name in ("item", "entry"):
            self.item_link = False
        elif name == "link" and "href" in attributes:
            self.atom_link(attributes)
        elif name in ("enclosure", "content", "thumbnail", "player"):
            in_entry = "entry" in self.path
            if name == "content" and "src" in attributes and in_entry:
                self.add(attributes["src"], LinkKind.FEED_ITEM)
            elif name != "player":
                self.add(attributes.get("url"), _media_kind(attributes, image=name == "thumbnail"))
        elif name in ("image", "logo", "icon") and "href" in attributes:
            self.add(attributes["href"], LinkKind.IMAGE)  # itunes:image

    def atom_link(self, attributes: dict[str, str]) -> None:
        inside = "entry" in self.path or "item" in self.path
        relation, href = attributes.get("rel", "alternate").lower(), attributes["href"]
        if relation == "enclosure":
            self.add(href, _media_kind(attributes, image=False))
        elif relation == "alternate":
            self.add(href, LinkKind.FEED_ITEM if inside else LinkKind.PAGE)
        elif relation in ("next", "prev-archive") and not inside:
            self.add(href, LinkKind.NEXT_PART)

    def end(self, name: str, text: str) -> None:
        parent = self.path[-2] if len(self.path) > 1 else ""
        if name == "link" and parent == "item":
            self.add(text, LinkKind.FEED_ITEM)
            self.item_link = self.item_link or bool(text)
        elif name == "link" and parent == "channel":
            self.add(text, LinkKind.PAGE)
        elif name == "guid" and parent == "item" and not self.item_link and text.startswith(("http://", "https://")):
            self.add(text, LinkKind.FEED_ITEM)  # isPermaLink; an opaque id does not begin so
        elif name == "url" and parent == "image":
            self.add(text, LinkKind.IMAGE)
        elif name in ("icon", "logo") and parent == "feed":
            self.add(text, LinkKind.ICON)
        self.bases.pop()


def _media_kind(attributes: dict[str, str], *, image: bool) -> LinkKind:
    image = image or attributes.get("type", "").lower().startswith("image/") or attributes.get("medium") == "image"
    return LinkKind.IMAGE if image else LinkKind.MEDIA


def is_json_feed(value: object) -> bool:
    """Say whether parsed JSON is a JSON Feed (any version)."""
    if not isinstance(value, dict):
        return False
    version = value.get("version")
    return isinstance(version, str) and "jsonfeed.org/version" in version


def scan_json(text: str) -> list[tuple[str, LinkKind]]:
    """List the references of a JSON Feed in document order; kinds as `scan`. Not a JSON Feed: an empty list."""
    value = jsonld.read(text)
    return _json_references(value) if is_json_feed(value) else []


def _json_references(feed: dict[str, Any]) -> list[tuple[str, LinkKind]]:
    found: dict[tuple[str, LinkKind], None] = {}

    def add(holder: dict[str, Any], key: str, kind: LinkKind) -> None:
        if isinstance(value := holder.get(key), str) and value.strip():
            found[value.strip(), kind] = None

    add(feed, "home_page_url", LinkKind.PAGE)
    add(feed, "icon", LinkKind.ICON)
    add(feed, "favicon", LinkKind.ICON)
    for item in _objects(feed.get("items")):
        add(item, "url", LinkKind.FEED_ITEM)
        add(item, "external_url", LinkKind.PAGE)
        add(item, "image", LinkKind.IMAGE)
        add(item, "banner_image", LinkKind.IMAGE)
        for attachment in _objects(item.get("attachments")):
            mime = attachment.get("mime_type")
            image = isinstance(mime, str) and mime.lower().startswith("image/")
            add(attachment, "url", LinkKind.IMAGE if image else LinkKind.MEDIA)
    add(feed, "next_url", LinkKind.NEXT_PART)
    return list(found)


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
