"""One exchange: what crossed the wire, byte for byte, in both directions, and a name for every way to fail."""

from __future__ import annotations

import asyncio
import datetime
import errno
import hashlib
import ssl
import tempfile
from pathlib import Path

import pytest
from awkward import CLOSED, CUT, KEEP, WHOLE
from servers import (
    Authority,
    Call,
    Names,
    answer,
    free_port,
    listening,
    loops,
    run,
    serving,
    then_close,
    then_hold,
)

from mirror.formats.http1 import MAX_HEAD
from mirror.formats.urls import parse_href
from mirror.model import Exchange, FailureKind, Truncation
from mirror.net.connector import Vantage
from mirror.net.fetch import Fetcher
from mirror.net.guard import Guard
from mirror.net.wire import SPOOL_FROM, FetchLimits

HEADERS = [("User-Agent", "Test/1"), ("Accept", "*/*"), ("Connection", "keep-alive")]
LIMITS = FetchLimits(connect_s=10, idle_s=10, total_s=20)


def fetcher(*, allow_private: bool = True, **more: object) -> Fetcher:
    more.setdefault("spool", tempfile.TemporaryFile)
    more.setdefault("vantage", Vantage())
    return Fetcher(guard=Guard(allow_private=allow_private), **more)  # type: ignore[arg-type]


async def fetch(own: Fetcher, url: str, limits: FetchLimits = LIMITS) -> Exchange:
    return await own.fetch(parse_href(url), headers=HEADERS, limits=limits)


def received(exchange: Exchange) -> bytes:
    if exchange.spool is not None:
        exchange.spool.seek(0)
        body = exchange.spool.read()
        exchange.spool.close()
    else:
        body = b"".join(exchange.body)
    assert len(body) == exchange.body_size
    return b"".join(exchange.interim) + exchange.head + body + exchange.surplus


# -- what the server sent


@pytest.mark.parametrize("loop", loops())
def test_every_awkward_answer_is_kept_byte_for_byte(loop):
    async def main() -> None:
        pages = {f"/{name}": raw for name, raw in WHOLE.items()}
        pages |= {f"/{name}": then_close(raw) for name, raw in {**CLOSED, **CUT}.items()}
        async with serving(pages) as site, fetcher() as own:
            for name, raw in {**WHOLE, **CLOSED}.items():
                got = await fetch(own, site.url(f"/{name}"))
                assert received(got) == raw, name
                assert (got.failure, got.truncated) == (None, None), name
            for name, raw in CUT.items():
                got = await fetch(own, site.url(f"/{name}"))
                assert received(got) == raw, name
                assert got.truncated is Truncation.DISCONNECT, name
                assert got.failure is not None and got.failure.kind is FailureKind.DISCONNECTED, name

    run(main(), loop)


def test_what_is_unusual_is_named():
    async def main() -> None:
        async with serving({f"/{name}": then_close(raw) for name, raw in CLOSED.items()}) as site, fetcher() as own:
            found = {name: (await fetch(own, site.url(f"/{name}"))).malformed for name in CLOSED}
        assert found == {
            "close-delimited": None,
            "no-status-line": "no HTTP status line",
            "contradictory-lengths": "contradictory or unreadable Content-Length",
            "broken-chunks": "chunked body: not a chunk size",
        }

    run(main())


def test_interim_answers_are_kept_apart():
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"

    async def main() -> None:
        async with serving({"/": hints + hints + answer(b"page")}) as site, fetcher() as own:
            got = await fetch(own, site.url())
        assert got.interim == (hints, hints)
        assert got.head + b"".join(got.body) == answer(b"page")
        assert got.status == 200

    run(main())


def test_bytes_after_the_answer_are_kept_and_end_the_connection():
    async def main() -> None:
        async with serving({"/": answer(b"page") + b"surplus"}) as site, fetcher() as own:
            first = await fetch(own, site.url())
            second = await fetch(own, site.url())
            assert (first.surplus, b"".join(first.body)) == (b"surplus", b"page")
            assert first.connection is not second.connection
            assert site.accepted == 2

    run(main())


def test_parsed_view_and_times_go_with_the_bytes():
    async def main() -> None:
        async with serving({"/": WHOLE["plain"]}) as site, fetcher() as own:
            got = await fetch(own, site.url())
        assert (got.status, got.header("set-cookie")) == (200, "a=1; Path=/")
        assert got.first_byte is not None and 0 <= got.first_byte <= got.seconds
        assert got.connection is not None
        assert (got.connection.peer, got.connection.host, got.connection.tls) == ("127.0.0.1", "127.0.0.1", None)

    run(main())


# -- what we sent


def test_request_is_recorded_as_the_server_received_it():
    async def main() -> None:
        async with serving({"/a?b=%C4%91&c": answer(b"x")}) as site, fetcher() as own:
            got = await fetch(own, site.url("/a?b=đ&c#fragment"))
            assert site.calls[0].raw == got.request
            lines = got.request.decode().split("\r\n")
            assert lines == [
                "GET /a?b=%C4%91&c HTTP/1.1", f"Host: 127.0.0.1:{site.port}", "User-Agent: Test/1", "Accept: */*",
                "Connection: keep-alive", "", "",
            ]  # fmt: skip

    run(main())


def test_no_request_is_recorded_where_none_was_sent():
    async def main() -> None:
        async with fetcher() as own:
            got = await fetch(own, f"http://127.0.0.1:{free_port()}/")
        assert (got.request, got.answered) == (b"", False)
        assert got.failure is not None and got.failure.kind is FailureKind.REFUSED
        assert got.connection is not None and got.connection.host == "127.0.0.1"

    run(main())


# -- cut off by a limit


def test_silence_is_cut_and_declared():
    limits = FetchLimits(idle_s=0.2, total_s=20)

    async def main() -> None:
        pages = {"/none": then_hold(b""), "/head": then_hold(KEEP), "/body": then_hold(CUT["truncated"])}
        async with serving(pages) as site, fetcher() as own:
            for path, kept, truncated in (
                ("/none", b"", None),
                ("/head", KEEP, Truncation.TIME),
                ("/body", CUT["truncated"], Truncation.TIME),
            ):
                got = await fetch(own, site.url(path), limits)
                assert (received(got), got.truncated) == (kept, truncated)
                assert got.failure is not None and got.failure.kind is FailureKind.TIMEOUT

    run(main())


def test_a_trickle_is_cut_at_the_total_time():
    async def trickle(call: Call) -> None:
        call.writer.write(KEEP + b"Content-Length: 100000\r\n\r\n")
        while not call.site.closed.is_set():
            call.writer.write(b".")
            await call.writer.drain()
            await asyncio.sleep(0.02)

    async def main() -> None:
        async with serving({"/": trickle}) as site, fetcher() as own:
            got = await fetch(own, site.url(), FetchLimits(idle_s=10, total_s=0.4))
        assert got.truncated is Truncation.TIME and got.body_size > 0
        assert got.failure is not None and got.failure.kind is FailureKind.TIMEOUT

    run(main())


def test_idle_time_begins_anew_with_every_piece():
    """Three pieces, each within the idle time, together beyond it; then another exchange on the same connection."""

    async def slowly(call: Call) -> None:
        call.writer.write(KEEP + b"Content-Length: 3\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0.25)
            call.writer.write(b".")
            await call.writer.drain()

    async def main() -> None:
        async with serving({"/": slowly, "/quick": answer(b"q")}) as site, fetcher() as own:
            limits = FetchLimits(idle_s=0.5, total_s=20)
            got = await fetch(own, site.url(), limits)
            assert (got.failure, got.body_size) == (None, 3)
            assert (await fetch(own, site.url("/quick"), limits)).failure is None
            assert site.accepted == 1

    run(main())


def test_no_timer_is_left_behind():
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, fetcher() as own:
            for _ in range(5):
                await fetch(own, site.url(), FetchLimits(idle_s=3600, total_s=7200))
            loop = asyncio.get_running_loop()
            waiting = [h for h in loop._scheduled if not h.cancelled() and "_idle" in repr(h)]  # type: ignore[attr-defined]
        assert waiting == []

    run(main())


def test_endless_bodies_and_heads_are_cut_by_size():
    async def endless(call: Call) -> None:
        call.writer.write(KEEP + b"\r\n")
        while True:
            call.writer.write(b"z" * 65536)
            await call.writer.drain()

    async def flood(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            call.writer.write(b"X-Flood: " + b"f" * 8000 + b"\r\n")
            await call.writer.drain()

    async def main() -> None:
        interims = b"HTTP/1.1 102 Processing\r\n\r\n" * 50
        async with serving({"/body": endless, "/head": flood, "/interim": interims}) as site, fetcher() as own:
            got = await fetch(own, site.url("/body"), FetchLimits(max_bytes=200_000))
            assert got.truncated is Truncation.LENGTH and 200_000 < got.body_size < 1_000_000
            head = await fetch(own, site.url("/head"))
            assert head.truncated is Truncation.LENGTH and len(head.head) == MAX_HEAD
            interim = await fetch(own, site.url("/interim"))
            assert interim.truncated is Truncation.LENGTH and len(interim.interim) == 33
            for each in (got, head, interim):
                assert each.failure is not None and each.failure.kind is FailureKind.LIMIT

    run(main())


def test_a_shared_budget_cuts_all_who_share_it():
    async def endless(call: Call) -> None:
        call.writer.write(KEEP + b"\r\n")
        while True:
            call.writer.write(b"z" * 16384)
            await call.writer.drain()

    async def main() -> None:
        spent = 0

        def spend(size: int) -> bool:
            nonlocal spent
            spent += size
            return spent < 3_000_000

        async with serving({"/": endless}) as site, fetcher() as own:
            limits = FetchLimits(spend=spend)
            found = await asyncio.gather(*(fetch(own, site.url(), limits) for _ in range(8)))
        assert all(e.truncated is Truncation.LENGTH for e in found)
        assert sum(len(received(e)) - len(e.head) for e in found) == spent < 8_000_000

    run(main())


# -- connections


@pytest.mark.parametrize("loop", loops())
def test_connections_are_used_again(loop):
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, fetcher() as own:
            found = [await fetch(own, site.url()) for _ in range(5)]
            assert site.accepted == 1
            assert len({id(e.connection) for e in found}) == 1

    run(main(), loop)


@pytest.mark.parametrize("loop", loops())
def test_a_kept_connection_that_the_server_gave_up_is_asked_again_on_a_new_one(loop):
    async def once(call: Call) -> None:
        if call.number == 1:
            call.writer.write(answer(b"first"))
        else:
            call.site.calls.pop()
            call.close()  # nothing is answered

    async def main() -> None:
        async with serving({"/": once}) as site, fetcher() as own:
            for _ in range(3):
                got = await fetch(own, site.url())
                assert (got.failure, b"".join(got.body)) == (None, b"first")
            assert site.accepted == 3

    run(main(), loop)


def test_a_new_connection_without_an_answer_is_not_asked_again():
    async def main() -> None:
        async with serving({"/": then_close(b"")}) as site, fetcher() as own:
            got = await fetch(own, site.url())
            assert site.accepted == 1
        assert got.failure is not None and got.failure.kind is FailureKind.DISCONNECTED
        assert (got.truncated, got.answered, got.request != b"") == (None, False, True)

    run(main())


def test_a_slow_server_delays_no_other():
    async def main() -> None:
        async with serving({"/": then_hold(KEEP)}) as slow, serving({"/": answer(b"x")}) as quick, fetcher() as own:
            waiting = [asyncio.create_task(fetch(own, slow.url())) for _ in range(60)]
            while slow.accepted < 24:  # as many as one host may have
                await asyncio.sleep(0)
            for _ in range(20):
                assert (await fetch(own, quick.url())).failure is None
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(main())


def test_waiting_for_a_free_connection_is_not_blamed_on_the_server():
    async def slowly(call: Call) -> None:
        await asyncio.sleep(0.3)
        call.writer.write(answer(b"x"))

    async def main() -> None:
        async with serving({"/": slowly}) as site, fetcher(connections_per_host=1) as own:
            limits = FetchLimits(connect_s=0.2, idle_s=10, total_s=20)
            found = await asyncio.gather(*(fetch(own, site.url(), limits) for _ in range(4)))
        assert [e.failure for e in found] == [None] * 4

    run(main())


def test_a_name_server_that_is_slow_for_one_name_delays_no_other():
    class Slow(Names):
        async def resolve(self, host, port=0, family=0):
            if host.startswith("slow"):
                await asyncio.Event().wait()
            return await super().resolve(host, port, family)

    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, fetcher(resolver=Slow()) as own:
            limits = FetchLimits(connect_s=0.5, total_s=20)
            slow = [asyncio.create_task(fetch(own, f"http://slow{i}.example/", limits)) for i in range(50)]
            got = await fetch(own, site.url(host="quick.example"))
            assert got.failure is None and not any(task.done() for task in slow)
            for exchange in await asyncio.gather(*slow):
                assert exchange.failure is not None and exchange.failure.kind is FailureKind.TIMEOUT

    run(main())


def test_dns_answers_are_recorded_and_missing_names_named():
    async def main() -> None:
        names = Names({"two.example": [["127.0.0.1", "127.0.0.2"]], "gone.example": [[]]})
        async with serving({"/": answer(b"x")}) as site, fetcher(resolver=names) as own:
            got = await fetch(own, site.url(host="two.example"))
            assert got.connection is not None and got.connection.resolved == ("127.0.0.1", "127.0.0.2")
            gone = await fetch(own, "http://gone.example/")
        assert gone.failure is not None and gone.failure.kind is FailureKind.DNS
        assert gone.connection is not None and gone.connection.resolved == ()

    run(main())


def test_system_resolver_is_asked_for_names():
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, fetcher() as own:
            got = await fetch(own, site.url(host="localhost"))
        assert got.failure is None
        assert got.connection is not None and "127.0.0.1" in got.connection.resolved

    run(main())


# -- large bodies


def test_large_bodies_go_to_a_file_small_ones_do_not():
    large = bytes(range(256)) * (3 * SPOOL_FROM // 256)

    async def main() -> None:
        pages = {"/large": answer(large), "/small": answer(large[: SPOOL_FROM // 2])}
        async with serving(pages) as site, fetcher() as own:
            small, got = await fetch(own, site.url("/small")), await fetch(own, site.url("/large"))
        assert small.spool is None and got.spool is not None and got.body == []
        assert hashlib.sha256(received(got)).digest() == hashlib.sha256(pages["/large"]).digest()

    run(main())


class Short:
    """A raw file that takes at most 7,000 bytes a time, as a raw file may, and fails after `room`."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.file, self.room, self.closed = tempfile.TemporaryFile(buffering=0), room, False

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: min(7000, self.room)])
        self.room -= written
        return written

    def seek(self, *where: int) -> int:
        return self.file.seek(*where)

    def read(self, *size: int) -> bytes:
        return self.file.read(*size)

    def close(self) -> None:
        self.closed = True
        self.file.close()


def test_a_file_that_takes_less_than_asked_gets_the_rest_too():
    async def main() -> None:
        page = answer(bytes(range(256)) * 8192)
        async with serving({"/": page}) as site, fetcher(spool=Short) as own:
            assert received(await fetch(own, site.url())) == page

    run(main())


def test_a_full_disk_is_an_error_not_silence():
    files: list[Short] = []

    def spool() -> Short:
        files.append(Short(room=1_500_000))
        return files[-1]

    async def main() -> None:
        async with serving({"/": answer(b"x" * 4_000_000)}) as site, fetcher(spool=spool) as own:
            with pytest.raises(OSError, match="No space left"):
                await fetch(own, site.url())
        assert [f.closed for f in files] == [True]

    run(main())


def test_a_device_that_is_really_full_is_an_error_too():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")

    async def main() -> None:
        async with (
            serving({"/": answer(b"x" * 4_000_000)}) as site,
            fetcher(spool=lambda: open("/dev/full", "r+b", buffering=0)) as own,
        ):
            with pytest.raises(OSError) as error:
                await fetch(own, site.url())
        assert error.value.errno == errno.ENOSPC

    run(main())


def test_cancelling_closes_connection_and_file():
    files: list[Short] = []

    def spool() -> Short:
        files.append(Short())
        return files[-1]

    async def main() -> None:
        async with serving({"/": then_hold(KEEP + b"\r\n" + b"x" * 2_000_000)}) as site, fetcher(spool=spool) as own:
            task = asyncio.create_task(fetch(own, site.url()))
            while not files:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert files[0].closed

    run(main())


# -- TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("loop", loops())
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_recorded_with_the_chain(loop, version, authority):
    async def main() -> None:
        tls = authority.server("site.example", version=version)
        async with (
            serving({"/": WHOLE["chunked"]}, tls=tls) as site,
            fetcher(trust=authority.trust(), resolver=Names()) as own,
        ):
            got = await fetch(own, site.url(host="site.example", scheme="https"))
        assert received(got) == WHOLE["chunked"]
        connection = got.connection
        assert connection is not None
        assert connection.tls == version.name.replace("_", ".")
        assert connection.cipher and connection.verified is True
        leaf = ssl.DER_cert_to_PEM_cert(connection.chain[0])
        assert "BEGIN CERTIFICATE" in leaf and connection.peer == "127.0.0.1"

    run(main(), loop)


def bad_servers(authority: Authority) -> dict[str, ssl.SSLContext]:
    then = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return {
        "untrusted": Authority().server("site.example"),
        "expired": authority.server(
            "site.example", not_before=then, not_after=then + datetime.timedelta(days=1)
        ),
        "wrong host": authority.server("other.example"),
    }  # fmt: skip


@pytest.mark.parametrize("loop", loops())
def test_invalid_tls_is_a_failure_and_captured_only_when_allowed(loop, authority):
    async def main() -> None:
        for name, tls in bad_servers(authority).items():
            async with serving({"/": answer(b"x")}, tls=tls) as site:
                url = site.url(host="site.example", scheme="https")
                async with fetcher(trust=authority.trust(), resolver=Names()) as own:
                    got = await fetch(own, url)
                    assert got.failure is not None and got.failure.kind is FailureKind.TLS, name
                    assert (got.answered, site.calls) == (False, []), name
                allowed = fetcher(trust=authority.trust(), resolver=Names(), allow_invalid_tls=True)
                async with allowed as own:
                    found = [await fetch(own, url) for _ in range(3)]
                    for got in found:
                        assert (got.failure, b"".join(got.body)) == (None, b"x"), name
                        assert got.connection is not None and got.connection.verified is False
                        assert got.connection.chain
                assert site.accepted == 1, name  # one connection for the three exchanges

    run(main(), loop)


def test_no_tls_where_it_was_expected_is_a_tls_failure():
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(b"plain"))
        await writer.drain()

    async def main() -> None:
        async with listening(shout) as port, fetcher() as own:
            got = await fetch(own, f"https://127.0.0.1:{port}/")
        assert got.failure is not None and got.failure.kind is FailureKind.TLS

    run(main())


def test_a_handshake_that_hangs_ends_at_the_connect_limit():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with listening(silent) as port, fetcher() as own:
            got = await fetch(own, f"https://127.0.0.1:{port}/", FetchLimits(connect_s=0.3))
        assert got.failure is not None and got.failure.kind is FailureKind.TIMEOUT

    run(main())


@pytest.mark.parametrize("loop", loops())
def test_closing_does_not_wait_for_a_peer_that_ignores_the_end_of_tls(loop, authority):
    """The peer completes the handshake in a thread of its own and then never reads again."""
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        plain, _ = listener.accept()
        wrapped = authority.server("site.example").wrap_socket(plain, server_side=True)
        wrapped.recv(65536)
        wrapped.sendall(answer(b"x"))
        done.wait(60)
        wrapped.close()

    thread = threading.Thread(target=serve)
    thread.start()

    async def main() -> None:
        url = f"https://site.example:{listener.getsockname()[1]}/"
        async with asyncio.timeout(15):  # the usual wait of a polite close is 30 s
            async with fetcher(trust=authority.trust(), resolver=Names()) as own:
                assert (await fetch(own, url)).failure is None

    try:
        run(main(), loop)
    finally:
        done.set()
        thread.join()
        listener.close()
