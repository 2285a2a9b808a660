"""Reading capture files that the recorder made, and refusing everything else."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import Maker, answer, chunked
from warcio.archiveiterator import ArchiveIterator

from mirror.errors import HomeError, MalformedError
from mirror.formats import gz
from mirror.model import CaptureRow, Completeness, Exchange, UrlRow
from mirror.store import home, reading
from mirror.text.pool import Extract, Extractor

PAGE = "https://example.vn/tin"


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(home.create(tmp_path / "home"))


def _rows(maker: Maker, path: Path) -> CaptureRow:
    return reading.rows(path, maker.place.archives)


def _url(row: CaptureRow, url: str) -> UrlRow:
    return next(u for u in row.urls if u.url == url)


def _member(path: Path, url: UrlRow) -> bytes:
    """The first gzip member at the row's offset."""
    data = path.read_bytes()[url.offset :]
    stream = gz.isal_zlib.decompressobj(31)
    stream.decompress(data)
    return data[: len(data) - len(stream.unused_data)]


def _rewritten(path: Path, members: list[bytes]) -> Path:
    path.write_bytes(b"".join(b"".join(gz.deflated([m])) for m in members))
    return path


def _members(path: Path) -> list[bytes]:
    data, found = path.read_bytes(), []
    while data:
        stream = gz.isal_zlib.decompressobj(31)
        found.append(stream.decompress(data))
        data = stream.unused_data
    return found


def test_row_says_what_the_file_holds(maker: Maker) -> None:
    missing = [{"url": "https://example.vn/a.png", "kind": "image", "reason": "connection refused"}]
    style = answer("https://www.example.vn/s.css", b"p{}", mime="TEXT/css;charset=utf-8", status=404)
    path = maker.capture(PAGE, [answer(PAGE, b"<p>page"), style], missing=missing)
    row = _rows(maker, path)
    assert (row.id, row.target, row.surt) == (path.name.removesuffix(".warc.gz"), PAGE, "vn,example)/tin")
    assert row.path == path.relative_to(maker.place.archives).as_posix()
    assert (row.started, row.finished) == ("2026-11-21T10:02:03.000000Z", "2026-11-21T10:02:55.000000Z")
    assert (row.completeness, row.missing, row.status, row.page) == (Completeness.PARTIAL, 1, 200, 1)
    assert (row.records, row.size) == (len(_members(path)) - 2, path.stat().st_size)
    assert [(u.surt, u.status, u.mime, u.record) for u in row.urls] == [
        ("vn,example)/tin", 200, "text/html", 1),
        ("vn,example)/s.css", 404, "text/css", 3),
    ]


def test_offsets_and_lengths_are_those_another_reader_finds(maker: Maker) -> None:
    bodies = [answer(f"{PAGE}/{n}", bytes([n]) * (n * 40_000)) for n in range(6)]
    path = maker.capture(PAGE, bodies)
    with path.open("rb") as file:
        warcs = ArchiveIterator(file)
        theirs = {}
        for record in warcs:
            if record.rec_type == "response":
                payload = record.raw_stream.read()
                place = (warcs.get_record_offset(), warcs.get_record_length())
                theirs[record.rec_headers.get_header("WARC-Target-URI")] = (*place, hashlib.sha256(payload).hexdigest())
    for url in _rows(maker, path).urls:
        data = path.read_bytes()[url.offset : url.offset + url.length]
        assert theirs[url.url] == (url.offset, url.length, url.digest.removeprefix("sha256:"))
        assert b"\r\nWARC-Type: response\r\n" in gzip.decompress(data)


def test_page_is_given_without_transfer_and_content_coding(maker: Maker) -> None:
    path = maker.capture(PAGE, [chunked(PAGE, [b"<p>one", b"two" * 1000])])
    page = reading.page_payload(path, _rows(maker, path))
    assert page == (b"<p>one" + b"two" * 1000, PAGE, "text/html; charset=utf-8")


def test_page_is_cut_at_the_limit(maker: Maker) -> None:
    path = maker.capture(PAGE, [chunked(PAGE, [b"a" * 1_000_000])])
    page = reading.page_payload(path, _rows(maker, path), limit=1000)
    assert page is not None and page.payload == b"a" * 1000


def test_record_gives_heads_byte_for_byte_and_payload_without_transfer_coding(maker: Maker) -> None:
    exchange = chunked(PAGE, [b"text"])
    path = maker.capture(PAGE, [exchange])
    url = _rows(maker, path).urls[0]
    kept = reading.record(path, url)
    assert kept.http_head == exchange.head
    assert kept.warc_head.startswith(b"WARC/1.1\r\n") and kept.warc_head.endswith(b"\r\n\r\n")
    assert "sha256:" + hashlib.sha256(b"".join(exchange.body)).hexdigest() == url.digest
    assert gzip.decompress(kept.payload) == b"text"


def test_payload_of_a_revisit_is_found_in_its_capture(maker: Maker) -> None:
    path = maker.capture(PAGE, [answer(PAGE, b"same"), answer(f"{PAGE}/2", b"same")])
    row = _rows(maker, path)
    second = _url(row, f"{PAGE}/2")
    assert second.revisit and second.status == 200
    assert reading.record(path, second).payload == b""
    assert b"".join(reading.payload(path, reading.stored(row, second))) == b"same"


def test_answer_without_status_line_is_all_payload(maker: Maker) -> None:
    odd = Exchange(url=PAGE, request=b"GET /\r\n\r\n", body=[b"<p>old server"], body_size=13)
    path = maker.capture(PAGE, [odd])
    url = _rows(maker, path).urls[0]
    assert (url.status, url.mime) == (0, "")
    assert reading.record(path, url).payload == b"<p>old server"


def test_capture_without_any_answer_has_no_page(maker: Maker) -> None:
    path = maker.capture(PAGE, [])
    row = _rows(maker, path)
    assert (row.completeness, row.page, row.urls) == (Completeness.FAILED, None, ())
    assert reading.page_payload(path, row) is None
    assert reading.outcome(path, row).target == PAGE


def test_outcome_gives_the_reasons(maker: Maker) -> None:
    missing = [{"url": "https://example.vn/a.png", "kind": "image", "reason": "connection refused"}]
    path = maker.capture(PAGE, missing=missing)
    outcome = reading.outcome(path, _rows(maker, path))
    assert [(m.url, m.kind, m.reason) for m in outcome.missing] == [tuple(missing[0].values())]


def test_text_of_a_page_is_extracted_with_its_charset(maker: Maker) -> None:
    html = "<html><body><article><p>" + "Người dân Đồng Tâm kể lại. " * 20 + "</article></html>"
    path = maker.capture(PAGE, [answer(PAGE, html.encode("utf-16-le"), mime='text/html; charset="utf-16le"')])
    with Extractor() as extractor:
        found = reading.page_text(path, _rows(maker, path), extractor)
        assert isinstance(found, Extract) and "Đồng Tâm kể lại" in found.text and found.encoding == "utf-16le"
        picture = maker.capture(PAGE, [answer(PAGE, b"\x89PNG", mime="image/png")])
        assert reading.page_text(picture, _rows(maker, picture), extractor) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(st.binary(max_size=2000), min_size=1, max_size=6, unique=True))
def test_any_payload_comes_back(maker: Maker, bodies: list[bytes]) -> None:
    path = maker.capture(PAGE, [answer(f"{PAGE}/{n}", body) for n, body in enumerate(bodies)])
    row = _rows(maker, path)
    assert [b"".join(reading.payload(path, url)) for url in row.urls] == bodies
    assert [url.length for url in row.urls] == [len(_member(path, url)) for url in row.urls]


def test_large_records_are_read_in_constant_memory(maker: Maker) -> None:
    body = bytes(48 << 20)
    path = maker.capture(PAGE, [answer(PAGE, b"<p>"), answer(f"{PAGE}/video", body, mime="video/mp4")])
    del body
    tracemalloc.start()
    try:
        row = _rows(maker, path)
        size = sum(len(piece) for piece in reading.payload(path, _url(row, f"{PAGE}/video")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 48 << 20
    assert peak < 4 << 20


def test_truncation_anywhere_is_malformed(maker: Maker) -> None:
    path = maker.capture(PAGE, [answer(PAGE, b"<p>page")])
    data = path.read_bytes()
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(MalformedError):
            _rows(maker, path)


def test_any_record_dropped_doubled_or_moved_is_malformed_or_another_row(maker: Maker) -> None:
    path = maker.capture(PAGE, [answer(PAGE, b"<p>page")])
    members = _members(path)
    for n in range(len(members)):
        for changed in (members[:n] + members[n + 1 :], [*members[:n], members[n], *members[n:]]):
            with pytest.raises(MalformedError):
                _rows(maker, _rewritten(path, changed))
    with pytest.raises(MalformedError, match="after the seal"):
        _rows(maker, _rewritten(path, [*members[:-2], members[-1], members[-2]]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"status": 200', b'"status": "a"'),
        (b'"page": 1', b'"page": 2'),
        (b'"complete"', b'"complet!"'),
        (b'"missing": []', b'"missing": {}'),
        (b'"https://example.vn/tin"', b'"gopher://example.vn/ti"'),
        (b'"captured"', b'"\\u001b[2J"'),
    ],
)
def test_outcome_with_a_wrong_value_is_malformed(maker: Maker, old: bytes, new: bytes) -> None:
    path = maker.capture(PAGE)
    members = _members(path)
    outcome = next(n for n, m in enumerate(members) if b"urn:mirror:outcome:" in m)
    head, block = members[outcome].split(b"\r\n\r\n", 1)
    changed = block.removesuffix(b"\r\n\r\n").replace(old, new)
    assert changed != block.removesuffix(b"\r\n\r\n")
    length = b"Content-Length: %d\r\n" % (len(block) - 4)
    head = (head + b"\r\n").replace(length, b"Content-Length: %d\r\n" % len(changed))
    members[outcome] = head + b"\r\n" + changed + b"\r\n\r\n"
    with pytest.raises(MalformedError):
        _rows(maker, _rewritten(path, members))


def test_file_of_another_name_is_malformed(maker: Maker) -> None:
    path = maker.capture(PAGE)
    other = path.with_name("00000000-0000-4000-8000-000000000000.warc.gz")
    path.rename(other)
    with pytest.raises(MalformedError, match="another capture"):
        _rows(maker, other)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x1f\x8b" + bytes(40), gzip.compress(b"x" * 300_000), gzip.compress(b"")]
)
def test_foreign_bytes_are_malformed(maker: Maker, data: bytes) -> None:
    path = maker.capture(PAGE)
    path.write_bytes(data)
    with pytest.raises(MalformedError):
        _rows(maker, path)


def test_missing_file_and_link_are_errors_of_the_home(maker: Maker, tmp_path: Path) -> None:
    path = maker.capture(PAGE)
    row = _rows(maker, path)
    away = tmp_path / "away"
    path.rename(away)
    with pytest.raises(HomeError):
        reading.outcome(path, row)
    path.symlink_to(away)
    with pytest.raises(HomeError):
        _rows(maker, path)


def test_stale_offset_says_to_rebuild(maker: Maker) -> None:
    path = maker.capture(PAGE, [answer(PAGE, b"one"), answer(f"{PAGE}/2", b"two")])
    first, second = _rows(maker, path).urls
    wrong = UrlRow(**{n: getattr(first if n != "offset" else second, n) for n in UrlRow.__slots__})
    with pytest.raises(MalformedError, match="index rebuild"):
        reading.record(path, wrong)


def test_broken_chunks_give_what_stands_before_the_break(maker: Maker) -> None:
    exchange = chunked(PAGE, [b"x"])
    exchange.head = exchange.head.replace(b"Content-Encoding: gzip\r\n", b"")
    exchange.body = [b"4\r\ngood\r\nzz\r\nbad"]
    exchange.body_size = len(exchange.body[0])
    path = maker.capture(PAGE, [exchange])
    row = _rows(maker, path)
    url = row.urls[0]
    kept = reading.record(path, url).payload
    assert b"bad" not in kept
    assert url.digest == "sha256:" + hashlib.sha256(exchange.body[0]).hexdigest()
    assert b"".join(reading.payload(path, url)) == kept
