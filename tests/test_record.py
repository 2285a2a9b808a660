"""What is recorded is read back byte for byte: by our reader, by warcio, by FastWARC; and `warcio check` is clean."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import KEY, Maker, answer, chunked
from make_samples import members
from warcio.archiveiterator import ArchiveIterator

from mirror.errors import LimitError
from mirror.formats import http1, segments
from mirror.model import CaptureId, Connection, Exchange, Failure, FailureKind, Truncation
from mirror.record import Recorder
from mirror.store import home, reading, secrets
from mirror.verify import verifier
from mirror.verify.policy import TrustPolicy
from mirror.verify.verdict import Outcome

CAPTURE = CaptureId("1b4e28ba-2fa1-41d2-883f-0016d3cca427")
URL = "https://example.vn/tin"
STARTED = 1_795_255_323.25


class Memory:
    """A sink that keeps the file in memory."""

    def __init__(self) -> None:
        self.data = b""

    def writev(self, parts: Sequence[bytes | memoryview]) -> None:
        self.data += b"".join(parts)


def recorded(exchanges: list[Exchange], signers: Sequence[Any] = (KEY,)) -> bytes:
    """A whole sealed file with these exchanges."""
    sink = Memory()
    recorder = Recorder(sink, CAPTURE, random=bytes(range(44)))
    recorder.info("mirror/test", STARTED)
    for number, exchange in enumerate(exchanges):
        exchange.started = STARTED + number
        recorder.exchange(exchange)
    recorder.exchanges(STARTED + 50)
    recorder.metadata("outcome", "application/json", [b"{}"], STARTED + 50)
    sealed = recorder.seal(signers, started=STARTED, finished=STARTED + 51, version="0")
    assert (sealed.size, recorder.size) == (len(sink.data), len(sink.data))
    return sink.data


def records(data: bytes) -> list[tuple[Any, bytes]]:
    """Headers and block of each record, as warcio reads them."""
    found = []
    for record in ArchiveIterator(io.BytesIO(data), no_record_parse=True):
        found.append((record.rec_headers, record.content_stream().read()))
    return found


def of_type(data: bytes, *kinds: str) -> list[tuple[Any, bytes]]:
    return [(h, b) for h, b in records(data) if h.get_header("WARC-Type") in kinds]


def warcio_check(folder: Path, *files: bytes) -> None:
    paths = []
    for number, data in enumerate(files):
        paths.append(folder / f"{number}.warc.gz")
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "warcio.cli", "check", "-v", *paths], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout
    assert "fail" not in done.stdout.lower().replace("failed: 0", "")


def trusted(data: bytes, folder: Path, *keys: Any, threshold: int = 1) -> Outcome:
    path = folder / "verified.warc.gz"
    path.write_bytes(data)
    policy = TrustPolicy(keys={k.keyid: k.verifier for k in keys or (KEY,)}, threshold=threshold)
    return verifier.verify(path, policy, deep=True).outcome


# -- exchanges of any kind

raw = st.binary(max_size=400)
lines = st.lists(
    st.sampled_from(
        [b"Set-Cookie: a=b; c\r\n", b"content-type: text/html\r\n", b"X: \xff\xfe\x00\r\n", b"Bad line\r\n",
         b" folded\r\n", b"ETag:\"x\"\n", b"Content-Type: image/png\r\n", b"Content-Encoding: gzip\r\n", b":\r\n",
         b"WARC-Type: seal\r\n"]
    ) | st.binary(max_size=30).map(lambda b: b"N" + b.replace(b"\n", b"") + b"\r\n"),  # an empty line ends a head
    max_size=8,
)  # fmt: skip
first_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 \xe2\x98\x83\r\n", b"HTTP/1.1  301\n", b"ICY 200 OK\r\n"]
)


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    kind = draw(st.sampled_from(["whole", "chunked", "cut", "headless", "bodiless", "endless-head"]))
    body = draw(raw)
    head = draw(first_lines) + b"".join(draw(lines)) + b"\r\n"
    if kind == "chunked":
        head = head[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        parts = [body[a : a + 7] for a in range(0, len(body), 7)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + draw(
            st.sampled_from([b"0\r\n\r\n", b"", b"zz\r\n"])
        )
    elif kind == "headless":
        head, body = b"", body or b"HTML"
    elif kind == "bodiless":
        body = b""
    elif kind == "endless-head":
        head, body = head.rstrip(b"\r\n"), b""
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    spool = None
    if draw(st.booleans()) and body:
        spool = io.BytesIO(body)
        pieces = []
    view = http1.parse_head(head)
    return Exchange(
        url=URL + draw(st.sampled_from(["", "?q=1", "/%C4%91"])),
        request=draw(st.sampled_from([b"GET / HTTP/1.1\r\nCookie: a\r\n\r\n", b""])),
        head=head, body=[p for p in pieces if p], spool=spool, body_size=len(body), status=view.status,
        fields=view.fields,
        chunked=kind == "chunked", truncated=draw(st.sampled_from(Truncation)) if kind == "cut" else None,
        interim=tuple(draw(st.lists(st.just(b"HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n"), max_size=2))),
        surplus=draw(st.sampled_from([b"", b"", b"more"])),
    )  # fmt: skip


def _bytes_of(exchange: Exchange) -> bytes:
    return b"".join(exchange.body) if exchange.spool is None else exchange.spool.getvalue()  # type: ignore[attr-defined]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_exchanges=st.lists(exchanges(), min_size=1, max_size=4))
def test_any_exchange_is_read_back_byte_for_byte(given_exchanges: list[Exchange]) -> None:
    data = recorded(given_exchanges)
    answers = iter(of_type(data, "response", "revisit"))
    requests = iter(of_type(data, "request"))
    kept: dict[str, bytes] = {}
    for exchange in given_exchanges:
        if exchange.answered:
            headers, block = next(answers)
            body = _bytes_of(exchange)
            digest = headers.get_header("WARC-Payload-Digest")
            # as other tools compute it; without a head they do not agree where a payload begins
            assert digest == (f"sha256:{sha256(body).hexdigest()}" if exchange.head else None)
            assert headers.get_header("WARC-Block-Digest") == f"sha256:{sha256(block).hexdigest()}"
            assert headers.get_header("WARC-Target-URI") == exchange.url
            assert headers.get_header("WARC-Truncated") == (exchange.truncated.value if exchange.truncated else None)
            if headers.get_header("WARC-Type") == "revisit":
                assert block == exchange.head
                assert kept[digest] == body
                assert exchange.truncated is None and not exchange.chunked
            else:
                assert block == exchange.head + body
                if digest and not exchange.chunked:
                    kept.setdefault(digest, body)
        if exchange.request:
            assert next(requests)[1] == exchange.request
    assert next(answers, None) is None and next(requests, None) is None
    fast = [r.reader.read() for r in FastIterator(io.BytesIO(data), parse_http=False)]
    assert fast == [block for _, block in records(data)]
    with tempfile.TemporaryDirectory() as folder:
        assert trusted(data, Path(folder)) is Outcome.VERIFIED


def test_our_own_reader_gives_the_same_bytes(tmp_path: Path) -> None:
    maker = Maker(home.create(tmp_path / "home"))
    big = bytes(range(256)) * 5000
    given = [
        answer(URL, b"<p>page"), chunked(URL + "/c", [b"<p>one", b"<p>two"]), answer(URL + "/e", b""),
        answer(URL + "/big", big, mime="video/mp4"), answer(URL + "/again", big, mime="video/mp4"),
    ]  # fmt: skip
    heads, payloads = [e.head for e in given], [http1.dechunk(e.body) if e.chunked else b"".join(e.body) for e in given]
    path = maker.capture(URL, given)
    row = reading.rows(path, maker.place.archives)
    assert [u.revisit for u in row.urls] == [False, False, False, False, True]
    for url, head, payload, exchange in zip(row.urls, heads, payloads, given, strict=True):
        assert reading.record(path, url).http_head == head
        assert b"".join(reading.payload(path, reading.stored(row, url))) == payload
        assert url.digest == f"sha256:{sha256(b''.join(exchange.body)).hexdigest()}"


# -- what others say of our files


def _spooled(body: bytes, **fields: Any) -> Exchange:
    exchange = answer(URL + "/spooled", body, **fields)
    exchange.body, exchange.spool = [], io.BytesIO(body)
    return exchange


def _without(exchange: Exchange, **fields: Any) -> Exchange:
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def _chunks(body: bytes, size: int) -> bytes:
    pieces = [body[a : a + size] for a in range(0, len(body), size)]
    return b"".join(b"%x;x=y\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\nT: 1\r\n\r\n"


BIG = bytes(range(256)) * 12_345
CUT = (3 << 20) + 17
AWKWARD = {
    "large": lambda: [answer(URL, BIG)],
    "spooled text": lambda: [_spooled(BIG * 2)],
    "spooled picture": lambda: [_spooled(BIG * 2, mime="image/jpeg")],
    "spooled, a segment long": lambda: [_spooled(bytes(segments.BODY_CUT)), _spooled(bytes(2 * segments.BODY_CUT))],
    "spooled, chunked": lambda: [
        _without(
            _spooled(_chunks(BIG, 70_000)), chunked=True, head=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
    ],
    "spooled revisit": lambda: [_spooled(BIG), _spooled(BIG), answer(URL + "/3", BIG)],
    "revisit": lambda: [answer(URL, b"same"), answer(URL + "/2", b"same", extra="X: 1\r\n"), answer(URL, b"same")],
    "empty twice": lambda: [answer(URL, b""), answer(URL + "/2", b"")],
    "bad lines": lambda: [_without(answer(URL, b"x"), head=b"HTTP/1.1 200 OK\r\nno colon\r\n \xff fold\r\n: \r\n\r\n")],
    "bare line feeds": lambda: [_without(answer(URL, b"x"), head=b"HTTP/1.1 200 OK\nA: b\n\n")],
    "latin": lambda: [_without(answer(URL, b"x"), head=b"HTTP/1.1 200 \xe9\r\nX-\xe9: \xe9\r\n\r\n")],
    "no status line": lambda: [_without(answer(URL, b"<p>text\r\n\r\nmore"), head=b"", status=0, fields=())],
    "no end of head": lambda: [
        _without(answer(URL, b""), head=b"HTTP/1.1 200 OK\r\nA: b", truncated=Truncation.DISCONNECT)
    ],
    "cut off": lambda: [_without(answer(URL, b"half"), truncated=kind) for kind in Truncation],
    "cut off, then whole": lambda: [_without(answer(URL, b"h"), truncated=Truncation.TIME), answer(URL, b"h")],
    "chunked": lambda: [chunked(URL, [b"a" * 99, b"b"])],
    "interim, surplus": lambda: [
        _without(answer(URL, b"x"), interim=(b"HTTP/1.1 103 E\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n"), surplus=b"junk")
    ],
    "only interim": lambda: [
        Exchange(url=URL, request=b"GET / HTTP/1.1\r\n\r\n", interim=(b"HTTP/1.1 103 E\r\n\r\n",),
                 truncated=Truncation.DISCONNECT)
    ],
    "refused": lambda: [Exchange(url=URL, failure=Failure(FailureKind.REFUSED, "refused"))],
    "nothing": list,
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_answers_are_whole_for_other_readers_and_verified(name: str, tmp_path: Path) -> None:
    data = recorded(AWKWARD[name]())
    assert trusted(data, tmp_path) is Outcome.VERIFIED
    fast = [r.reader.read() for r in FastIterator(io.BytesIO(data), parse_http=False)]
    assert fast == [block for _, block in records(data)]
    assert all(r.verify_block_digest() for r in FastIterator(io.BytesIO(data), parse_http=False))
    assert len(members(data)) == len(fast)


def test_warcio_check_is_clean_on_everything(tmp_path: Path) -> None:
    warcio_check(tmp_path, *(recorded(make()) for make in AWKWARD.values()))


def test_every_cut_is_declared() -> None:
    cut = of_type(recorded(AWKWARD["cut off"]()), "response")
    assert [h.get_header("WARC-Truncated") for h, _ in cut] == [t.value for t in Truncation]


def test_cut_off_body_is_never_referred_to() -> None:
    data = recorded(AWKWARD["cut off, then whole"]())
    assert len(of_type(data, "response")) == 2 and of_type(data, "revisit") == []


def test_revisit_names_what_it_repeats() -> None:
    first, second, _ = of_type(recorded(AWKWARD["revisit"]()), "response", "revisit")
    assert second[0].get_header("WARC-Refers-To") == first[0].get_header("WARC-Record-ID")
    assert second[0].get_header("WARC-Refers-To-Target-URI") == URL
    assert second[0].get_header("WARC-Refers-To-Date") == first[0].get_header("WARC-Date")
    assert second[0].get_header("WARC-Payload-Digest") == first[0].get_header("WARC-Payload-Digest")
    assert second[0].get_header("WARC-Profile").endswith("/revisit/identical-payload-digest")
    assert b"X: 1" in second[1]


def test_request_names_its_response() -> None:
    data = recorded([answer(URL, b"x")])
    ((response, _),), ((request, _),) = of_type(data, "response"), of_type(data, "request")
    assert request.get_header("WARC-Concurrent-To") == response.get_header("WARC-Record-ID")


def test_connection_is_recorded_with_each_response_and_once_in_the_log() -> None:
    connection = Connection(
        number=1, host="example.vn", port=443, peer="192.0.2.7", resolved=("192.0.2.7",), tls="TLSv1.3",
        cipher="TLS_AES_128_GCM_SHA256", verified=True, chain=(b"leaf", b"root"), opened=STARTED,
    )  # fmt: skip
    data = recorded([_without(answer(f"{URL}/{n}", b"x%d" % n), connection=connection) for n in range(3)])
    for headers, _ in of_type(data, "response"):
        assert headers.get_header("WARC-IP-Address") == "192.0.2.7"
        assert headers.get_header("WARC-Cipher-Suite") == "TLS_AES_128_GCM_SHA256"
        protocols = [value for name, value in headers.headers if name == "WARC-Protocol"]
        assert protocols == ["http/1.1", "tls/1.3"]
    (log,) = [b for h, b in records(data) if "urn:mirror:exchanges:" in (h.get_header("WARC-Target-URI") or "")]
    kinds = [json.loads(line)["type"] for line in log.splitlines()]
    assert sorted(kinds) == ["certificate", "certificate", "connection", "exchange", "exchange", "exchange"]


def test_log_tells_of_failures_and_of_any_text() -> None:
    strange = Exchange(
        url=URL, failure=Failure(FailureKind.TLS, 'a "quoted"\n\\ \x1b \u2028 đ \ud800 detail'), malformed="bad\tline"
    )
    data = recorded([strange])
    (log,) = [b for h, b in records(data) if "urn:mirror:exchanges:" in (h.get_header("WARC-Target-URI") or "")]
    (line,) = map(json.loads, log.decode().splitlines()) if b"\xe2\x80\xa8" not in log else [json.loads(log)]
    assert line["failure"]["kind"] == "tls" and '"quoted"' in line["failure"]["detail"]
    assert (line["malformed"], line["record"], line["status"]) == ("bad\tline", None, 0)


def test_file_says_nothing_of_host_user_or_path() -> None:
    import getpass
    import socket

    text = b"".join(h.to_str().encode() + b for h, b in records(recorded([answer(URL, b"x")]))).lower()
    for secret in (socket.gethostname(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        if len(secret) > 4:
            assert secret.lower().encode() not in text


# -- the seal


def test_k_of_n_signers(tmp_path: Path) -> None:
    keys = [secrets.generate(f"signer-{n}") for n in range(3)]
    data = recorded([answer(URL, b"x")], keys)
    assert trusted(data, tmp_path, *keys, threshold=2) is Outcome.VERIFIED
    assert trusted(data, tmp_path, *keys, threshold=3) is Outcome.VERIFIED
    assert trusted(data, tmp_path, keys[0], KEY, threshold=2) is Outcome.NOT_PROVEN
    assert trusted(data, tmp_path, KEY) is Outcome.NOT_PROVEN


def test_seal_and_opening_are_the_last_records_and_ids_count() -> None:
    data = recorded([answer(URL, b"x")])
    uris = [h.get_header("WARC-Target-URI") for h, _ in records(data)]
    assert uris[-2:] == [f"urn:mirror:opening:{CAPTURE}", f"urn:mirror:seal:{CAPTURE}"]
    ids = [h.get_header("WARC-Record-ID") for h, _ in records(data)]
    assert [int(i[-9:-1], 16) for i in ids] == list(range(len(ids)))
    assert all(re.fullmatch(r"<urn:uuid:[0-9a-f-]{36}>", i) for i in ids)


def test_lines_that_may_be_withheld_are_segments_of_their_own() -> None:
    data = recorded([answer(URL, b"x", extra="Set-Cookie: secret\r\nX-Plain: 1\r\nETag: tag\r\n")])
    found = records(data)
    opening = segments.Opening(next(b for h, b in found if "opening" in (h.get_header("WARC-Target-URI") or "")))
    plain = [gz_member for gz_member in map(_inflated, members(data)) if b"WARC-Type: response" in gz_member]
    parts, at = [], 0
    for length in opening.cut(1):
        parts.append(plain[0][at : at + length])
        at += length
    assert at == len(plain[0])
    assert {b"Set-Cookie: secret\r\n", b"ETag: tag\r\n", b"x\r\n\r\n"} <= set(parts)


def _inflated(member: bytes) -> bytes:
    import gzip

    return gzip.decompress(member)


def test_spool_that_lost_bytes_is_an_error_not_a_short_record() -> None:
    exchange = _spooled(bytes(CUT))
    exchange.spool = io.BytesIO(bytes(CUT - 1))
    with pytest.raises(LimitError, match="shorter"):
        recorded([exchange])
