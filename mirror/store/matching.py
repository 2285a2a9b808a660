"""How a search compares words: two keys of each text, the query as FTS5 expressions, the snippet around a match.

The exact key keeps diacritics (NFC, without case, one placement of tone marks), the folded key drops them (đ too).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.errors import UsageError
from mirror.text.folding import fold, nfc, unify_tones

_TERM = re.compile(r'"[^"]*"|[^\s"]+')
_WORD = re.compile(r"\w+")
_MOST_TERMS = 32
_LONGEST_QUERY = 1000  # characters
_SNIPPET_WORDS = 28
_LEAD_WORDS = 6  # words shown before the first match
_SEARCHED = 200_000  # characters of a text that are looked through for its snippet


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The terms of a search (words or phrases) as exact keys, and whether any has a diacritic."""

    terms: tuple[str, ...]
    has_marks: bool

    def expressions(self) -> Iterator[tuple[str, bool]]:
        """FTS5 expressions in order of preference, and whether their hits are exact."""
        quoted = " AND ".join(f'"{term}"' for term in self.terms)
        yield f"{{raw}} : ({quoted})", True
        if not self.has_marks:
            yield f"{{folded}} : ({quoted})", False


def keys(text: str) -> tuple[str, str]:
    """The exact key and the folded key of a text."""
    exact = _exact(text)
    return exact, fold(exact)


def parse(query: str) -> Query:
    """Read what a person typed. Raises `UsageError` when there is no word in it, or far too many."""
    if len(query) > _LONGEST_QUERY:
        raise UsageError(f"the search is longer than {_LONGEST_QUERY} characters; give fewer words")
    query = query.encode("utf-8", "replace").decode().replace("\x00", " ")
    typed = (_exact(term.strip('"')) for term in _TERM.findall(query))
    terms = tuple(term for term in typed if any(map(str.isalnum, term)))
    if not terms:
        raise UsageError('nothing to search for; give one word or more: mirror search "đồng tâm"')
    if len(terms) > _MOST_TERMS:
        raise UsageError(f"more than {_MOST_TERMS} words; give fewer")
    return Query(terms=terms, has_marks=any(fold(term) != term for term in terms))


def snippet(text: str, query: Query) -> str:
    """The part of `text` with the most of the query's words, on one line, with … where it was cut."""
    key = _exact if query.has_marks else fold
    wanted = {word for term in query.terms for word in _WORD.findall(term)}
    spans: list[tuple[int, int]] = []
    matches: list[tuple[int, str]] = []  # number of the word, its key
    known: dict[str, str] = {}
    for match in _WORD.finditer(text, 0, _SEARCHED):
        word = match[0]
        folded = known.get(word)
        if folded is None:
            folded = known[word] = key(word)
        if folded in wanted:
            matches.append((len(spans), folded))
        spans.append(match.span())
    if not spans:
        return ""
    first = max(0, _best(matches) - _LEAD_WORDS)
    last = min(len(spans), first + _SNIPPET_WORDS) - 1
    part = " ".join(text[spans[first][0] : spans[last][1]].split())
    return ("… " if first else "") + part + (" …" if spans[last][1] < len(text.rstrip()) else "")


def _best(matches: list[tuple[int, str]]) -> int:
    """The number of the word at which the window with the most different words starts."""
    best, most, start = (matches[0][0] if matches else 0), 0, 0
    inside: dict[str, int] = {}
    for at, word in matches:
        inside[word] = inside.get(word, 0) + 1
        while at - matches[start][0] >= _SNIPPET_WORDS - _LEAD_WORDS:
            left = matches[start][1]
            inside[left] -= 1
            if not inside[left]:
                del inside[left]
            start += 1
        if len(inside) > most:
            best, most = matches[start][0], len(inside)
    return best


def _exact(text: str) -> str:
    return unify_tones(nfc(nfc(text).casefold()))
