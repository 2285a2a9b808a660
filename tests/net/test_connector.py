"""aiohttp's inner joints that `net.fetch` stands on: each test here fails when an upgrade moves one."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import sys
import tempfile

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from servers import Authority, Names, answer, loops, run, serving

from mirror.formats.urls import parse_href
from mirror.net import connector as connectors
from mirror.net import fetch as module
from mirror.net.connector import Vantage
from mirror.net.fetch import Fetcher
from mirror.net.guard import Guard
from mirror.net.wire import FetchLimits

LIMITS = FetchLimits(total_s=20)
MEMBERS = {"is_connected", "should_close", "close", "abort", "closed", "transport"}
"""What the pool asks of a protocol; `Wire` has them all."""

ORIGIN = {"connection_key", "host", "port", "proxy", "raw_host", "server_hostname", "ssl", "url", "is_ssl"}


def test_create_connection_takes_request_traces_and_timeout():
    method = aiohttp.TCPConnector._create_connection
    assert list(inspect.signature(method).parameters) == ["self", "req", "traces", "timeout"]
    assert inspect.iscoroutinefunction(method)


def test_connect_takes_request_traces_and_timeout():
    assert list(inspect.signature(aiohttp.BaseConnector.connect).parameters) == ["self", "req", "traces", "timeout"]


def test_connection_key_has_the_fields_we_fill():
    ours = ["host", "port", "is_ssl", "ssl", "proxy", "proxy_auth", "proxy_headers_hash"]
    assert list(ConnectionKey._fields[: len(ours)]) == ours
    assert set(ConnectionKey._fields[len(ours) :]) <= set(ConnectionKey._field_defaults)


def test_connection_hands_out_its_protocol_and_takes_it_back():
    for name in ("release", "close", "protocol"):
        assert hasattr(aiohttp.connector.Connection, name)


@pytest.mark.parametrize("loop", loops())
@pytest.mark.parametrize("secure", [False, True])
def test_connector_asks_only_for_members_we_have(loop, secure, monkeypatch):
    asked: dict[str, set[str]] = {"wire": set(), "origin": set()}

    def watched(base: type, what: str) -> type:
        def read(self, name):
            if sys._getframe(1).f_globals["__name__"].startswith("aiohttp"):
                asked[what].add(name)
            return base.__getattribute__(self, name)

        return type(base.__name__, (base,), {"__getattribute__": read, "__slots__": ()})

    monkeypatch.setattr(connectors, "Wire", watched(connectors.Wire, "wire"))
    monkeypatch.setattr(module, "Origin", watched(module.Origin, "origin"))
    authority = Authority()

    async def main() -> None:
        tls = authority.server("site.example") if secure else None
        pages = {"/": answer(b"x"), "/last": answer(b"x", extra="Connection: close\r\n")}
        async with serving(pages, tls=tls) as site:
            own = Fetcher(
                vantage=Vantage(), guard=Guard(allow_private=True), spool=tempfile.TemporaryFile,
                trust=authority.trust(), resolver=Names(),
            )  # fmt: skip
            async with own:
                scheme = "https" if secure else "http"
                for path in ("/", "/", "/last", "/"):
                    url = parse_href(site.url(path, host="site.example", scheme=scheme))
                    got = await own.fetch(url, headers=[], limits=LIMITS)
                    assert got.failure is None
                    assert got.connection is not None and got.connection.number in (1, 2)
        assert site.accepted == 2

    run(main(), loop)
    events = {*dir(asyncio.Protocol), "get_buffer"}  # the loop's questions, asked below the same frame under uvloop
    assert asked["wire"] - MEMBERS - events == set() and "is_connected" in asked["wire"]
    assert asked["origin"] - ORIGIN == set() and "connection_key" in asked["origin"]


@pytest.mark.parametrize("loop", loops())
def test_factory_makes_the_protocol_and_the_guard_makes_the_socket(loop):
    made: list[tuple[object, ...]] = []

    class Watching(Guard):
        def socket(self, info):
            made.append(info[4])
            return super().socket(info)

    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site:
            guard = Watching(allow_private=True)
            async with Fetcher(vantage=Vantage(), guard=guard, spool=tempfile.TemporaryFile) as own:
                connector = own._connector
                origin = own._origin(parse_href(site.url()), True)
                pooled = await connector.connect(origin, [], module._connect_within(5))
                assert type(pooled.protocol) is connectors.Wire
                assert pooled.protocol.connection.peer == "127.0.0.1"
                pooled.release()
                again = await connector.connect(origin, [], module._connect_within(5))
                assert again.protocol.is_connected() and made == [("127.0.0.1", site.port)]
                again.close()

    run(main(), loop)


def test_context_given_is_the_one_that_verifies():
    """`_get_ssl_context` takes the connector's own context, and the unverified one only from the origin."""

    async def main() -> None:
        trust = ssl.create_default_context()
        own = Fetcher(
            vantage=Vantage(), guard=Guard(), spool=tempfile.TemporaryFile, trust=trust, allow_invalid_tls=True
        )
        async with own:
            url = parse_href("https://site.example/")
            assert own._connector._get_ssl_context(own._origin(url, True)) is trust
            unverified = own._connector._get_ssl_context(own._origin(url, False))
            assert unverified is not trust and unverified.verify_mode is ssl.CERT_NONE
            plain = own._origin(parse_href("http://site.example/"), True)
            assert own._connector._get_ssl_context(plain) is None

    run(main())
