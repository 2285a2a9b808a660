"""`mirror.toml` → a frozen `Config`. Every default stands here, in the fields below; the file only says what differs.

Unknown sections and keys, wrong types and values out of range are refused by name: a misspelt proxy must not mean none.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.errors import HomeError

MAX_BYTES = 1 << 20

USER_AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
"""What most users of one browser send: an unusual user agent would tell our visits from theirs."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    """`[capture]`: how pages are fetched. Times in seconds, sizes in bytes as they cross the wire."""

    user_agent: str = USER_AGENT
    languages: str = "vi,en;q=0.8"  # Accept-Language
    connections_per_host: int = 24
    connections: int = 256
    page_timeout_s: float = 120.0
    idle_timeout_s: float = 30.0
    max_response_bytes: int = 4 << 30
    max_capture_bytes: int = 8 << 30
    max_requests: int = 1500
    frame_depth: int = 2
    retries: int = 2
    allow_invalid_tls: bool = False
    extra_headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """`[vantage.NAME]`: a way into the network. What is None is taken from `[capture]`."""

    name: str
    proxy: str | None = field(default=None, repr=False)  # may hold a password
    user_agent: str | None = None
    languages: str | None = None
    extra_headers: Headers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealConfig:
    """`[seal]`: names of the secret keys that sign each capture; how many must is the trust policy's matter."""

    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    capture: CaptureConfig = CaptureConfig()
    vantages: tuple[Vantage, ...] = ()
    seal: SealConfig = SealConfig()

    def vantage(self, name: str) -> Vantage:
        """Return the vantage `name`. Raises `HomeError` if mirror.toml has none of that name."""
        for vantage in self.vantages:
            if vantage.name == name:
                return vantage
        raise HomeError(
            f"mirror.toml has no [vantage.{name}]{_nearest(name, [v.name for v in self.vantages])}; "
            "add that section, or use another name"
        )


def load(path: Path) -> Config:
    """Read mirror.toml at `path`. Raises `HomeError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise HomeError(f"{path} cannot be read ({e.strerror}); restore it, or make a home with `mirror init`") from e
    return parse(data)


def parse(data: bytes) -> Config:
    """Read the content of a mirror.toml. Raises `HomeError` that names the key."""
    if len(data) > MAX_BYTES:
        raise HomeError(f"mirror.toml is larger than {MAX_BYTES} bytes; remove what does not belong there")
    try:
        raw = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise HomeError(f"mirror.toml is not valid TOML ({e}); correct it there") from e
    sections = _section(raw, "", {"capture": _table, "vantage": _table, "seal": _table})
    vantages = []
    for name, value in sections.get("vantage", {}).items():
        if not _VANTAGE_NAME.fullmatch(name):
            raise HomeError(f"mirror.toml: [vantage.{name}]: use lower-case letters, digits and hyphens for the name")
        place = f"vantage.{name}"
        vantages.append(Vantage(name=name, **_section(_table(value, f"[{place}]"), place, _VANTAGE)))
    return Config(
        capture=CaptureConfig(**_section(sections.get("capture", {}), "capture", _CAPTURE)),
        vantages=tuple(vantages),
        seal=SealConfig(**_section(sections.get("seal", {}), "seal", _SEAL)),
    )


def initial(seal_keys: Iterable[str]) -> bytes:
    """Return the mirror.toml of a new home: short, since what is not written is the default."""
    names = ", ".join(f'"{name}"' for name in seal_keys)  # key names never need quoting
    default = CaptureConfig()
    return f"""\
# Configuration of this mirror home. What is not written here has its default; `#` lines show some of them.

[seal]
keys = [{names}]   # the secret keys in state/keys/ that sign each capture

[capture]
# languages = "{default.languages}"             # Accept-Language
# connections_per_host = {default.connections_per_host}
# page_timeout_s = {default.page_timeout_s:g}
# max_response_bytes = {default.max_response_bytes}

# A way into the network; names are resolved at its far end, and nothing goes out without it.
# [vantage.tor]
# proxy = "socks5h://127.0.0.1:9050"
""".encode()


Check = Callable[[Any, str], Any]  # (value, place) → the value to keep; raises HomeError

_VANTAGE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,1022}[!-~])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # RFC 9110 §5.6.2 token
_LANGUAGES = re.compile(r"[A-Za-z0-9*-]{1,35}(?:;q=[01](?:\.[0-9]{1,3})?)?")  # one item, RFC 9110 §12.5.4
_PROXY = re.compile(
    r"(?P<scheme>[a-z0-9+.-]{1,16})://(?:[^\s/?#@:]{1,255}:[^\s/?#@]{0,255}@)?"
    r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9a-fA-F:.]{2,45}\]):(?P<port>[0-9]{1,5})"
)
_KEY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_OWN_SETTING = {"user-agent": "user_agent", "accept-language": "languages"}
_FRAMING = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"}
_PERSONAL = {"cookie", "authorization", "proxy-authorization", "from", "referer"}


def _section(table: Mapping[str, Any], place: str, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return the checked values of `table`; a key without a check is refused with the nearest one named."""
    values = {}
    for key, value in table.items():
        where = f"[{place}] {key}" if place else f"[{key}]"
        if key not in checks:
            raise HomeError(f"mirror.toml: {where}: unknown{_nearest(key, checks)}; correct or remove it")
        values[key] = checks[key](value, where)
    return values


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", the nearest known is `{near[0]}`" if near else ""


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HomeError(f"mirror.toml: {place}: must be a table; write it as a section of its own")
    return value


def _whole(low: int, high: int) -> Check:
    def check(value: Any, place: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise HomeError(f"mirror.toml: {place}: must be a whole number from {low} to {high}")
        return value

    return check


def _seconds(low: float, high: float) -> Check:
    def check(value: Any, place: str) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise HomeError(f"mirror.toml: {place}: must be a number of seconds from {low:g} to {high:g}")
        return float(value)

    return check


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise HomeError(f"mirror.toml: {place}: must be true or false, without quotes")
    return value


def _header_value(value: Any, place: str) -> str:
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise HomeError(f"mirror.toml: {place}: must be one line of 1 to 1024 printable ASCII characters")
    return value


def _languages(value: Any, place: str) -> str:
    if not all(_LANGUAGES.fullmatch(item.strip(" ")) for item in _header_value(value, place).split(",")):
        raise HomeError(f'mirror.toml: {place}: must be a list of languages such as "vi,en;q=0.8"')
    return str(value)


def _headers(value: Any, place: str) -> Headers:
    """Check a table of header names and values; those that name a person or frame the message are refused."""
    seen: set[str] = set()
    for name, text in _table(value, place).items():
        _header_value(text, f"{place} {name}")
        low = name.lower()
        if not _HEADER_NAME.fullmatch(name) or low in seen:
            raise HomeError(f"mirror.toml: {place} {name}: not a header name, or it stands twice; correct it")
        if low in _OWN_SETTING:
            raise HomeError(f"mirror.toml: {place} {name}: use the key `{_OWN_SETTING[low]}` instead")
        if low in _FRAMING:
            raise HomeError(f"mirror.toml: {place} {name}: set by the connection itself; remove it")
        if low in _PERSONAL:
            raise HomeError(f"mirror.toml: {place} {name}: it would go to every host and name a person; remove it")
        seen.add(low)
    return tuple(value.items())


def _proxy(value: Any, place: str) -> str:
    match = _PROXY.fullmatch(value) if isinstance(value, str) else None
    scheme = match["scheme"] if match else ""
    if scheme in ("socks5", "socks4", "socks4a", "socks"):
        raise HomeError(
            f"mirror.toml: {place}: {scheme} may resolve names on this machine, where the resolver would see them; "
            "write socks5h://"
        )
    if not match or scheme not in ("http", "socks5h") or not 0 < int(match["port"]) < 65536:
        raise HomeError(f'mirror.toml: {place}: must be like "socks5h://127.0.0.1:9050" or "http://proxy:3128"')
    return str(value)


def _key_names(value: Any, place: str) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [None]
    if not all(isinstance(name, str) and _KEY_NAME.fullmatch(name) for name in names) or len(set(names)) < len(names):
        raise HomeError(f"mirror.toml: {place}: must be a list of different key names; see `mirror keys`")
    return tuple(names)


_CAPTURE: dict[str, Check] = {
    "user_agent": _header_value,
    "languages": _languages,
    "connections_per_host": _whole(1, 1024),
    "connections": _whole(1, 16384),
    "page_timeout_s": _seconds(1, 86_400),
    "idle_timeout_s": _seconds(0.1, 3_600),
    "max_response_bytes": _whole(1024, 1 << 50),
    "max_capture_bytes": _whole(1024, 1 << 50),
    "max_requests": _whole(1, 1_000_000),
    "frame_depth": _whole(0, 10),
    "retries": _whole(0, 20),
    "allow_invalid_tls": _flag,
    "extra_headers": _headers,
}
_VANTAGE: dict[str, Check] = {
    "proxy": _proxy,
    "user_agent": _header_value,
    "languages": _languages,
    "extra_headers": _headers,
}
_SEAL: dict[str, Check] = {"keys": _key_names}
