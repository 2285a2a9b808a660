"""References of a style sheet: `url()`, `@import`, `@font-face`, `image-set()` (CSS Syntax 3 §4, CSS Images 4 §2.4).

A tokenizer of what matters only: it knows comments, strings and escapes, not the grammar of rules. It takes time linear
in the length of the text.
"""

from __future__ import annotations

import re

from mirror.model import LinkKind

_SPACE = " \t\n\r\f"
# Each alternative begins with one letter, not a set: only then the search skips to its next place at full speed.
_TOKENS = (
    r"""/\*|"|'|@[iI][mM][pP][oO][rR][tT]|@[fF][oO][nN][tT]-[fF][aA][cC][eE]|@[nN][aA][mM][eE][sS][pP][aA][cC][eE]"""
    r"""|u[rR][lL]\(|U[rR][lL]\("""
)
_TOKEN = re.compile(_TOKENS)
_TOKEN_OR_SET = re.compile(_TOKENS + r"|i[mM][aA][gG][eE]-[sS][eE][tT]\(|I[mM][aA][gG][eE]-[sS][eE][tT]\(")
_IN_SET = re.compile(r"""/\*|["']|[uU][rR][lL]\(|[tT][yY][pP][eE]\(|[(){};]""")
_SPACES = re.compile(r"[ \t\n\r\f]*+")
_STRING_END = {'"': re.compile(r'["\n\r\f]'), "'": re.compile(r"['\n\r\f]")}
_NAME_CHARACTER = re.compile(r"[\w-]")
_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})(?:\r\n|[ \t\n\r\f])?|(\r\n|[\n\r\f])|(.))", re.DOTALL)


def scan(text: str) -> list[tuple[str, LinkKind]]:
    """List the references of a style sheet or of a `style` attribute, in order, as (reference, kind).

    `@import` gives STYLE, what stands in `@font-face` FONT, everything else IMAGE. Left out: fragments
    (`url(#mask)`), `data:`, the name in `@namespace`.
    """
    low = text.lower()
    sets = "image-set(" in low
    if not sets and "url(" not in low and "@import" not in low:
        return []
    return _Scanner(text).run(_TOKEN_OR_SET if sets else _TOKEN)


class _Scanner:
    """The text, the references so far, where the current `@font-face` block ends, whether a `)` may still come."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: list[tuple[str, LinkKind]] = []
        self.font_end = 0
        self.closes = True  # remembered, so that a million `url("` without an end cost one search, not a million

    def run(self, tokens: re.Pattern[str]) -> list[tuple[str, LinkKind]]:
        pos = 0
        while match := tokens.search(self.text, pos):
            piece, pos = match[0], match.end()
            if piece == "/*":
                pos = self.comment_end(pos)
            elif piece in "\"'":
                pos = self.string(pos, piece)[1]
            elif piece[0] == "@":
                pos = self.at_rule(piece[1:].lower(), pos)
            elif piece[-2] in "tT":
                pos = self.image_set(pos)
            elif match.start() and _NAME_CHARACTER.match(self.text, match.start() - 1):
                pass  # the end of a longer name
            else:
                value, pos = self.url(pos)
                self.add(value, LinkKind.FONT if match.start() < self.font_end else LinkKind.IMAGE)
        return self.found

    def add(self, reference: str, kind: LinkKind) -> None:
        if reference and reference[0] != "#" and reference[:5].lower() != "data:":
            self.found.append((reference, kind))

    def comment_end(self, pos: int) -> int:
        end = self.text.find("*/", pos)
        return len(self.text) if end < 0 else end + 2

    def at_rule(self, name: str, pos: int) -> int:
        if name == "font-face":
            if pos >= self.font_end:
                end = self.text.find("}", pos)
                self.font_end = len(self.text) if end < 0 else end
            return pos
        if name == "namespace":
            end = self.text.find(";", pos)
            return len(self.text) if end < 0 else end
        pos = self.space_end(pos)
        if self.text.startswith(("'", '"'), pos):
            value, pos = self.string(pos + 1, self.text[pos])
        elif self.text[pos : pos + 4].lower() == "url(":
            value, pos = self.url(pos + 4)
        else:
            return pos
        self.add(value, LinkKind.STYLE)
        return pos

    def space_end(self, pos: int) -> int:
        """Skip white space and comments."""
        while True:
            match = _SPACES.match(self.text, pos)
            pos = match.end() if match else pos
            if not self.text.startswith("/*", pos):
                return pos
            pos = self.comment_end(pos + 2)

    def string(self, pos: int, quote: str) -> tuple[str, int]:
        """Read a string whose opening quote ends at `pos`; an unescaped line end makes it bad, and its value empty."""
        text, start = self.text, pos
        while match := _STRING_END[quote].search(text, pos):
            pos = match.end()
            if not _escaped(text, match.start(), start):
                return (_unescape(text[start : match.start()]) if match[0] == quote else ""), pos
        return _unescape(text[start:]), len(text)

    def url(self, pos: int) -> tuple[str, int]:
        """Read what follows `url(`, quoted or not, to behind its closing parenthesis."""
        text = self.text
        match = _SPACES.match(text, pos)
        start = pos = match.end() if match else pos
        if text.startswith(("'", '"'), pos):
            value, pos = self.string(pos + 1, text[pos])
            start = pos
        else:
            value = None
        end = text.find(")", pos) if self.closes else -1
        while end >= 0 and _escaped(text, end, start):
            end = text.find(")", end + 1)
        self.closes = end >= 0
        if value is not None:  # without its parenthesis: read on behind the string
            return value, end + 1 if self.closes else pos
        end = end if self.closes else len(text)
        return _unescape(text[start:end].strip(_SPACE)), end + 1

    def image_set(self, pos: int) -> int:
        """Read the candidates of `image-set(`: strings and `url()`, but not the strings of `type()`."""
        depth, types = 1, 0
        while depth and (match := _IN_SET.search(self.text, pos)):
            piece, pos = match[0], match.end()
            if piece == "/*":
                pos = self.comment_end(pos)
            elif piece in "\"'":
                value, pos = self.string(pos, piece)
                if not types:
                    self.add(value, LinkKind.IMAGE)
            elif piece in "{};":
                break
            elif piece == ")":
                depth -= 1
                types = 0 if types > depth else types
            elif piece[0] in "uU":
                value, pos = self.url(pos)
                self.add(value, LinkKind.IMAGE)
            else:
                depth += 1
                types = types or (depth if piece != "(" else 0)
        return pos


def _escaped(text: str, pos: int, start: int) -> bool:
    """Say whether an odd number of backslashes stands before `pos`, looking back no further than `start`."""
    first = pos
    while first > start and text[first - 1] == "\\":
        first -= 1
    return (pos - first) % 2 == 1


def _unescape(value: str) -> str:
    return _ESCAPE.sub(_character, value) if "\\" in value else value


def _character(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[3] or ""
    code = int(match[1], 16)
    return chr(code) if 0 < code < 0xD800 or 0xDFFF < code < 0x110000 else "�"
