"""Image candidates of `srcset` and `imagesrcset` (HTML Living Standard, "parse a srcset attribute")."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[ \t\n\r\f,]*+")
_WORD = re.compile(r"[^ \t\n\r\f]++")
_COMMA_OR_PARENTHESIS = re.compile(r"[,(]")
_PIXELS = re.compile(r"[0-9]+")
_DENSITY = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def parse(value: str) -> list[str]:
    """List the references of all candidates, in order; impossible descriptors rule one out, as in a browser.

    `value` is the attribute's value with its character references decoded. Takes time linear in its length.
    """
    found = []
    pos, size = 0, len(value)
    while (pos := _end(_SEPARATORS, value, pos)) < size:
        end = _end(_WORD, value, pos)
        reference, pos = value[pos:end], end
        descriptors: list[str] = []
        if reference.endswith(","):
            reference = reference.rstrip(",")
        else:
            end = _descriptors_end(value, pos)
            descriptors, pos = value[pos:end].split(), end + 1
        if reference and _possible(descriptors):
            found.append(reference)
    return found


def _end(pattern: re.Pattern[str], value: str, pos: int) -> int:
    match = pattern.match(value, pos)
    return match.end() if match else pos


def _descriptors_end(value: str, pos: int) -> int:
    """Find the comma that ends the descriptors which start at `pos`; a comma in parentheses does not."""
    while match := _COMMA_OR_PARENTHESIS.search(value, pos):
        if match[0] == ",":
            return match.start()
        pos = value.find(")", match.end()) + 1
        if not pos:
            break
    return len(value)


def _possible(descriptors: list[str]) -> bool:
    """Say whether the descriptors agree with each other: one width, one density, or a width with a height."""
    kinds = ""
    for descriptor in descriptors:
        number, kind = descriptor[:-1], descriptor[-1]
        if kind in "wh":
            valid = _PIXELS.fullmatch(number) is not None and number.strip("0") != ""
        else:
            valid = kind == "x" and _DENSITY.fullmatch(number) is not None and not number.startswith("-")
        if not valid or kind in kinds:
            return False
        kinds += kind
    return "x" not in kinds or kinds == "x"
