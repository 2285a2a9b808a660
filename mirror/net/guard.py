"""Which addresses we refuse to connect to, asked where the socket is made, for every connection (threats, rule 10).

Our own list: `ipaddress.is_global` calls NAT64, 6to4, multicast and others global.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import Any

from mirror.errors import BlockedAddressError

_V4 = tuple(
    ipaddress.IPv4Network(n)
    for n in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32",
        "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    )
)  # fmt: skip
"""IANA special-purpose registry, multicast and reserved space; the metadata address 169.254.169.254 is link-local,
168.63.129.16 is another provider's."""

_V6_GLOBAL = ipaddress.IPv6Network("2000::/3")
_V6_BLOCKED = tuple(
    ipaddress.IPv6Network(n) for n in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)  # Teredo, ORCHID, benchmarking, documentation, 6to4
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def refused(address: str) -> bool:
    """True for every address that is not plain global unicast; IPv4 inside IPv6 counts as what it carries."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        else:
            return ip not in _V6_GLOBAL or any(ip in n for n in _V6_BLOCKED)
    return any(ip in n for n in _V4)


_LOCAL_NAMES = (
    ".localhost",
    ".local",
    ".internal",
    ".lan",
    ".home.arpa",
    ".intranet",
    ".localdomain",
    ".home",
    ".corp",
)


def refused_at_far_end(host: str) -> bool:
    """The same for a host that a proxy will connect to: literal addresses and names that only mean something inside."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith(_LOCAL_NAMES)
    return refused(host)


class RefusedAddress(OSError):
    """Raised inside the socket factory; `fetch` turns it into `BlockedAddressError`."""


class Guard:
    """Makes the sockets of one vantage. `allow_private`: for tests and intranets only."""

    def __init__(self, *, allow_private: bool = False) -> None:
        self.allow_private = allow_private

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """aiohttp's `socket_factory`: `info` is the address about to be connected to, whatever named it."""
        family, kind, protocol, _, address = info
        if not self.allow_private and refused(address[0]):
            raise RefusedAddress(f"{address[0]} is not a public address")
        return socket.socket(family, kind, protocol)

    def check_far_end(self, host: str) -> None:
        """Before a proxy is asked. Raises `BlockedAddressError`."""
        if not self.allow_private and refused_at_far_end(host):
            raise BlockedAddressError(
                f"{host} is not a public host; it was not fetched (--allow-private-hosts allows it)"
            )


def all_refused(guard: Guard, addresses: Collection[str]) -> bool:
    """Every answer of a name look-up is refused (there was at least one)."""
    return bool(addresses) and not guard.allow_private and all(refused(a) for a in addresses)
