"""Decode the bytes of a page to text, and doubt what is declared when Vietnamese bytes say otherwise.

Order: byte-order mark, HTTP charset, `<meta>` or XML declaration, strict UTF-8, then the legacy Vietnamese tables by
the syllable score, windows-1252 last. Sources: WHATWG Encoding Standard (labels), HTML §13.2.3.2 (prescan), TCVN
5712:1993 table VN1, RFC 1456 (VISCII), the VNI-Win font table; the takedown design page, "Vietnamese".
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from enum import Enum

from mirror.text import syllable
from mirror.text.folding import nfc

_PRESCAN = 4096  # bytes searched for a declaration; HTML asks for 1024, real pages need more
_SAMPLE = 1 << 19  # bytes, from the first one beyond ASCII, that the score looks at
_SAMPLE_WORDS = 2000
_WORD_BYTES = 24  # longer runs are no words in any table
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))


class Basis(Enum):
    """What the choice of the encoding rests on."""

    MARK = "byte-order mark"
    DECLARED = "declaration"
    VALID = "the bytes are valid"
    SCORE = "Vietnamese syllables"
    LAST_RESORT = "nothing better"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """`text` is NFC; `encoding` a lower-case WHATWG name, or tcvn5712-1, viscii, x-viet-vni."""

    text: str
    encoding: str
    basis: Basis


def decode(body: bytes, *, http_charset: str | None) -> Decoded:
    """Decode `body` (transfer- and content-decoded). Never raises: bytes without a meaning become U+FFFD.

    `http_charset` is the charset parameter of Content-Type as sent, or None. Linear time in the length of `body`.
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return _decoded(body[len(mark) :].decode(name, "replace"), name, Basis.MARK)
    declared = known_label(http_charset) or _declared_inside(body)
    wide = _sniff_utf16(body)
    if wide is not None and declared not in _WIDE:
        return _decoded(body.decode(wide, "replace"), wide, Basis.VALID)
    if declared in _WIDE or declared == "iso-2022-jp":
        return _decoded(_read(body, declared), declared, Basis.DECLARED)
    if body.isascii():
        return Decoded(text=body.decode("ascii"), encoding="utf-8", basis=Basis.VALID)
    if (text := _as_utf8(body, declared)) is not None:
        return _decoded(_undo_double_encoding(text), "utf-8", Basis.VALID)
    if declared in _MULTI_BYTE and _is_valid(body, declared):
        return _decoded(_read(body, declared), declared, Basis.DECLARED)
    if (vietnamese := _guess_vietnamese(body, declared)) is not None:
        return _decoded(_read(body, vietnamese), vietnamese, Basis.SCORE)
    if declared is not None:
        return _decoded(_read(body, declared), declared, Basis.DECLARED)
    return _decoded(_read(body, "windows-1252"), "windows-1252", Basis.LAST_RESORT)


def _decoded(text: str, encoding: str, basis: Basis) -> Decoded:
    return Decoded(text=nfc(text), encoding=encoding, basis=basis)


# --- tables that Python lacks ---------------------------------------------------------------------------------------


def _table(low: dict[int, str], high: str) -> str:
    """Return the 256 characters of a table: ASCII with `low` instead of some control characters, then `high`."""
    return "".join(low.get(code, chr(code)) for code in range(128)) + high


_TCVN = _table(
    {0x01: "Ú", 0x02: "Ụ", 0x04: "Ừ", 0x05: "Ử", 0x06: "Ữ", 0x11: "Ứ", 0x12: "Ự", 0x13: "Ỳ", 0x14: "Ỷ", 0x15: "Ỹ"}
    | {0x16: "Ý", 0x17: "Ỵ"},
    "ÀẢÃÁẠẶẬÈẺẼÉẸỆÌỈĨÍỊÒỎÕÓỌỘỜỞỠỚỢÙỦŨ"
    "\u00a0ĂÂÊÔƠƯĐăâêôơưđẰ\u0300\u0309\u0303\u0301\u0323àảãáạẲằẳẵắẴ"
    "ẮẦẨẪẤỀặầẩẫấậèỂẻẽéẹềểễếệìỉỄẾỒĩíịò"
    "ỔỏõóọồổỗốộờởỡớợùỖủũúụừửữứựỳỷỹýỵỐ",
)
_VISCII = _table(
    {0x02: "Ẳ", 0x05: "Ẵ", 0x06: "Ẫ", 0x14: "Ỷ", 0x19: "Ỹ", 0x1E: "Ỵ"},
    "ẠẮẰẶẤẦẨẬẼẸẾỀỂỄỆỐỒỔỖỘỢỚỜỞỊỎỌỈỦŨỤỲ"
    "ÕắằặấầẩậẽẹếềểễệốồổỗỠƠộờởịỰỨỪỬơớƯ"
    "ÀÁÂÃẢĂẳẵÈÉÊẺÌÍĨỳĐứÒÓÔạỷừửÙÚỹỵÝỡư"
    "àáâãảăữẫèéêẻìíĩỉđựòóôõỏọụùúũủýợỮ",
)


def _with_controls(codec: str) -> str:
    """Return the table of a windows code page; what it leaves undefined are C1 controls (Encoding Standard §9)."""
    return "".join(
        char if (char := bytes((code,)).decode(codec, "replace")) != "\ufffd" else chr(code) for code in range(256)
    )


_WINDOWS_1252 = _with_controls("cp1252")
_TABLES = {
    "tcvn5712-1": _TCVN,
    "viscii": _VISCII,
    "windows-1252": _WINDOWS_1252,
    "windows-1258": _with_controls("cp1258"),
    "x-viet-vni": _WINDOWS_1252,  # then _VNI
}


def _vni() -> dict[int, str]:
    """Map the Latin-1 letters of a VNI text: most are marks of the vowel before them, some are letters themselves."""
    circumflex, breve, grave, acute, hook, tilde, dot = "\u0302\u0306\u0300\u0301\u0309\u0303\u0323"
    marks = dict(zip("ùøûõïâê", (acute, grave, hook, tilde, dot, circumflex, breve), strict=True))
    marks |= {char: circumflex + tone for char, tone in zip("áàåãä", (acute, grave, hook, tilde, dot), strict=True)}
    marks |= {char: breve + tone for char, tone in zip("éèúüë", (acute, grave, hook, tilde, dot), strict=True)}
    letters = dict(zip("ñôöíìæóòî", "đơưíìỉĩịỵ", strict=True))
    small = marks | letters
    big = {char.upper(): value for char, value in marks.items()} | {c.upper(): v.upper() for c, v in letters.items()}
    return {ord(char): value for char, value in (small | big).items()}


_VNI = _vni()

# --- labels ---------------------------------------------------------------------------------------------------------

_ISO_PARTS = (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)
_CODECS = (
    {f"windows-{page}": f"cp{page}" for page in (1250, 1251, 1253, 1254, 1255, 1256, 1257)}
    | {f"iso-8859-{part}": f"iso8859-{part}" for part in _ISO_PARTS}
    | {"windows-874": "cp874", "ibm866": "cp866", "koi8-r": "koi8-r", "koi8-u": "koi8-u", "macintosh": "mac-roman"}
    | {"utf-8": "utf-8", "utf-16le": "utf-16le", "utf-16be": "utf-16be", "gbk": "gb18030", "gb18030": "gb18030"}
    | {"big5": "big5hkscs", "euc-jp": "euc_jp", "iso-2022-jp": "iso2022_jp", "shift_jis": "cp932", "euc-kr": "cp949"}
)
_LABELS = (
    {name: name for name in (*_CODECS, *_TABLES)}
    | dict.fromkeys(("utf8", "unicode-1-1-utf-8", "x-unicode20utf8"), "utf-8")
    | dict.fromkeys(("utf-16", "ucs-2", "unicode", "iso-10646-ucs-2", "csunicode"), "utf-16le")
    | dict.fromkeys(("iso-8859-1", "iso8859-1", "iso88591", "iso_8859-1", "latin1", "latin-1", "l1"), "windows-1252")
    | dict.fromkeys(("ascii", "us-ascii", "ansi_x3.4-1968", "cp819", "ibm819"), "windows-1252")
    | dict.fromkeys(("cp1252", "x-cp1252", "windows1252", "x-user-defined"), "windows-1252")
    | dict.fromkeys(("iso-8859-9", "latin5", "iso8859-9"), "windows-1254")
    | dict.fromkeys(("iso-8859-11", "tis-620", "dos-874"), "windows-874")
    | {f"cp{page}": f"windows-{page}" for page in (1250, 1251, 1253, 1254, 1255, 1256, 1257, 1258)}
    | {f"x-cp{page}": f"windows-{page}" for page in (1250, 1251, 1253, 1254, 1255, 1256, 1257, 1258)}
    | {f"iso{sign}8859-{part}": f"iso-8859-{part}" for part in _ISO_PARTS for sign in ("", "_")}
    | {f"iso8859{part}": f"iso-8859-{part}" for part in _ISO_PARTS}
    | {"latin2": "iso-8859-2", "latin-9": "iso-8859-15", "koi8": "koi8-r", "koi": "koi8-r", "cp866": "ibm866"}
    | {"mac": "macintosh", "x-mac-roman": "macintosh"}
    | dict.fromkeys(("gb2312", "gb_2312-80", "gb_2312", "x-gbk", "chinese", "csgb2312"), "gbk")
    | dict.fromkeys(("big5-hkscs", "cn-big5", "x-x-big5", "csbig5"), "big5")
    | dict.fromkeys(("shift-jis", "sjis", "x-sjis", "ms932", "windows-31j", "csshiftjis"), "shift_jis")
    | dict.fromkeys(("ks_c_5601-1987", "korean", "ksc5601", "windows-949", "cseuckr"), "euc-kr")
    | {"x-euc-jp": "euc-jp"}
    | dict.fromkeys(("tcvn", "tcvn3", "tcvn-5712", "tcvn5712", "tcvn5712-1:1993", "x-viet-tcvn", "abc"), "tcvn5712-1")
    | dict.fromkeys(("viscii1.1-1", "csviscii", "x-viet-viscii"), "viscii")
    | dict.fromkeys(("vni", "vni-win", "x-vni"), "x-viet-vni")
)
_WIDE = ("utf-16le", "utf-16be")
_MULTI_BYTE = ("gbk", "gb18030", "big5", "euc-jp", "shift_jis", "euc-kr")


def known_label(label: str | None) -> str | None:
    """Return our name of the encoding that `label` means (WHATWG labels and the Vietnamese ones), None if unknown."""
    return _LABELS.get(label.strip(" \t\r\n\f\"'").lower()) if label else None


_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_META = re.compile(rb"<meta[\s/][^>]*", re.IGNORECASE)
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"\s{0,64}<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{1,40})")


def _declared_inside(body: bytes) -> str | None:
    """Return what the first `<meta>` or the XML declaration says; a UTF-16 that we could read this way is UTF-8."""
    head = _COMMENT.sub(b"", body[:_PRESCAN])
    found = [match[1] for match in (_XML.match(head),) if match]
    found += [match[1] for meta in _META.finditer(head) if (match := _CHARSET.search(meta[0]))]
    for label in found:
        if (name := known_label(label.decode("ascii"))) is not None:
            return "utf-8" if name in _WIDE else name
    return None


# --- readings -------------------------------------------------------------------------------------------------------


def _read(body: bytes, name: str) -> str:
    """Decode with the encoding of that name; what has no meaning becomes U+FFFD."""
    if (table := _TABLES.get(name)) is not None:
        text = codecs.charmap_decode(body, "replace", table)[0]
        return text.translate(_VNI) if name == "x-viet-vni" else text
    return body.decode(_CODECS[name], "replace")


def _is_valid(body: bytes, name: str) -> bool:
    try:
        body.decode(_CODECS[name], "strict")
    except UnicodeDecodeError:
        return False
    return True


def _sniff_utf16(body: bytes) -> str | None:
    """Tell UTF-16 without a mark by its zero bytes: many in one half of the pairs, none or few in the other."""
    sample = body[: _PRESCAN & ~1]
    pairs = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if pairs and odd * 5 >= pairs * 2 and even * 20 <= pairs:
        return "utf-16le"
    if pairs and even * 5 >= pairs * 2 and odd * 20 <= pairs:
        return "utf-16be"
    return None


def _as_utf8(body: bytes, declared: str | None) -> str | None:
    """Return the UTF-8 reading if it is right, or nearly (a cut tail, a few foreign bytes); None otherwise.

    A short text that is valid in a declared multi-byte encoding may be valid UTF-8 by chance, so that takes eight
    characters; in single-byte encodings valid UTF-8 does not happen by chance.
    """
    text = body.decode("utf-8", "replace")
    bad = text.count("\ufffd") - body.count(b"\xef\xbf\xbd")
    good = len(_BEYOND_ASCII.findall(text)) - bad
    enough = 8 if declared in _MULTI_BYTE else 1
    return text if good >= enough and bad * 4 <= good else None


_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_LEAD = frozenset(_WINDOWS_1252[0xC2:0xF5])  # what the first byte of a UTF-8 sequence looks like in windows-1252
_TO_1252 = {ord(char): code for code, char in enumerate(_WINDOWS_1252)} | {0xFFFD: 0xFF}


def _undo_double_encoding(text: str) -> str:
    """Return the text behind UTF-8 that was read as windows-1252 and encoded again, if all of it is such.

    What the first misreading lost (U+FFFD in `text`) stays lost; each loss may cost two characters, no more.
    """
    first = _BEYOND_ASCII.search(text)
    if first is None or first[0] not in _LEAD:
        return text
    if any(ord(char) not in _TO_1252 for char in set(text)):
        return text
    inner = bytes(map(_TO_1252.__getitem__, map(ord, text))).decode("utf-8", "replace")
    bad, good = inner.count("\ufffd"), len(_BEYOND_ASCII.findall(inner))
    return inner if good - bad >= 2 and bad <= 2 * text.count("\ufffd") else text


# --- the score ------------------------------------------------------------------------------------------------------

_HIGH = re.compile(rb"[\x80-\xff]")
_LETTER_RUN = re.compile(rb"[A-Za-z\x80-\xff\x01\x02\x04-\x06\x11-\x17\x19\x1e]+")
_VIETNAMESE = ("windows-1258", "tcvn5712-1", "viscii", "x-viet-vni")


def _guess_vietnamese(body: bytes, declared: str | None) -> str | None:
    """Return the Vietnamese table under which most words are syllables, if clearly better than what is declared."""
    words = _sample_words(body)
    reference = declared if declared is not None and declared not in ("utf-8", *_MULTI_BYTE) else "windows-1252"
    usual = _score(words, reference)
    best, name = max(((_score(words, name), name) for name in _VIETNAMESE), key=lambda pair: pair[0].rank)
    margin = 1 if declared is None else 2
    if best.share < 0.7 or best.valid < margin or best.surplus < usual.surplus + margin:
        return None
    return name


def _sample_words(body: bytes) -> bytes:
    """Return up to 2,000 runs of letters with a byte beyond ASCII, separated by spaces."""
    first = _HIGH.search(body)
    start = max(0, first.start() - _WORD_BYTES) if first else 0
    words: list[bytes] = []
    for match in _LETTER_RUN.finditer(body, start, start + _SAMPLE):
        word = match[0]
        if len(word) <= _WORD_BYTES and not word.isascii():
            words.append(word)
            if len(words) == _SAMPLE_WORDS:
                break
    return b" ".join(words)


def _score(words: bytes, name: str) -> syllable.Score:
    return syllable.score(nfc(_read(words, name)).split())
