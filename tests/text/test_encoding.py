"""Decoding: declarations, their lies, and the legacy Vietnamese tables."""

import codecs
import json
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.text.encoding import Basis, decode

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "vietnamese"
NEWS = "Người dân ở xã này nói rằng họ chưa được đền bù đất đai, dù việc khiếu nại đã kéo dài hơn mười năm."
SHORT = "Hà Nội"


def tcvn(text: str) -> bytes:
    """Encode with the table under test, inverted; the vectors check the table itself."""
    return by_table(text, "tcvn5712-1")


def viscii(text: str) -> bytes:
    return by_table(text, "viscii")


def by_table(text: str, charset: str) -> bytes:
    codes = {}
    for code in range(256):
        # A word before it keeps the single byte from being read as UTF-8 or ASCII by chance.
        codes.setdefault(decode(b"\xff" * 2 + bytes((code,)), http_charset=charset).text[2:], code)
    return bytes(codes[char] for char in text)


def vni(text: str) -> bytes:
    """Encode as VNI-Win: marks follow their vowel, some letters have a byte of their own (the font maker's table)."""
    own = dict(zip("đơưíìỉĩịỵĐƠƯÍÌỈĨỊỴ", "ñôöíìæóòîÑÔÖÍÌÆÓÒÎ", strict=True))
    marks = {"\u0301": "ù", "\u0300": "ø", "\u0309": "û", "\u0303": "õ", "\u0323": "ï", "\u0302": "â", "\u0306": "ê"}
    marks |= {"\u0302" + tone: mark for tone, mark in zip("\u0301\u0300\u0309\u0303\u0323", "áàåãä", strict=True)}
    marks |= {"\u0306" + tone: mark for tone, mark in zip("\u0301\u0300\u0309\u0303\u0323", "éèúüë", strict=True)}
    out = ""
    for char in text:
        shape, tone = char, ""
        decomposed = unicodedata.normalize("NFD", char)
        if char in own:
            out += own[char]
            continue
        for mark in "\u0301\u0300\u0309\u0303\u0323":
            if mark in decomposed:
                shape, tone = unicodedata.normalize("NFC", decomposed.replace(mark, "")), mark
        if shape in own:
            out += own[shape] + marks[tone]
        elif char.isascii():
            out += char
        else:
            base = unicodedata.normalize("NFD", shape)
            out += base[0] + marks[base[1:] + tone]
    return out.encode("cp1252")


def vectors() -> list[dict[str, str]]:
    path = VECTORS / "encodings.json"
    if not path.exists():
        pytest.skip("the shared vectors are not here")
    cases: list[dict[str, str]] = json.loads(path.read_text())
    return cases


@pytest.mark.parametrize("declared", [None, "utf-8", "iso-8859-1", "windows-1252", "x-user-defined", "windows-1258"])
def test_every_vector_decodes_whatever_is_declared(declared: str | None) -> None:
    cases = vectors()
    assert len(cases) == 21
    for case in cases:
        text = decode(bytes.fromhex(case["bytes_hex"]), http_charset=declared).text
        if case["complete"]:
            assert text == case["nfc"], case
        else:  # the first misreading lost bytes: what is left is right
            kept = [word for word in text.split() if "\ufffd" not in word]
            assert set(kept) <= set(case["nfc"].split()), case
            assert len(kept) * 2 >= len(case["nfc"].split()), case


@pytest.mark.parametrize(
    "encode", [tcvn, viscii, vni, lambda text: cp1258(text)], ids=["tcvn", "viscii", "vni", "1258"]
)
@pytest.mark.parametrize("declared", [None, "utf-8", "iso-8859-1", "x-user-defined"])
@pytest.mark.parametrize("text", [NEWS, SHORT, "ĐỒNG TÂM", "Đường về quê mẹ"])
def test_legacy_vietnamese_page_is_read_under_a_wrong_declaration(encode, declared, text) -> None:
    body = b"<html><head><meta charset=windows-1252><title>" + encode(text) + b"</title></head></html>"
    decoded = decode(body, http_charset=declared)
    assert text in decoded.text


@pytest.mark.parametrize("encode", [tcvn, viscii, vni], ids=["tcvn", "viscii", "vni"])
def test_legacy_vietnamese_page_is_read_under_a_chinese_declaration(encode) -> None:
    """Only from some length on: a few letters can be valid Chinese, and then the declaration stands."""
    assert decode(encode(NEWS), http_charset="gb2312").text == NEWS


def cp1258(text: str) -> bytes:
    """Encode as windows-1258: tones are combining, shapes are not."""
    out = ""
    for char in text:
        decomposed = unicodedata.normalize("NFD", char)
        for tone in "\u0301\u0300\u0309\u0303\u0323":
            if tone in decomposed:
                out += unicodedata.normalize("NFC", decomposed.replace(tone, "")) + tone
                break
        else:
            out += char
    return out.encode("cp1258")


FOREIGN = {
    "fr": ("Le médecin a été arrêté à la frontière après avoir publié une enquête très détaillée", "cp1252"),
    "de": ("Über die Straße führt ein schöner Weg für Fußgänger, dürfen die Bürger gehören", "iso8859-1"),
    "es": (
        "El periodista señaló que la policía detuvo a más niños sin ningún motivo aquí, sí, él también",
        "iso8859-1",
    ),
    "pt": ("A polícia não deu explicações à população; são três irmãos e a mãe já está lá", "iso8859-1"),
    "sv": ("Regeringen får inte längre stänga nätet på grund av åsikter från väljare", "iso8859-1"),
    "is": ("Blaðamaðurinn sagði að lögreglan hefði ekki gefið skýringar á því hvers vegna", "iso8859-1"),
    "pl": ("Władze zamknęły wszystkie gazety, które pisały o więźniach i ich rodzinach żyjących źle", "iso8859-2"),
    "cs": ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250"),
    "tr": ("Gazeteci şehirde gözaltına alındı, çünkü hükümet görüşlerini beğenmedi", "iso8859-9"),
    "ru": ("Журналиста задержали после публикации расследования о коррупции", "cp1251"),
    "zh": ("记者在发表调查报告后被警方拘留", "gbk"),
    "ja": ("記者は調査報道を発表した後、警察に拘束された", "shift_jis"),
    "ko": ("기자는 조사 보도를 발표한 후 경찰에 구금되었다", "euc-kr"),
}


@pytest.mark.parametrize("language", FOREIGN)
def test_declared_foreign_text_is_left_alone(language: str) -> None:
    text, codec = FOREIGN[language]
    for label in (codec, codec.replace("iso8859", "iso-8859").replace("cp12", "windows-12")):
        assert decode(text.encode(codec), http_charset=label).text == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("language", ["fr", "de", "es", "pt", "sv", "is"])
def test_undeclared_western_text_falls_to_windows_1252(language: str) -> None:
    text, codec = FOREIGN[language]
    decoded = decode(text.encode(codec), http_charset=None)
    assert (decoded.text, decoded.encoding, decoded.basis) == (text, "windows-1252", Basis.LAST_RESORT)


@pytest.mark.parametrize(
    "word", ["café", "José", "sí", "él", "tú", "más", "für", "São", "señor", "naïve", "© 2020", "à"]
)
def test_one_foreign_word_is_no_proof_against_a_declaration(word: str) -> None:
    body = b"<p>An English sentence with " + word.encode("cp1252") + b" in it.</p>"
    assert word in decode(body, http_charset="iso-8859-1").text


def test_byte_order_mark_beats_the_declaration() -> None:
    assert decode(codecs.BOM_UTF8 + "Đồng".encode(), http_charset="windows-1252").text == "Đồng"
    assert decode(codecs.BOM_UTF16_LE + "Đồng".encode("utf-16le"), http_charset="utf-8").text == "Đồng"
    assert decode(codecs.BOM_UTF16_BE + "Đồng".encode("utf-16be"), http_charset="utf-8").text == "Đồng"


def test_http_charset_beats_meta() -> None:
    body = b"<meta charset=windows-1251>" + "Władze które".encode("iso8859-2")
    assert "Władze które" in decode(body, http_charset="ISO-8859-2").text


@pytest.mark.parametrize(
    "head",
    [
        b"<meta charset='windows-1251'>",
        b'<META http-equiv=Content-Type content="text/html; charset=windows-1251">',
        b'<?xml version="1.0" encoding="windows-1251"?>',
        b"<!-- <meta charset=utf-8> --><meta  charset = windows-1251 />",
        b"<meta name=a content=b><meta charset=nonsense><meta charset=windows-1251>",
    ],
)
def test_meta_is_found(head: bytes) -> None:
    decoded = decode(head + FOREIGN["ru"][0].encode("cp1251"), http_charset=None)
    assert (decoded.encoding, decoded.basis) == ("windows-1251", Basis.DECLARED)
    assert FOREIGN["ru"][0] in decoded.text


def test_utf8_declared_as_latin_is_utf8() -> None:
    assert decode("Đồng Tâm".encode(), http_charset="iso-8859-1").encoding == "utf-8"


def test_a_few_foreign_bytes_do_not_cost_a_page_its_utf8() -> None:
    decoded = decode((NEWS * 3).encode() + b" \x92 " + "Đồng".encode()[:4], http_charset=None)
    assert decoded.encoding == "utf-8"
    assert decoded.text.startswith(NEWS)


def test_codecs_that_are_no_charsets_are_not_reachable() -> None:
    for label in ("idna", "punycode", "rot13", "hex", "unicode_escape", "utf-7", "zlib", "../x", "", "\x00"):
        assert decode(b"<p>\xe9t\xe9", http_charset=label).encoding == "windows-1252"


@given(st.text())
def test_utf8_reads_back_as_its_nfc(text: str) -> None:
    body = text.encode("utf-8", "replace")
    decoded = decode(codecs.BOM_UTF8 + body, http_charset=None)
    assert decoded.text == unicodedata.normalize("NFC", body.decode())


@given(st.binary(max_size=400), st.sampled_from([None, "utf-8", "tcvn", "viscii", "gbk", "iso-2022-jp", "utf-16", "x"]))
def test_any_bytes_decode_to_nfc(body: bytes, declared: str | None) -> None:
    decoded = decode(body, http_charset=declared)
    assert unicodedata.is_normalized("NFC", decoded.text)
    assert decode(body, http_charset=declared) == decoded


@pytest.mark.parametrize(
    "unit",
    [
        b"\xe9",
        b"a\xe9",
        b"<meta ",
        b"<!--",
        "a\u0301\u0323".encode()[1:],
        b"\xc3\xa1\xc2\xbb",
        b"\x00\xe9a",
        b"charset=",
    ],
    ids=repr,
)
def test_decoding_time_is_linear(unit: bytes) -> None:
    body = (b"<p>" + unit * (4_000_000 // len(unit))) + b"\xff"
    start = time.process_time()
    decode(body, http_charset=None)
    assert time.process_time() - start < 12
