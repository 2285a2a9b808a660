"""Reading responses off the wire: the same outcome however the bytes are split, and every oddity has a name."""

from __future__ import annotations

import gzip
import itertools
import time
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import answer, chunked

from mirror.errors import LimitError, MalformedError
from mirror.formats.http1 import (
    MAX_HEAD,
    MAX_INTERIM,
    Dechunker,
    Framing,
    ResponseReader,
    dechunk,
    decode_content,
    decode_whole,
    parse_head,
)

PACKED = gzip.compress(b"hello world " * 200, mtime=0)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
RESPONSES = {
    "length": answer(b"hello world"),
    "empty": answer(b""),
    "no-content": b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    "not-modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
    "chunked": CHUNKED + chunked(b"x" * 50, 7),
    "chunked-extension-trailer": CHUNKED + chunked(b"y" * 40, 9, extension=b";a=b", trailer=b"X-T: 1\r\nX-U: 2\r\n"),
    "chunked-gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n" + CHUNKED[17:] + chunked(PACKED, 13),
    "chunked-line-feeds": CHUNKED + b"5\nhello\n0\n\n",
    "chunked-padded-size": CHUNKED + b"005 \r\nhello\r\n000\r\n\r\n",
    "chunked-not-even": CHUNKED + b"zzz\r\nhello",
    "chunked-bad-later": CHUNKED + b"5\r\nhello\r\nnope\r\nmore",
    "chunked-no-line-end": CHUNKED + b"5\r\nhelloX\n0\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + answer(b"ok"),
    "line-feeds-only": b"HTTP/1.1 200 OK\nContent-Length: 2\nA:b\n\nhi",
    "mixed-line-ends": b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nhi",
    "close-delimited": b"HTTP/1.0 200 OK\r\n\r\n" + b"c" * 30,
    "no-status-line": b"<html>\r\n\r\nhello</html>",
    "bad-status": b"HTTP/1.1 OK\r\nA: b\r\n\r\nhello",
    "short-garbage": b"hi",
    "icy": b"ICY 200 OK\r\nicy-name: x\r\n\r\nmusic",
    "contradictory": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
    "repeated-length": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello",
    "negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "both-length-and-chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + CHUNKED[17:] + chunked(b"hello"),
    "surplus": answer(b"hello") + b"HTTP/1.1 200 OK\r\n\r\nanother",
    "surplus-after-nothing": b"HTTP/1.1 204 No\r\n\r\nextra",
    "surplus-after-chunks": CHUNKED + chunked(b"hello") + b"more",
    "folded": b"HTTP/1.1 200 OK\r\nX-A: one\r\n  two\r\n\tthree\r\nContent-Length: 0\r\n\r\n",
    "truncated": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
    "truncated-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "truncated-empty-head": b"HTTP/1.1 204 No Content\r\nX: y\r\n",
    "truncated-chunks": CHUNKED + b"50\r\nhello",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\nframes",
}


def read(pieces: list[bytes]) -> tuple[ResponseReader, bytes, bool]:
    body: list[bytes] = []
    reader = ResponseReader("GET", body.append)
    for piece in pieces:
        reader.feed(piece)
    before = reader.done
    return reader, b"".join(body), before or reader.eof()


def outcome(pieces: list[bytes]) -> tuple[object, ...]:
    reader, body, done = read(pieces)
    assert b"".join(reader.interim) + reader.head + body + reader.surplus == b"".join(pieces)
    assert reader.body_size == len(body)
    return reader.interim, reader.head, body, reader.surplus, done, reader.view, reader.framing, reader.malformed


@pytest.mark.parametrize("name", RESPONSES)
def test_a_byte_at_a_time_gives_the_same(name):
    raw = RESPONSES[name]
    assert outcome([raw[i : i + 1] for i in range(len(raw))]) == outcome([raw])


@given(st.sampled_from(sorted(RESPONSES)), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_gives_the_same(name, cuts):
    raw = RESPONSES[name]
    edges = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    assert outcome([raw[a:b] for a, b in itertools.pairwise(edges)]) == outcome([raw])


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), max_size=30))
def test_no_byte_is_lost_whatever_comes(raw, sizes):
    pieces, position = [], 0
    for size in [*sizes, len(raw)]:
        pieces.append(raw[position : position + size])
        position += size
    outcome([p for p in pieces if p])


def facts(name: str) -> tuple[bool, bytes, str | None]:
    reader, body, done = read([RESPONSES[name]])
    return done, body, reader.malformed


def test_sound_answers_are_whole_and_keep_the_connection():
    for name in ("length", "empty", "no-content", "not-modified", "chunked", "chunked-extension-trailer",
                 "chunked-line-feeds", "interim", "line-feeds-only", "folded", "repeated-length"):  # fmt: skip
        reader, _, _ = read([])
        reader.feed(RESPONSES[name])
        assert (reader.done, reader.keep_alive, reader.malformed) == (True, True, None), name


def test_surplus_bytes_end_the_connection():
    for name in ("surplus", "surplus-after-nothing", "surplus-after-chunks"):
        reader, _, _ = read([])
        reader.feed(RESPONSES[name])
        assert reader.done and not reader.keep_alive and reader.surplus, name
        late, _, _ = read([])
        late.feed(answer(b"x"))
        late.feed(b"late")
        assert (late.surplus, late.keep_alive) == (b"late", False)


def test_answers_cut_off_are_not_whole():
    for name in ("truncated", "truncated-head", "truncated-empty-head", "truncated-chunks"):
        assert not facts(name)[0], name


def test_oddities_are_named():
    assert facts("no-status-line") == (True, RESPONSES["no-status-line"], "no HTTP status line")
    assert facts("short-garbage") == (True, b"hi", "no HTTP status line")
    assert facts("bad-status") == (True, b"hello", "bad HTTP status line")
    assert facts("contradictory") == (True, b"hello", "contradictory or unreadable Content-Length")
    assert facts("negative-length") == (True, b"hello", "contradictory or unreadable Content-Length")
    assert facts("both-length-and-chunked")[2] == "both Content-Length and Transfer-Encoding"
    for name in ("chunked-not-even", "chunked-bad-later"):
        assert facts(name)[2] == "chunked body: not a chunk size"
    assert facts("chunked-no-line-end")[2] == "chunked body: no line end after a chunk"


def test_folded_line_joins_the_field_before():
    assert parse_head(RESPONSES["folded"]).get("x-a") == "one two three"


def test_field_values_are_utf8_or_latin1():
    view = parse_head("HTTP/1.1 200 OK\r\nA: Đảng\r\n".encode() + b"B: Tr\xe8s\r\nno colon\r\n\r\n")
    assert view.fields == (("a", "Đảng"), ("b", "Très"))


def test_header_flood_is_cut_and_kept():
    body: list[bytes] = []
    reader = ResponseReader("GET", body.append)
    with pytest.raises(LimitError):
        reader.feed(b"HTTP/1.1 200 OK\r\n")
        while True:
            reader.feed(b"X-Flood: " + b"f" * 4000 + b"\r\n")
    assert len(reader.head) == MAX_HEAD and not reader.done


def test_interim_flood_is_cut():
    reader = ResponseReader("GET", lambda _: None)
    with pytest.raises(LimitError):
        reader.feed(b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM + 1))


def test_head_request_has_no_body():
    reader = ResponseReader("HEAD", lambda _: None)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert reader.done and reader.framing is Framing.NONE


def test_old_version_keeps_the_connection_only_when_it_says_so():
    for line, kept in ((b"", False), (b"Connection: keep-alive\r\n", True)):
        reader = ResponseReader("GET", lambda _: None)
        reader.feed(b"HTTP/1.0 200 OK\r\n" + line + b"Content-Length: 0\r\n\r\n")
        assert reader.keep_alive is kept


# -- chunks


@given(st.binary(max_size=200), st.integers(1, 50), st.integers(1, 30))
def test_chunks_come_off_in_any_split(payload, size, step):
    raw = chunked(payload, size, extension=b' ; a="b"', trailer=b"T: 1\r\n") + b"rest"
    decoder, out = Dechunker(), []
    position = 0
    while not decoder.done:
        out += decoder.feed(raw[position : position + step])
        position += step
    assert b"".join(out) == payload
    assert (decoder.rest + raw[position:]) == b"rest"


def test_broken_chunks_give_what_came_before():
    assert dechunk([b"5\r\nhello\r\n", b"oops\r\nmore"]) == b"hello"
    assert dechunk([b"5\r\nhello\r\noops\r\nmore"]) == b"hello"
    decoder = Dechunker()
    assert b"".join(decoder.feed(b"5\r\nhello\r\n!\r\n")) == b"hello"
    with pytest.raises(MalformedError):
        decoder.feed(b"more")


def test_endless_size_line_and_trailer_are_refused():
    for start in (b"5;", b"0\r\nX: "):
        decoder = Dechunker()
        with pytest.raises(MalformedError):
            for _ in range(100):
                decoder.feed(start + b"a" * 1000)
                start = b""


# -- content codings

TEXT = b"noi dung " * 500
RAW = zlib.compressobj(wbits=-15)


def test_each_coding_comes_off():
    raw_deflate = RAW.compress(TEXT) + RAW.flush()
    cases = {
        "gzip": gzip.compress(TEXT), "x-gzip": gzip.compress(TEXT), "deflate": zlib.compress(TEXT),
        "Deflate": raw_deflate, "br": brotli.compress(TEXT), "identity": TEXT, "": TEXT,
        "gzip, br": brotli.compress(gzip.compress(TEXT)),
    }  # fmt: skip
    for coding, payload in cases.items():
        assert decode_whole(payload, coding, limit=1 << 20) == (TEXT, True), coding


def test_deflate_with_a_small_window_is_known_for_what_it_is():
    small = zlib.compressobj(wbits=9)
    assert decode_content(small.compress(TEXT) + small.flush(), "deflate", limit=1 << 20) == TEXT


def test_all_members_count_and_padding_is_no_damage():
    members = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert decode_whole(members, "gzip", limit=100) == (b"one two", True)
    assert decode_whole(members + b"\0" * 3000, "gzip", limit=100) == (b"one two", True)


def test_cut_and_broken_streams_give_what_could_be_read():
    for coding, packed in (
        ("gzip", gzip.compress(TEXT, 0)),
        ("br", brotli.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, 0)),
    ):
        got, whole = decode_whole(packed[:-8], coding, limit=1 << 20)
        assert not whole and TEXT.startswith(got)
    damaged = bytearray(gzip.compress(bytes(range(256)) * 40, 0))
    damaged[6000] ^= 0xFF
    got, whole = decode_whole(bytes(damaged), "gzip", limit=1 << 20)
    assert not whole and len(got) > 4000
    second = gzip.compress(b"first") + gzip.compress(b"x" * 5000, 0)[:3000]
    got, whole = decode_whole(second, "gzip", limit=1 << 20)
    assert not whole and got.startswith(b"firstxxx")


def test_no_compressed_data_at_all_is_nothing():
    for coding in ("gzip", "deflate", "br"):
        assert decode_whole(b"<html>plain", coding, limit=100) == (b"", False)
    assert decode_whole(b"", "gzip", limit=100)[0] == b""


def test_unknown_coding_is_refused():
    with pytest.raises(MalformedError, match="zstd"):
        decode_content(b"x", "zstd", limit=10)


def test_bombs_stop_at_the_limit():
    bomb = b"\0" * (64 << 20)
    for coding, packed in (
        ("gzip", gzip.compress(bomb)),
        ("br", brotli.compress(bomb, quality=1)),
        ("deflate", zlib.compress(bomb)),
    ):
        got, whole = decode_whole(packed, coding, limit=1 << 20)
        assert (len(got), whole) == (1 << 20, False)
    twice = gzip.compress(gzip.compress(bomb))
    assert len(decode_content(twice, "gzip, gzip", limit=1 << 20)) <= 1 << 20


def test_a_great_many_empty_members_take_linear_time():
    """Processor time, not wall time: quadratic work would be minutes."""
    empty = gzip.compress(b"", mtime=0)
    begun = time.process_time()
    assert decode_whole(empty * ((2 << 20) // len(empty)), "gzip", limit=100) == (b"", True)
    assert time.process_time() - begun < 10


@given(st.binary(max_size=400), st.sampled_from(["gzip", "deflate", "br"]))
def test_no_coding_raises_on_any_bytes(payload, coding):
    got, _ = decode_whole(payload, coding, limit=1000)
    assert len(got) <= 1000


@given(st.lists(st.sampled_from([b"A", b":", b" ", b"\t", b"\r", b"\n", b"\r\n", b"b", b"\x1f", b"\x0b"]), max_size=60))
def test_plain_head_is_read_like_any_other(parts):
    """The quick way for ASCII heads and the careful one agree: a byte that is not ASCII in the status line picks it."""
    rest = b"".join(parts)
    quick, careful = (parse_head(b"HTTP/1.1 200 " + reason + b"\r\n" + rest) for reason in (b"OK", b"\xff"))
    assert quick.fields == careful.fields
