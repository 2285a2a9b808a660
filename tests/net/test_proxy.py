"""Behind a proxy nothing is sent directly and no target is looked up here, whatever the proxy does."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator

import pytest
from servers import (
    Authority,
    Names,
    SmallProxy,
    answer,
    free_port,
    listening,
    loops,
    proxying,
    run,
    serving,
    then_hold,
)

from mirror.errors import NetworkError
from mirror.formats.urls import parse_href
from mirror.model import Exchange, FailureKind, Truncation
from mirror.net.connector import Vantage
from mirror.net.fetch import Fetcher
from mirror.net.guard import Guard
from mirror.net.tunnel import Proxy
from mirror.net.wire import FetchLimits

KINDS = ["socks5h", "http"]
LIMITS = FetchLimits(connect_s=10, idle_s=10, total_s=20)

_watching: list[list[tuple[str, str]]] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect"):
        what = arguments[0] if event != "socket.connect" else arguments[1]
        _watching[-1].append((event, str(what)))


sys.addaudithook(_audit)  # cannot be taken off again: it only listens while a test asks it to


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Every look-up and every connection that this process makes meanwhile (under the stock event loop)."""
    seen: list[tuple[str, str]] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.pop()


def fetcher(proxy: str, **more: object) -> Fetcher:
    vantage = Vantage(name="far", proxy=proxy)
    return Fetcher(vantage=vantage, guard=Guard(), spool=tempfile.TemporaryFile, **more)  # type: ignore[arg-type]


async def fetch(own: Fetcher, url: str, limits: FetchLimits = LIMITS) -> Exchange:
    return await own.fetch(parse_href(url), headers=[("Connection", "keep-alive")], limits=limits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loop", loops())
def test_name_reaches_the_proxy_unresolved(kind, loop):
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, proxying(kind, ("127.0.0.1", site.port)) as proxy:
            names = Names()
            async with fetcher(f"{kind}://127.0.0.1:{proxy.port}", resolver=names) as own:
                got = await fetch(own, "http://target.example/")
                again = await fetch(own, "http://target.example:81/")
            assert (got.failure, again.failure) == (None, None)
            assert proxy.asked == [("target.example", 80), ("target.example", 81)]
            assert names.asked == []
            assert got.connection is not None
            assert (got.connection.vantage, got.connection.peer, got.connection.resolved) == ("far", None, ())

    run(main(), loop)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loop", loops())
def test_tls_goes_through_the_proxy_to_the_target(kind, loop):
    authority = Authority()

    async def main() -> None:
        tls = authority.server("target.example")
        async with serving({"/": answer(b"x")}, tls=tls) as site, proxying(kind, ("127.0.0.1", site.port)) as proxy:
            way = f"{kind}://127.0.0.1:{proxy.port}"
            async with fetcher(way, trust=authority.trust()) as own:
                got = await fetch(own, "https://target.example/")
                wrong = await fetch(own, "https://other.example/")
            assert got.failure is None and got.connection is not None
            assert got.connection.verified is True and got.connection.chain
            assert proxy.asked == [("target.example", 443), ("other.example", 443)]
            assert wrong.failure is not None and wrong.failure.kind is FailureKind.TLS

    run(main(), loop)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_in_pieces_is_read_to_its_end_and_no_further(kind):
    async def main() -> None:
        async with (
            serving({"/": answer(b"x")}) as site,
            proxying(kind, ("127.0.0.1", site.port), slow_reply=True) as proxy,
            fetcher(f"{kind}://127.0.0.1:{proxy.port}") as own,
        ):
            got = await fetch(own, "http://target.example/")
        assert (got.failure, got.head + b"".join(got.body)) == (None, answer(b"x"))

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_no_look_up_and_no_connection_but_to_the_proxy(kind):
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, proxying(kind, ("127.0.0.1", site.port)) as proxy:
            async with fetcher(f"{kind}://127.0.0.1:{proxy.port}") as own:
                with watched() as seen:
                    for host in ("target.example", "localhost.example", "8.8.8.8", "[2606:4700::1111]", "x.onion"):
                        assert (await fetch(own, f"http://{host}/")).failure is None
            assert {host for host, _ in proxy.asked} >= {"8.8.8.8", "x.onion"}
            allowed = str(("127.0.0.1", proxy.port)), str(("127.0.0.1", site.port))  # the second one is the proxy's
            assert [what for event, what in seen if event == "socket.connect" and what not in allowed] == []
            assert {what for event, what in seen if event != "socket.connect"} <= {"127.0.0.1"}
            assert seen

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_the_proxy_dies_and_nothing_goes_out_directly(kind):
    """The target stands where a direct connection would find it: at the address its name really has."""

    async def main() -> None:
        pages = {"/": answer(b"x"), "/slow": then_hold(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")}
        async with serving(pages) as site:
            proxy = SmallProxy(("127.0.0.1", site.port))
            serve = proxy.socks if kind == "socks5h" else proxy.http
            async with fetcher(f"{kind}://127.0.0.1:{free_port()}", resolver=Names()) as nowhere:
                got = await fetch(nowhere, site.url(host="target.example"))
                assert got.failure is not None and got.failure.kind is FailureKind.PROXY
            async with contextlib.AsyncExitStack() as life:
                port = await life.enter_async_context(listening(serve))
                own = fetcher(f"{kind}://127.0.0.1:{port}", resolver=Names())
                assert (await fetch(own, site.url(host="target.example"))).failure is None
                held = asyncio.create_task(fetch(own, site.url("/slow", host="target.example")))
                while "/slow" not in site.paths():
                    await asyncio.sleep(0.01)
            broken = await held
            assert broken.failure is not None and broken.failure.kind is FailureKind.DISCONNECTED
            assert broken.truncated in (None, Truncation.DISCONNECT)
            before = site.accepted
            with watched() as seen:
                for i in range(50):
                    got = await fetch(own, site.url(host=f"target{i % 3}.example"))
                    assert got.failure is not None and got.failure.kind is FailureKind.PROXY
                    assert "127.0.0.1" not in got.failure.detail
            assert site.accepted == before
            assert {what for event, what in seen if event == "socket.connect"} == {str(("127.0.0.1", port))}
            await own.close()

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_refuses_or_talks_nonsense_is_a_proxy_failure(kind):
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: " + b"y" * 1000 + b"\r\n")
            await writer.drain()

    async def main() -> None:
        refusal = 2 if kind == "socks5h" else 403
        async with serving({"/": answer(b"x")}) as site:
            async with (
                proxying(kind, ("127.0.0.1", site.port), refusal=refusal) as proxy,
                fetcher(f"{kind}://127.0.0.1:{proxy.port}") as own,
            ):
                got = await fetch(own, "http://target.example/")
                assert got.failure is not None and got.failure.kind is FailureKind.PROXY
                assert ("not allowed" if kind == "socks5h" else "403") in got.failure.detail
            for bad in (nonsense, silent, endless):
                async with listening(bad) as port, fetcher(f"{kind}://127.0.0.1:{port}") as own:
                    got = await fetch(own, "http://target.example/")
                    assert got.failure is not None and got.failure.kind is FailureKind.PROXY
            assert site.accepted == 0

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_hangs_ends_at_the_connect_limit(kind):
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with listening(hang) as port, fetcher(f"{kind}://127.0.0.1:{port}") as own:
            got = await fetch(own, "http://target.example/", FetchLimits(connect_s=0.3))
        assert got.failure is not None and got.failure.kind is FailureKind.TIMEOUT

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_inner_hosts_are_never_asked_of_the_proxy(kind):
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, proxying(kind, ("127.0.0.1", site.port)) as proxy:
            async with fetcher(f"{kind}://127.0.0.1:{proxy.port}") as own:
                for host in ("127.0.0.1", "2130706433", "localhost", "[::1]", "10.0.0.1", "nas.local", "router"):
                    got = await fetch(own, f"http://{host}/")
                    assert got.failure is not None and got.failure.kind is FailureKind.BLOCKED_ADDRESS
            assert proxy.asked == []

    run(main())


# -- credentials


def test_each_fetcher_has_circuits_of_its_own():
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, proxying("socks5h", ("127.0.0.1", site.port)) as proxy:
            for _ in range(2):
                async with fetcher(f"socks5h://127.0.0.1:{proxy.port}") as own:
                    assert (await fetch(own, "http://one.example/")).failure is None
                    assert (await fetch(own, "http://two.example/")).failure is None
        first, second = proxy.credentials[:2], proxy.credentials[2:]
        assert len(set(first)) == len(set(second)) == 1
        assert first[0] != second[0] and all(first[0])

    run(main())


def test_a_proxy_without_authentication_works_all_the_same():
    async def main() -> None:
        async with (
            serving({"/": answer(b"x")}) as site,
            proxying("socks5h", ("127.0.0.1", site.port), methods=(0,)) as proxy,
            fetcher(f"socks5h://127.0.0.1:{proxy.port}") as own,
        ):
            assert (await fetch(own, "http://one.example/")).failure is None
        assert proxy.credentials == []

    run(main())


def test_credentials_of_the_configuration_are_sent_as_they_are():
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site:
            async with (
                proxying("socks5h", ("127.0.0.1", site.port)) as proxy,
                fetcher(f"socks5h://me:p%40ss:word@127.0.0.1:{proxy.port}") as own,
            ):
                assert (await fetch(own, "http://one.example/")).failure is None
            async with (
                proxying("http", ("127.0.0.1", site.port)) as web,
                fetcher(f"http://me:p%40ss:word@127.0.0.1:{web.port}") as own,
            ):
                assert (await fetch(own, "http://one.example/")).failure is None
        assert proxy.credentials == [("me", "p@ss:word")]
        assert b"Proxy-Authorization: Basic bWU6cEBzczp3b3Jk\r\n" in web.heads[0]
        assert b"User-Agent" not in web.heads[0]

    run(main())


def test_credentials_are_not_shown():
    proxy = Proxy.parse("socks5h://me:secret@127.0.0.1:9050")
    assert "secret" not in repr(proxy) and "me" not in repr(proxy).replace("scheme", "")
    assert proxy.isolated() is proxy


def test_other_kinds_of_proxy_are_refused():
    for url in ("socks5://127.0.0.1:9050", "https://127.0.0.1:1", "127.0.0.1:9050", "", "socks5h://127.0.0.1"):
        with pytest.raises(NetworkError):
            Proxy.parse(url)
