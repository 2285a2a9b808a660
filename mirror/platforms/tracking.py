"""Remove from a reported URL what says who clicked or shared it.

The rules are data (`tracking.json`, dated, replaceable): names of tracking parameters that hold everywhere, names that
hold on one platform, parameters that name the object and are never touched, and redirectors whose links lead through a
counter. Host and path rules match in full on the parsed parts, never on the whole string.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from mirror.errors import MalformedError, UrlError
from mirror.formats import urls
from mirror.formats.urls import Url

FORMAT = "mirror-tracking/1"
MAX_REDIRECTORS = 5
"""Deepest nesting of redirector links that is taken apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """A set of parameter names in lower case; those that ended with a star stand for any rest."""

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    def find(self, name: str) -> str | None:
        """Return the rule that `name` (lower case) falls under, or None."""
        if name in self.exact:
            return name
        prefix = next((prefix for prefix in self.prefixes if name.startswith(prefix)), None)
        return None if prefix is None else prefix + "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    id: str
    host: re.Pattern[str]
    strip: Names
    keep: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirector:
    host: re.Pattern[str]
    path: re.Pattern[str]
    parameters: tuple[str, ...]  # in order of preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    version: str  # date of the rules, YYYY-MM-DD, with a suffix when there are several a day
    strip: Names
    path_parameters: re.Pattern[str]
    platforms: tuple[Platform, ...]
    redirectors: tuple[Redirector, ...]


def strip(url: Url, rules: Rules | None = None) -> tuple[Url, tuple[str, ...]]:
    """Take redirector links apart and drop tracking parameters; order and bytes of the others stay.

    Returns the cleaned URL and what was removed: names of parameters (never their values) and hosts of redirectors.
    Doing it twice changes nothing. `rules` default to those shipped with the package.
    Raises `UrlError` when redirectors are nested deeper than `MAX_REDIRECTORS` or lead to a link that is refused.
    """
    rules = rules or shipped_rules()
    hosts: list[str] = []
    while (target := _target(url, rules)) is not None:
        if len(hosts) == MAX_REDIRECTORS:
            raise UrlError("The link leads through too many redirectors: open it and give the page's own address.")
        hosts.append(url.host)
        url = target
    path, in_path = _strip_path(url.path, rules)
    query, in_query = _strip_query(url, rules)
    if in_path or in_query:
        url = Url(scheme=url.scheme, host=url.host, port=url.port, path=path, query=query)
    return url, tuple(dict.fromkeys((*hosts, *in_path, *in_query)))


def load(data: bytes) -> Rules:
    """Read a rules file; raise `MalformedError` with the place."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise MalformedError("not JSON: reinstall Mirror or fetch the rules again", "tracking rules") from e
    if _field(tree, "format", str) != FORMAT:
        raise MalformedError(f"not in the format {FORMAT}: update Mirror or fetch the rules again", "tracking rules")
    path_parameters = "|".join(re.escape(name) for name in _texts(tree, "path_parameters")) or "(?!)"
    return Rules(
        version=_field(tree, "version", str),
        strip=_names(tree, "strip"),
        path_parameters=re.compile(rf";({path_parameters})=[^;/]*", re.IGNORECASE),
        platforms=tuple(
            Platform(
                id=_field(entry, "id", str),
                host=_pattern(entry, "host"),
                strip=_names(entry, "strip"),
                keep=_names(entry, "keep"),
            )
            for entry in _field(tree, "platforms", list)
        ),
        redirectors=tuple(
            Redirector(
                host=_pattern(entry, "host"),
                path=_pattern(entry, "path"),
                parameters=tuple(_texts(entry, "parameters")),
            )
            for entry in _field(tree, "redirectors", list)
        ),
    )


@cache
def shipped_rules() -> Rules:
    """Read the rules that came with the package, once."""
    return load(Path(__file__).with_name("tracking.json").read_bytes())


# ---- redirectors

_ABSOLUTE = re.compile(r"https?:[/\\]", re.IGNORECASE)


def _target(url: Url, rules: Rules) -> Url | None:
    if not url.query:
        return None
    wanted = [
        name
        for rule in rules.redirectors
        if rule.host.fullmatch(url.host) and rule.path.fullmatch(url.path)
        for name in rule.parameters
    ]
    if not wanted:
        return None
    values: dict[str, str] = {}
    for parameter in url.query.split("&"):
        name, _, value = parameter.partition("=")
        values.setdefault(_plain_name(name), value)
    for name in wanted:
        text = _value(values.get(name, ""))
        if _ABSOLUTE.match(text):
            return urls.parse_href(text)
        if text.startswith("/"):
            return urls.join(url, text)
    return None


def _value(raw: str) -> str:
    """Undo one layer of percent-escapes; what is not ASCII stays escaped, so that no byte is lost.

    A plus sign stays: a link inside a link has its spaces as %20 already.
    """
    return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in unquote_to_bytes(raw))


# ---- parameters

_AMP = re.compile(r"\A(?:amp;)+")
_PRINTABLE_NAME = re.compile(r"[\w.$\[\]-]{1,40}", re.ASCII)


def _strip_path(path: str, rules: Rules) -> tuple[str, list[str]]:
    """Drop session ids that are written as a parameter of a path segment (`;jsessionid=…`)."""
    names: list[str] = [match[1].lower() for match in rules.path_parameters.finditer(path)]
    return (rules.path_parameters.sub("", path), names) if names else (path, names)


def _strip_query(url: Url, rules: Rules) -> tuple[str | None, list[str]]:
    if not url.query:
        return url.query, []
    platforms = [platform for platform in rules.platforms if platform.host.fullmatch(url.host)]
    kept: list[str] = []
    removed: list[str] = []
    for parameter in url.query.split("&"):
        name = _plain_name(parameter.partition("=")[0])
        rule = None
        if not any(platform.keep.find(name) for platform in platforms):
            found = (names.find(name) for names in (rules.strip, *(platform.strip for platform in platforms)))
            rule = next(filter(None, found), None)
        if rule is None:
            kept.append(parameter)
        else:
            removed.append(name if _PRINTABLE_NAME.fullmatch(name) else rule)
    return "&".join(kept) if kept else None, removed


def _plain_name(raw: str) -> str:
    """Name of a parameter for comparison: unescaped, lower case, without the rest of an HTML-escaped ampersand."""
    name = unquote_to_bytes(raw).decode("utf-8", "replace").lower()
    return _AMP.sub("", name)


# ---- the rules file

T = TypeVar("T")


def _field(entry: object, name: str, kind: type[T]) -> T:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise MalformedError(f"{name!r} is missing or of the wrong type: fetch the rules again", "tracking rules")
    return value


def _texts(entry: object, name: str) -> list[str]:
    texts = _field(entry, name, list)
    if not all(isinstance(text, str) and text for text in texts):
        raise MalformedError(f"{name!r} holds something else than words: fetch the rules again", "tracking rules")
    return texts


def _names(entry: object, name: str) -> Names:
    texts = [text.lower() for text in _texts(entry, name)]
    return Names(
        exact=frozenset(text for text in texts if not text.endswith("*")),
        prefixes=tuple(text[:-1] for text in texts if text.endswith("*") and len(text) > 1),
    )


def _pattern(entry: object, name: str) -> re.Pattern[str]:
    try:
        return re.compile(_field(entry, name, str), re.ASCII)
    except (re.error, RecursionError, OverflowError) as e:
        raise MalformedError(f"{name!r} is not a pattern: fetch the rules again", "tracking rules") from e
