"""Read a page's main text, title, author, date, language and links. The only importer of trafilatura.

Slow to import and, on hostile pages, slow to run: `mirror.text.pool` runs it in a child process. The same bytes give
the same extract: no clock is read (dates are judged against the time of capture), no memory of earlier pages is used.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

import htmldate.extractors
import trafilatura
import trafilatura.metadata
import trafilatura.utils
from lxml import etree

from mirror.errors import MalformedError
from mirror.formats import urls
from mirror.text import syllable
from mirror.text.encoding import Basis, Decoded, decode, known_label
from mirror.text.folding import nfc
from mirror.text.wire import Extract

__all__ = ["Extract", "extract"]

_MOST_LINKS = 20_000
_LONGEST_TITLE = 2_000  # characters
_EARLIEST = date(1995, 1, 1)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)  # stands for "now" when the time of capture is unknown
_GUESS_SAMPLE = 4096  # bytes on each side given to the charset detector
_LIBRARY_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    etree.LxmlError,
)
"""What the libraries below raise on documents they did not foresee; memory and signals are not among them."""


def extract(html: bytes, *, url: str, http_charset: str | None, captured: datetime | None) -> Extract:
    """Extract from one HTML document, already transfer- and content-decoded.

    `url` is where it was fetched (absolute, http or https), `http_charset` the charset that Content-Type declared,
    `captured` the time of capture: no date after the day that follows it is believed, and relative dates never are.
    A document without main text gives an empty `text`.

    Raises `MalformedError` when the parser or the extractor gives up, `UrlError` when `url` is none, `MemoryError`.
    """
    base = urls.parse_href(url)
    decoded = _decode(html, http_charset)
    try:
        with _Swallowed() as swallowed:
            found = _extract(decoded, base, captured or _LATEST)
        swallowed.raise_what_matters()
        return found
    except _LIBRARY_FAULTS as e:
        raise MalformedError(
            f"the extractor gave up on this page ({type(e).__name__}); the capture is whole, only its text is missing"
        ) from e


def _extract(decoded: Decoded, base: urls.Url, captured: datetime) -> Extract:
    _forget_earlier_pages()
    tree = trafilatura.load_html(decoded.text) if decoded.text.strip() else None
    title = author = day = None
    text, language = "", None
    links: tuple[str, ...] = ()
    if tree is not None:
        links = _links(tree, base)
        declared_language = _declared_language(tree)
        about = trafilatura.metadata.extract_metadata(tree, base.href, _date_rules(captured))
        title, author = _line(about.title), _line(about.author)
        day = _day(about.date, base.href, captured)
        body = trafilatura.bare_extraction(tree, url=base.href, include_comments=False)
        text = _clean(getattr(body, "text", None) or "")  # None: no main text
        language = _language(declared_language, text or title or "")
    return Extract(
        title=title,
        author=author,
        date=day,
        language=language,
        text=text,
        links=links,
        tool="trafilatura",
        tool_version=trafilatura.__version__,
        encoding=decoded.encoding,
    )


class _Swallowed(logging.Handler):
    """Collects the exceptions that trafilatura catches and only logs: want of memory would look like an empty page."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._errors: list[BaseException] = []
        self._logger = logging.getLogger("trafilatura")

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        values = record.args if isinstance(record.args, tuple) else ()
        self._errors += [value for value in values if isinstance(value, BaseException)]

    def raise_what_matters(self) -> None:
        """Raise the want of memory, or the parser's refusal: it repairs every syntax, so that is no empty page."""
        for error in self._errors:
            if isinstance(error, etree.XMLSyntaxError) and error.code == etree.ErrorTypes.ERR_NO_MEMORY:
                raise MemoryError from error
            if isinstance(error, MemoryError | etree.XMLSyntaxError):
                raise error


def _forget_earlier_pages() -> None:
    """Drop the date parser, which tries the languages of earlier pages first, and the answers it gave."""
    htmldate.extractors.get_external_parser.cache_clear()
    htmldate.extractors.try_date_expr.cache_clear()


# --- encoding -------------------------------------------------------------------------------------------------------


def _decode(html: bytes, http_charset: str | None) -> Decoded:
    """Decode; undeclared bytes that are neither UTF-8 nor Vietnamese get the guess of trafilatura's detector."""
    decoded = decode(html, http_charset=http_charset)
    if decoded.basis is not Basis.LAST_RESORT:
        return decoded
    first = next((match.start() for match in re.finditer(rb"[\x80-\xff]", html)), 0)
    start = max(0, first - _GUESS_SAMPLE)
    for guess in trafilatura.utils.detect_encoding(html[start : first + _GUESS_SAMPLE]):
        name = known_label(guess.replace("_", "-"))
        if name is not None and name != decoded.encoding:
            return decode(html, http_charset=name)
        if name is not None:
            break
    return decoded


def _line(text: Any) -> str | None:
    """Return one line of text, or None for nothing."""
    return _clean(" ".join(text.split()))[:_LONGEST_TITLE] or None if isinstance(text, str) else None


def _clean(text: str) -> str:
    return nfc(text.encode("utf-8", "replace").decode("utf-8"))


# --- links ----------------------------------------------------------------------------------------------------------


def _links(tree: Any, page: urls.Url) -> tuple[str, ...]:
    """Return the targets of `<a href>` as absolute URLs, in document order, once each."""
    base_element = tree.find(".//base[@href]")
    base = (urls.join(page, base_element.get("href")) if base_element is not None else None) or page
    found: dict[str, None] = {}
    for element in tree.iter("a"):
        target = urls.join(base, element.get("href") or "#")
        if target is not None and (element.get("href") or "#").lstrip()[:1] != "#":
            found[target.href] = None
            if len(found) == _MOST_LINKS:
                break
    return tuple(found)


# --- dates ----------------------------------------------------------------------------------------------------------


def _date_rules(captured: datetime) -> dict[str, Any]:
    return {"original_date": True, "extensive_search": True, "max_date": _last_day(captured).isoformat()}


def _last_day(captured: datetime) -> date:
    """The day after the capture in UTC: in some time zone the page was written on it."""
    return captured.astimezone(UTC).date() + timedelta(days=1)


def _day(found: Any, url: str, captured: datetime) -> str | None:
    """Return the page's date as YYYY-MM-DD; the time in its URL goes before a mere year (htmldate's 1 January)."""
    day = found if isinstance(found, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", found) else None
    if day is None or day.endswith("-01-01"):
        in_url = _day_in_url(url, _last_day(captured))
        return in_url.isoformat() if in_url is not None else day
    return day


_STAMP = re.compile(r"-(\d{14}|\d{16,18})(?:\.s?html?|\.[a-z]{2,4})?/?\Z", re.ASCII)
_STAMP_FORMS = (
    re.compile(r"(?P<m>\d\d)(?P<d>\d\d)(?P<y>20\d\d)(?P<clock>\d{6})"),  # MMDDYYYY, as rfa.org writes it
    re.compile(r"(?P<y>20\d\d)(?P<m>\d\d)(?P<d>\d\d)(?P<clock>\d{6})(?:\d{3})?"),
    re.compile(r"(?P<y>20\d\d)(?P<m>\d)(?P<d>\d\d)(?P<clock>\d{6})\d{3}"),  # no zero before the month or the day
    re.compile(r"(?P<y>20\d\d)(?P<m>\d\d)(?P<d>\d)(?P<clock>\d{6})\d{3}"),
    re.compile(r"\d{3}(?P<y>\d\d)(?P<m>\d\d)(?P<d>\d\d)(?P<clock>\d{6})\d{3}"),  # a site's number, then YYMMDD
)


def _day_in_url(url: str, last: date) -> date | None:
    """Return the day of the time stamp that ends the path (content systems of news sites); None if two can be read."""
    stamp = _STAMP.search(url.partition("?")[0][-64:])
    if stamp is None:
        return None
    days = {day for form in _STAMP_FORMS if (match := form.fullmatch(stamp[1])) and (day := _stamped(match))}
    plausible = {day for day in days if _EARLIEST <= day <= last}
    return plausible.pop() if len(plausible) == 1 else None


def _stamped(match: re.Match[str]) -> date | None:
    clock = match["clock"]
    if not (int(clock[:2]) < 24 and int(clock[2:4]) < 60 and int(clock[4:]) < 60):
        return None
    year = int(match["y"])
    try:
        return date(year if year > 99 else 2000 + year, int(match["m"]), int(match["d"]))
    except ValueError:  # no such day: this reading of the digits is wrong
        return None


# --- language -------------------------------------------------------------------------------------------------------

_LANGUAGE = re.compile(r"\s*([A-Za-z]{2,3})(?![A-Za-z])")
_LANGUAGE_SAMPLE = 20_000  # characters of text


def _declared_language(tree: Any) -> str | None:
    candidates = [tree.get("lang"), tree.get("xml:lang"), tree.get("{http://www.w3.org/XML/1998/namespace}lang")]
    for element in tree.iterfind(".//meta[@content]"):
        name = (element.get("http-equiv") or element.get("property") or "").lower()
        if name in ("content-language", "og:locale"):
            candidates.append(element.get("content"))
    for value in candidates:
        if value and (match := _LANGUAGE.match(value)):
            return match[1].lower()
    return None


def _language(declared: str | None, text: str) -> str | None:
    """Return `vi` for Vietnamese text whatever the template declares, else what is declared.

    Some 80 % of Vietnamese words carry a letter beyond ASCII; 30 % of all words, most of them syllables, is proof.
    """
    words = text[:_LANGUAGE_SAMPLE].split()
    score = syllable.score(words)
    if score.valid >= 3 and score.share >= 0.8 and score.valid * 10 >= len(words) * 3:
        return "vi"
    return declared
