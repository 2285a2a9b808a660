"""Media named by JSON inside or beside a page: JSON-LD with schema.org's words, and oEmbed 1.0 answers.

Both are foreign and may be hostile: depth and number of values are bounded, broken JSON is an empty list.
"""

from __future__ import annotations

import json
from typing import Any

from mirror.model import LinkKind

MAX_CHARACTERS = 1 << 20
MAX_VALUES = 20_000

_MEDIA_KEYS = frozenset({"image", "thumbnailUrl", "thumbnail", "contentUrl", "logo", "primaryImageOfPage"})
_URL_KEYS = ("url", "contentUrl", "thumbnailUrl")


def scan(text: str) -> list[tuple[str, LinkKind]]:
    """List the media of a JSON-LD block, as (reference, PREVIEW) in order: image, thumbnail, contentUrl, logo."""
    found: dict[tuple[str, LinkKind], None] = {}
    # Each entry: a value, and whether a key above it names media. A stack: depth costs no recursion.
    stack: list[tuple[Any, bool]] = [(read(text), False)]
    for _ in range(MAX_VALUES):
        if not stack:
            break
        value, media = stack.pop()
        if isinstance(value, str):
            if media and value:
                found[value, LinkKind.PREVIEW] = None
        elif isinstance(value, list):
            stack += [(one, media) for one in reversed(value[:MAX_VALUES])]
        elif isinstance(value, dict):
            if media or value.get("@type") == "ImageObject":
                references = [value.get(key) for key in _URL_KEYS]
                found.update(((one, LinkKind.PREVIEW), None) for one in references if isinstance(one, str) and one)
            stack += [
                (one, key in _MEDIA_KEYS)
                for key, one in reversed(value.items())
                if isinstance(one, (dict, list)) or key in _MEDIA_KEYS
            ]
    return list(found)


def oembed(answer: object) -> list[tuple[str, LinkKind]]:
    """List what an oEmbed answer (parsed JSON) points at: its thumbnail and, for a photo, the photo (oEmbed §2.3.4)."""
    if not isinstance(answer, dict) or answer.get("type") not in ("photo", "video", "rich", "link"):
        return []
    keys = ("url", "thumbnail_url") if answer["type"] == "photo" else ("thumbnail_url",)
    return [(one, LinkKind.PREVIEW) for key in keys if isinstance(one := answer.get(key), str) and one]


def read(text: str) -> Any:
    """Parse JSON of foreign origin; broken, too long (over `MAX_CHARACTERS`) or too deep gives `None`."""
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        return json.loads(text.strip().removeprefix("\ufeff"), strict=False)
    except (ValueError, RecursionError):  # not JSON, a number of thousands of digits, or brackets without end
        return None
