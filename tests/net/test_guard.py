"""No connection to an address that is not public, however it is written, named or reached."""

from __future__ import annotations

import asyncio
import socket
import tempfile

import pytest
from servers import Names, PublicLoopback, Site, answer, listening, loops, run, serving

from mirror.errors import BlockedAddressError, UrlError
from mirror.formats.urls import parse_href
from mirror.model import Exchange, FailureKind
from mirror.net.connector import Vantage
from mirror.net.fetch import Fetcher
from mirror.net.guard import Guard, RefusedAddress, refused, refused_at_far_end
from mirror.net.wire import FetchLimits

LIMITS = FetchLimits(connect_s=10, total_s=10)

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.0.1
    169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1
    192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
    64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1 64:ff9b:1::8.8.8.8
    100::1 100:0:0:1::1 2001::1 2001:0:7f00:1::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff::1 2001:db8::1
    2002:7f00:1:: 2002:a00:1::1 2002:808:808:: 2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1
    fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 4000::1 c000::1
    localhost 127.1 2130706433 0x7f000001 not-an-address
"""  # fmt: skip

PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.0.1
    172.15.255.255 172.32.0.0 192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:200::1 2001:4860:4860::8888 2003::1 2606:4700::1111 2a00:1450::1 3ffe::1
"""


@pytest.mark.parametrize("address", [*NOT_PUBLIC.split(), ""])
def test_address_that_is_not_public_gets_no_socket(address):
    assert refused(address)
    with pytest.raises(RefusedAddress):
        Guard().socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_address_gets_a_socket(address):
    assert not refused(address)
    Guard().socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))).close()


def test_private_address_gets_one_only_when_allowed():
    Guard(allow_private=True).socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))).close()


def test_inner_names_and_addresses_are_not_asked_of_a_proxy():
    for host in ("localhost", "LOCALHOST.", "a.localhost", "printer.local", "nas.lan", "x.internal", "x.home.arpa",
                 "intranet", "router.", "10.0.0.1", "127.0.0.1", "::1", "fd00::1"):  # fmt: skip
        assert refused_at_far_end(host), host
        with pytest.raises(BlockedAddressError):
            Guard().check_far_end(host)
        Guard(allow_private=True).check_far_end(host)
    for host in ("example.com", "example.onion", "local.example", "8.8.8.8", "2606:4700::1111", "vnexpress.net."):
        Guard().check_far_end(host)


def fetcher(guard: Guard | None = None, **more: object) -> Fetcher:
    return Fetcher(vantage=Vantage(), guard=guard or Guard(), spool=tempfile.TemporaryFile, **more)  # type: ignore[arg-type]


async def fetch(own: Fetcher, url: str) -> Exchange:
    return await own.fetch(parse_href(url), headers=[("Connection", "keep-alive")], limits=LIMITS)


ODD = """
    127.0.0.1 127.0.0.1. 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0 0.0.0.0 %31%32%37.0.0.1
    １２７.0.0.1 127。0。0。1 localhost LOCALHOST localhost. [::1] [::] [0:0:0:0:0:0:0:1] [::127.0.0.1]
    [::ffff:127.0.0.1]
    [::ffff:7f00:1] [::ffff:0:127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::127.0.0.1] [2002:7f00:1::] [2001::1] [fe80::1]
    169.254.169.254 [fd00:ec2::254] 10.1.2.3 192.168.1.1 255.255.255.255
"""


@pytest.mark.parametrize("loop", loops())
def test_no_notation_reaches_a_server_on_loopback(loop):
    async def main() -> None:
        async with serving({}, default=answer(b"secret")) as canary, fetcher() as own:
            for host in ODD.split():
                try:
                    url = parse_href(canary.url(host=host))
                except UrlError:
                    continue  # refused earlier
                got = await own.fetch(url, headers=[], limits=LIMITS)
                unknown = host == "localhost." and got.failure is not None and got.failure.kind is FailureKind.DNS
                assert unknown or (got.failure is not None and got.failure.kind is FailureKind.BLOCKED_ADDRESS), host
                assert not got.answered and got.request == b"", host
            assert canary.accepted == 0

    run(main(), loop)


def test_no_notation_reaches_a_server_on_ipv6_loopback():
    async def main() -> None:
        canary = Site(default=answer(b"secret"))
        try:
            async with listening(canary.serve, host="::1") as canary.port, fetcher() as own:
                for host in ("[::1]", "localhost", "[0::1]"):
                    got = await fetch(own, canary.url(host=host))
                    assert got.failure is not None and got.failure.kind is FailureKind.BLOCKED_ADDRESS, host
                assert canary.accepted == 0
        except OSError:
            pytest.skip("there is no IPv6 here")

    run(main())


def test_names_that_lead_inside_are_refused():
    names = Names(
        {
            "one.example": [["127.0.0.1"]],
            "many.example": [["10.0.0.1", "127.0.0.1", "::1"]],
            "mapped.example": [["::ffff:127.0.0.1"]],
            "metadata.example": [["169.254.169.254"]],
            "name.example": [["localhost"]],  # an answer that is itself a name, looked up again when connecting
        }
    )

    async def main() -> None:
        async with serving({}, default=answer(b"secret")) as canary, fetcher(resolver=names) as own:
            for host in ("one", "many", "mapped", "metadata", "name"):
                got = await fetch(own, canary.url(host=f"{host}.example"))
                assert got.failure is not None and got.failure.kind is FailureKind.BLOCKED_ADDRESS, host
                assert "--allow-private-hosts" in got.failure.detail
            assert canary.accepted == 0

    run(main())


def test_a_name_that_changes_its_address_is_refused_from_then_on():
    """The first answer is public and serves a page; the second, when the first one is forgotten, is our own host."""
    names = Names({"rebind.example": [[PublicLoopback.ADDRESS], ["127.0.0.1"]]})

    async def main() -> None:
        once = answer(b"public", extra="Connection: close\r\n")
        async with serving({"/": once}, host=PublicLoopback.ADDRESS) as public:
            canary = Site(default=answer(b"secret"))
            server = await asyncio.start_server(canary.serve, "127.0.0.1", public.port)
            async with server, fetcher(PublicLoopback(), resolver=names) as own:
                url = public.url(host="rebind.example")
                assert (await fetch(own, url)).status == 200
                own._connector.clear_dns_cache()
                got = await fetch(own, url)
                assert got.failure is not None and got.failure.kind is FailureKind.BLOCKED_ADDRESS
                assert names.asked == ["rebind.example"] * 2
                assert (public.accepted, canary.accepted) == (1, 0)

    run(main())


def test_a_private_address_beside_a_public_one_is_never_used():
    names = Names({"both.example": [["127.0.0.1", PublicLoopback.ADDRESS]]})

    async def main() -> None:
        once = answer(b"public", extra="Connection: close\r\n")
        async with serving({"/": once}, host=PublicLoopback.ADDRESS) as public:
            canary = Site(default=answer(b"secret"))
            server = await asyncio.start_server(canary.serve, "127.0.0.1", public.port)
            async with server, fetcher(PublicLoopback(), resolver=names) as own:
                for _ in range(6):
                    assert (await fetch(own, public.url(host="both.example"))).status == 200
                assert (public.accepted, canary.accepted) == (6, 0)

    run(main())


def test_allowing_private_hosts_opens_them():
    async def main() -> None:
        async with serving({"/": answer(b"x")}) as site, fetcher(Guard(allow_private=True)) as own:
            for host in ("127.0.0.1", "2130706433", "localhost"):
                assert (await fetch(own, site.url(host=host))).status == 200

    run(main())
