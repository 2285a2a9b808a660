"""Accept a report: the link a person pasted becomes a clean URL, and nothing about the person is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from mirror.errors import MirrorError, UrlError
from mirror.formats import urls
from mirror.model import Report
from mirror.platforms import tracking

_MAX_ROUNDS = 8
_BLANK = " \t\r\n\x0b\x0c\xa0\u200b\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line of a list that is no link we can capture. The line itself is not repeated: it may hold a secret."""

    number: int  # counted from 1, blank lines and comments included
    reason: str  # one sentence


def accept(text: str, *, now: datetime) -> Report:
    """Clean a pasted link and round the time down to the hour (UTC), so that it does not single out a reporter.

    Accepting the cleaned URL again changes nothing. Raises `UrlError` when the link cannot be captured.
    """
    removed: dict[str, None] = {}
    for _ in range(_MAX_ROUNDS):  # dropping the end of a link can bare punctuation, and the other way round
        url, names = tracking.strip(urls.parse(text))
        removed.update(dict.fromkeys(names))
        if url.href == text:
            return Report(url=text, removed=tuple(removed), received=_hour(now))
        text = url.href
    raise UrlError("The link does not come clean: open it and copy the address of the page itself.")


def read_list(lines: Iterable[str], *, now: datetime) -> Iterator[Report | BadLine]:
    """Accept one link a line, as they come; blank lines and lines that start with # are skipped.

    A line that is refused is reported with its number and reason, and the next one is read. Byte order marks and
    CRLF are tolerated.
    """
    for number, line in enumerate(lines, start=1):
        text = line.strip(_BLANK)
        if not text or text.startswith("#"):
            continue
        try:
            yield accept(text, now=now)
        except UrlError as e:
            yield BadLine(number=number, reason=str(e))


def _hour(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise MirrorError("The time of a report needs a time zone: pass an aware time.")
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
