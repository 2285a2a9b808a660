"""Web addresses: read what a person pastes, resolve what a document links to, write the key of an index.

Three ways in, one parser (WHATWG URL Standard, the special schemes http and https):

    parse(text)       what a person pasted: trimmed of quotes, brackets, invisible characters, scheme added
    parse_href(text)  an absolute URL from a program or a file: the standard and nothing more
    join(base, text)  a reference in a document: None where there is nothing to fetch

Refused beyond the standard, because nobody could fetch it or because it may harm the person: user-info (it may be a
password), more than 8192 bytes, host labels over 63 bytes, names over 253, empty labels, lone surrogates.
Fragments never leave the browser and are dropped. Existing percent-escapes and the order of the query are kept.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

from mirror.errors import UrlError

MAX_BYTES = 8192
"""Longest URL we keep: the usual servers refuse a longer request line."""

_MAX_TEXT = 8 * MAX_BYTES  # characters looked at, fragment and white space included
_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A parsed http(s) URL, without user-info and fragment; every part is ASCII as it goes over the wire."""

    scheme: str  # "http" or "https"
    host: str  # A-labels in lower case, dotted IPv4, or IPv6 without brackets
    port: int | None  # None: the scheme's default
    path: str  # starts with "/"
    query: str | None  # without "?"; None: there is no "?"

    @property
    def host_header(self) -> str:
        """The value of the Host field: brackets around IPv6, the port when it is not the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host_header}"

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line (origin-form, RFC 9112 §3.2.1)."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def href(self) -> str:
        return self.origin + self.target


def parse(text: str) -> Url:
    """Read a link as a person pastes it; raise `UrlError` with one sentence when it cannot be captured.

    Cleans what surrounds a link in running text (quotes, brackets, closing punctuation, invisible characters) and adds
    https:// to `example.com/x`. A link that really ends in a full stop has to be written with %2E at the end.
    """
    if len(text) > _MAX_TEXT:
        raise _too_long()
    text = _clean(text)
    if not text:
        raise UrlError("There is no link here: paste the address of the page, such as https://example.com/page.")
    if _SECOND_LINK.search(text):
        raise UrlError("There is more here than one link: give one link per line, without other words.")
    text = _join_lines(text)
    if _SCHEME.match(text) and not _HOST_WITH_PORT.match(text):
        return parse_href(text)
    if text.startswith(("//", "\\\\")):
        return parse_href("https:" + text)
    authority = _AUTHORITY_END.split(text, maxsplit=1)[0]
    if not ("." in authority or "。" in authority or "@" in authority or authority.startswith(("localhost", "["))):
        raise UrlError("This is not a web address: paste the whole link, starting with https://.")
    return parse_href("https://" + text)


@functools.lru_cache(maxsize=1024)  # a capture asks for the same few URLs several times
def parse_href(text: str) -> Url:
    """Read an absolute http(s) URL as the WHATWG URL Standard does (§4.4); raise `UrlError`."""
    return _resolve(text, None)


def join(base: Url, reference: str) -> Url | None:
    """Resolve a reference found in a document at `base` (WHATWG URL §4.4); None when it cannot be fetched.

    None stands for another scheme (data:, javascript:, mailto:), for what does not parse and for user-info, which
    browsers do not send for a page's parts either. Never raises.
    """
    try:
        return _resolve(reference, base)
    except UrlError:
        return None


def surt(url: Url) -> str:
    """Write the key under which CDXJ indexes sort a URL: `vn,example)/path?a=1&b=2`.

    The convention of the Internet Archive's SURT keys, as pywb makes them: `www.`, `www2.` stripped, labels (of IPv4
    addresses too) reversed, scheme and default port dropped, escapes undone and written once, all in lower case,
    repeated and closing slashes dropped, query parameters sorted, empty query dropped. One difference: session ids
    stay, since two sessions may be two pages. Different URLs can share a key: compare the URL too where it matters.
    """
    host = url.host
    if ":" not in host:
        host = _WWW.sub("", host.strip("."), count=1)
        host = ",".join(reversed(host.split(".")))
    if url.port is not None:
        host = f"{host}:{url.port}"
    path = _surt_path(_unescape(url.path))
    if not url.query:
        return f"{host}){path}"
    parameters = sorted(parameter.split("=", 1) for parameter in _escape(_unescape(url.query)).split("&"))
    return f"{host}){path}?" + "&".join("=".join(parts) for parts in parameters)


# ---- what a person pastes

# Soft hyphen, zero-width space, direction marks, word joiner and its kin, byte order mark: copied along, never meant.
_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF])
_JOINERS = "\u200c\u200d"  # meant inside a word, not at its ends
_C0_OR_SPACE = "".join(map(chr, range(0x21)))
_BLANK = _C0_OR_SPACE + _JOINERS + "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
_BLANK += "".join(map(chr, range(0x2000, 0x200B)))
_BEFORE = _BLANK + "<\"'“”„‟‘’‚«»‹›(（「『【{`"
_AFTER = frozenset(_BLANK + ".,;:!?…。，；：！？、\"'“”„‟‘’‚«»‹›<>」』】`")
_PAIRS = {")": "(", "]": "[", "}": "{", "）": "（"}
_BRACKET_AROUND_LINK = re.compile(r"\A\[(?=https?:)", re.IGNORECASE)
_DOUBLED_SCHEME = re.compile(r"\A(?:https?:/{0,2})+(?=https?:/)", re.IGNORECASE)
_SECOND_LINK = re.compile(r"\shttps?:[/\\]", re.IGNORECASE)
# "example.com:8080/x" and "john.doe:secret@example.com" are hosts, not schemes; registered schemes have no dot.
_HOST_WITH_PORT = re.compile(r"[A-Za-z0-9+\-]*\.[A-Za-z0-9+.\-]*:|localhost:[0-9]", re.IGNORECASE)


def _clean(text: str) -> str:
    if not text.isascii():
        text = text.translate(_INVISIBLE)
    text = _BRACKET_AROUND_LINK.sub("", text.lstrip(_BEFORE)).lstrip(_BEFORE)
    return _DOUBLED_SCHEME.sub("", _without_closing(text))


def _without_closing(text: str) -> str:
    """Cut punctuation after a link; a closing bracket only when its opening one is not in the link."""
    surplus = {closing: text.count(closing) - text.count(opening) for closing, opening in _PAIRS.items()}
    end = len(text)
    while end:
        last = text[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _AFTER:
            break
        end -= 1
    return text[:end]


# ---- the parser

_TAB_OR_NEWLINE = {9: None, 10: None, 13: None}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_AUTHORITY_END = re.compile(r"[/\\?#]")
_PORT = re.compile(r"[0-9]*")


def _resolve(text: str, base: Url | None) -> Url:
    text = text.strip(_C0_OR_SPACE)
    scheme_match = _SCHEME.match(text) or (_SCHEME.match(_join_lines(text)) if _has_line_break(text) else None)
    scheme = scheme_match[1].lower() if scheme_match else None
    if scheme is not None and scheme not in _DEFAULT_PORT:
        raise UrlError(f"Only http and https pages can be captured, not {scheme[:20]}: links: give the page's address.")
    text = _join_lines(text.partition("#")[0])
    if len(text) > _MAX_TEXT:
        raise _too_long()
    if not text.isascii() and _SURROGATE.search(text):
        raise UrlError("The link has broken characters (half of a pair): copy it again from the address bar.")
    if scheme is not None:
        text = text[len(scheme) + 1 :]
    rest = text.lstrip("/\\")
    slashes = len(text) - len(rest)
    if scheme is not None and (base is None or base.scheme != scheme or slashes >= 2):
        return _with_authority(scheme, rest)
    if base is None:
        raise UrlError("The link has no scheme: write it in full, starting with https://.")
    if slashes >= 2:
        return _with_authority(base.scheme, rest)
    path, mark, query = text.partition("?")
    if slashes:
        path = _path(path)
    elif path:
        path = _path(base.path[: base.path.rindex("/") + 1] + path)
    else:
        path = base.path
    if mark:
        new_query: str | None = _query(query)
    else:
        new_query = base.query if not text else None
    return _limited(Url(scheme=base.scheme, host=base.host, port=base.port, path=path, query=new_query))


def _with_authority(scheme: str, text: str) -> Url:
    end = _AUTHORITY_END.search(text)
    authority, rest = (text[: end.start()], text[end.start() :]) if end else (text, "")
    user_info, at, authority = authority.rpartition("@")
    if at and user_info not in ("", ":"):
        raise UrlError("The link holds a user name or password before an @: remove that part, it is not for others.")
    host, port = _split_port(authority)
    if not host:
        raise UrlError("The link has no host name: write it in full, such as https://example.com/page.")
    path, mark, query = rest.partition("?")
    return _limited(
        Url(
            scheme=scheme,
            host=_host(host),
            port=None if port == _DEFAULT_PORT[scheme] else port,
            path=_path(path or "/"),
            query=_query(query) if mark else None,
        )
    )


def _split_port(authority: str) -> tuple[str, int | None]:
    end = authority.find("]") + 1
    if authority.startswith("[") and not end:
        raise UrlError("The address in square brackets is not closed: correct the link.")
    colon = authority.find(":", end)
    if colon < 0:
        return authority, None
    digits = authority[colon + 1 :]
    if not _PORT.fullmatch(digits):
        raise UrlError("The port after the host name is not a number: correct it or leave it out.")
    if not digits:
        return authority[:colon], None
    number = digits.lstrip("0") or "0"
    if len(number) > 5 or int(number) > 65535:
        raise UrlError("The port after the host name is above 65535: correct it or leave it out.")
    return authority[:colon], int(number)


def _limited(url: Url) -> Url:
    if len(url.path) + len(url.query or "") > MAX_BYTES - 300 and len(url.href) > MAX_BYTES:
        raise _too_long()
    return url


def _too_long() -> UrlError:
    return UrlError(f"The link is longer than {MAX_BYTES} bytes: look for a shorter link to the same page.")


def _has_line_break(text: str) -> bool:
    return "\n" in text or "\t" in text or "\r" in text


def _join_lines(text: str) -> str:
    return text.translate(_TAB_OR_NEWLINE) if _has_line_break(text) else text


# ---- path and query

# WHATWG URL §1.3: path percent-encode set and special-query percent-encode set.
_PATH_UNSAFE = re.compile(r"[^!$%&'()*+,\-./0-9:;=@A-Z\[\]_a-z|~]+")
_QUERY_UNSAFE = re.compile(r"[^!$%&()*+,\-./0-9:;=?@A-Z\[\\\]^_`a-z{|}~]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DOT = frozenset((".", "%2e"))
_DOT_DOT = frozenset(("..", ".%2e", "%2e.", "%2e%2e"))


def _path(path: str) -> str:
    if "\\" in path:
        path = path.replace("\\", "/")
    if "/." in path or "/%2" in path:
        path = _without_dot_segments(path)
    return _PATH_UNSAFE.sub(_percent_encoded, path)


def _query(query: str) -> str:
    return _QUERY_UNSAFE.sub(_percent_encoded, query)


def _percent_encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8"))


def _without_dot_segments(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        name = segment.lower()
        if name in _DOT_DOT:
            if kept:
                kept.pop()
        elif name not in _DOT:
            kept.append(segment)
    if segments[-1].lower() in _DOT_DOT | _DOT:
        kept.append("")
    return "/" + "/".join(kept)


# ---- host

_FORBIDDEN = re.compile(r"[\x00-\x20#%/:<>?@\[\\\]^|\x7f]")  # WHATWG URL §3.1, forbidden domain code points
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}")


@lru_cache(maxsize=4096)
def _host(text: str) -> str:
    """Bring a host to its canonical form (WHATWG URL §3.5)."""
    if text.startswith("["):
        return _ipv6(text[1:].removesuffix("]"))
    name = text
    if "%" in name:
        name = unquote_to_bytes(name).decode("utf-8", "replace")
    name = name.lower() if name.isascii() else _to_ascii(name)
    if _FORBIDDEN.search(name) or not name.isascii():
        raise UrlError("The host name has characters that no host name can have: copy the link again.")
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(labels)
    if len(name) > 254 or any(len(label) > 63 for label in labels):
        raise UrlError("The host name is longer than the Internet allows (63 letters between dots, 253 in all).")
    if not all(labels):
        raise UrlError("The host name has nothing between two dots: correct the link.")
    return name


def _to_ascii(name: str) -> str:
    """Map and encode an internationalised name (UTS #46 §4, non-transitional, CheckBidi and CheckJoiners)."""
    import idna  # its tables cost ~20 ms, which a call that meets only ASCII names need not pay

    if len(name) > 1024:
        raise UrlError("The host name is longer than the Internet allows (63 letters between dots, 253 in all).")
    try:
        labels = [_u_label(label) for label in idna.uts46_remap(name, std3_rules=False).split(".")]
        right_to_left = any(unicodedata.bidirectional(sign) in ("R", "AL", "AN") for sign in "".join(labels))
        for label in labels:
            if not label.isascii():
                idna.check_nfc(label)
                idna.check_initial_combiner(label)
                if not all(idna.valid_contextj(label, at) for at, sign in enumerate(label) if sign in _JOINERS):
                    raise UrlError("The host name has an invisible joiner where none can be: copy the link again.")
            if right_to_left and label:
                idna.check_bidi(label)
    except (idna.IDNAError, UnicodeError) as e:
        raise UrlError("The host name is not a valid internationalised name: copy the link again.") from e
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)


def _u_label(label: str) -> str:
    """Decode a Punycode label and check that it is what encoding its letters gives (UTS #46 §4, steps 4 and 5)."""
    import idna

    if len(label) > 63:  # checked before Punycode, whose cost grows with the square of the length
        raise UrlError("The host name is longer than the Internet allows (63 letters between dots, 253 in all).")
    if not label.startswith("xn--"):
        return label
    decoded = label[4:].encode("ascii").decode("punycode")
    if decoded.isascii() or idna.uts46_remap(decoded, std3_rules=False) != decoded:
        raise UnicodeError("a Punycode label that stands for no valid name")
    return decoded


def _ipv4(labels: list[str]) -> str:
    """Read the odd notations too: 127.1, 0x7f.1, 017700000001, 2130706433 (WHATWG URL §3.5, IPv4 parser)."""
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) for label in labels):
        raise _not_an_address()
    numbers = [_ipv4_number(label) for label in labels]
    last = numbers.pop()
    if any(number > 255 for number in numbers) or last >= 256 ** (4 - len(numbers)):
        raise _not_an_address()
    value = sum(number << (24 - 8 * at) for at, number in enumerate(numbers)) + last
    return str(ipaddress.IPv4Address(value))


def _ipv4_number(text: str) -> int:
    if len(text) > 64:
        raise _not_an_address()
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    if len(text) > 1 and text.startswith("0"):
        if "8" in text or "9" in text:
            raise _not_an_address()
        return int(text, 8)
    return int(text)


def _ipv6(text: str) -> str:
    if not _IPV6.fullmatch(text):
        raise _not_an_address()
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as e:
        raise _not_an_address() from e
    # Not str(): since Python 3.13 it writes IPv4-mapped addresses with dots.
    pieces = ":".join(format(int.from_bytes(address.packed[at : at + 2], "big"), "x") for at in range(0, 16, 2))
    zeros = max(_ZERO_RUN.findall(pieces), key=len, default="")
    if len(zeros) < 3:
        return pieces
    head, _, tail = f":{pieces}:".partition(f":{zeros}:")
    return f"{head[1:]}::{tail[:-1]}"


_ZERO_RUN = re.compile(r"(?<![0-9a-f])0(?::0)*(?![0-9a-f])")


def _not_an_address() -> UrlError:
    return UrlError("The host looks like a numeric address but is none: correct it or use the host's name.")


# ---- index key

_WWW = re.compile(r"\Awww[0-9]*\.")


def _unescape(text: str) -> bytes:
    """Undo percent-escapes until none is left; at most MAX_BYTES / 2 rounds, a few milliseconds."""
    raw = text.encode("ascii")
    while b"%" in raw:
        plain = unquote_to_bytes(raw)
        if plain == raw:
            break
        raw = plain
    return raw


def _escape(raw: bytes) -> str:
    return quote_from_bytes(raw, safe="!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~").lower()


def _surt_path(raw: bytes) -> str:
    kept: list[bytes] = []
    for segment in raw.split(b"/")[1:]:
        if segment == b".." and kept:
            kept.pop()
        elif segment != b".":  # an empty segment counts for "..", and a ".." at the root stays: so the convention
            kept.append(segment)
    return "/" + _escape(b"/".join(filter(None, kept)))
