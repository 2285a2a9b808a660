"""Normalise, fold and compare Vietnamese text: NFC in linear time, the search key, one tone placement.

Source: the takedown design page, "Vietnamese"; Unicode Standard Annex 15 (normal forms, stream-safe text).
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_GRAPHEME_JOINER = "\u034f"
_LONGEST_MARK_RUN = 30  # UAX 15 §13: no real text has longer runs of combining marks
_SHORT = 1000  # characters; below this a quadratic sort of marks costs nothing


def nfc(text: str) -> str:
    """Return the NFC form, in linear time on hostile text.

    The sorting of combining marks is quadratic in the length of a run of marks, so runs of more than 30 are first
    broken by U+034F, as the stream-safe text process does (UAX 15 §13).
    """
    return unicodedata.normalize("NFC", _stream_safe(text))


def fold(text: str) -> str:
    """Return the search key: without case, accents, tones, and with đ as d; `dong tam` finds `Đồng Tâm`."""
    decomposed = unicodedata.normalize("NFD", _stream_safe(text.casefold()))
    bare = "".join(filter(_is_kept, decomposed)) if not decomposed.isascii() else decomposed
    return unicodedata.normalize("NFC", bare.replace("đ", "d"))


def unify_tones(text: str) -> str:
    """Move tone marks of oa, oe, uy that end a syllable to the old place (hoá → hóa, thuý → thúy); case is kept.

    `text` is NFC. `quý` has a single form and stays; so does every syllable with a final consonant (hoàn, huỳnh).
    """
    if text.isascii():
        return text
    return _NEW_PLACE.sub(lambda match: _OLD_OF_NEW[match[0]], text)


def _stream_safe(text: str) -> str:
    if len(text) < _SHORT or text.isascii():
        return text
    return _FOREIGN_RUN.sub(lambda run: _long_mark_runs().sub(lambda marks: marks[0] + _GRAPHEME_JOINER, run[0]), text)


# Cheap to find, and marks lie only in these: letters of other scripts, one after the other.
_FOREIGN_RUN = re.compile(f"[\u0300-\U0010ffff]{{{_LONGEST_MARK_RUN + 1},}}")


@cache
def _long_mark_runs() -> re.Pattern[str]:
    """Match 30 combining marks in a row that another one follows. All marks lie in the first two planes."""
    marks = [chr(code) for code in range(0x300, 0x20000) if unicodedata.combining(chr(code))]
    near = "".join(mark for mark in marks if mark < "\U00010000")
    far = "".join(mark for mark in marks if mark >= "\U00010000")
    mark = f"(?:[{near}]|[{far}])"  # two classes, because the engine has a fast table for the first plane only
    return re.compile(f"{mark}{{{_LONGEST_MARK_RUN}}}(?={mark})")


def _is_kept(char: str) -> bool:
    return char < "\u0300" or (char != _GRAPHEME_JOINER and not unicodedata.combining(char))


def _tone_places() -> dict[str, str]:
    """Map the new-style spelling of each toned pair, in every case, to the old one."""
    places: dict[str, str] = {}
    for first, second in ("oa", "oe", "uy"):
        for tone in "\u0300\u0301\u0309\u0303\u0323":
            for one in (first, first.upper()):
                for two in (second, second.upper()):
                    new = unicodedata.normalize("NFC", one + two + tone)
                    places[new] = unicodedata.normalize("NFC", one + tone + two)
    return places


_OLD_OF_NEW = _tone_places()
_NEW_PLACE = re.compile(
    "(?:(?<![qQ])" + "|(?<![qQ])".join(sorted(_OLD_OF_NEW)) + r")(?![^\W\d_]|[\u0300-\u036f])",
)
