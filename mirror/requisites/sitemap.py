"""Pages of a site map: `urlset`, `sitemapindex`, plain text (sitemaps.org protocol 0.9; image and video extensions)."""

from __future__ import annotations

from mirror.model import LinkKind
from mirror.requisites.feed import XmlReader

_KINDS = {
    ("url", "loc"): LinkKind.SITEMAP_ITEM,
    ("sitemap", "loc"): LinkKind.SITEMAP_ITEM,
    ("image", "loc"): LinkKind.IMAGE,
    ("video", "thumbnail_loc"): LinkKind.IMAGE,
    ("video", "content_loc"): LinkKind.MEDIA,
}


def scan(text: str) -> list[tuple[str, LinkKind]]:
    """List the references of an XML site map or site map index in document order; broken XML up to the error."""
    reader = _SitemapReader()
    reader.read(text)
    return list(reader.references)


class _SitemapReader(XmlReader):
    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "link" and attributes.get("rel") == "alternate":
            self.add(attributes.get("href"), LinkKind.PAGE)  # the same page in another language

    def end(self, name: str, text: str) -> None:
        kind = _KINDS.get((self.path[-2], name)) if len(self.path) > 1 else None
        if kind is not None:
            self.add(text, kind)


def scan_text(text: str) -> list[tuple[str, LinkKind]]:
    """List the URLs of a plain-text site map, one a line; other lines are left out."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return list(dict.fromkeys((line, LinkKind.SITEMAP_ITEM) for line in lines if is_absolute(line)))


def is_absolute(line: str) -> bool:
    """Say whether a line is one http(s) URL and nothing else."""
    return line[:8].lower().startswith(("http://", "https://")) and len(line.split()) == 1
