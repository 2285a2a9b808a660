"""A tunnel through a proxy: SOCKS5 with names resolved at its far end (RFC 1928, 1929), or HTTP CONNECT (RFC 9110).

Nothing is ever tried beside the proxy, and the name of the target is handed over, never looked up here. Replies are
read to their last byte and no further: what follows belongs to the target.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote

from mirror.errors import NetworkError

_URL = re.compile(r"(socks5h|http)://(?:([^:@/]*):([^@/]*)@)?(\[[^\]]+\]|[^:@/]+):([0-9]{1,5})/?")
_MAX_REPLY = 16 << 10
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([ -~]{0,60}))?")
_ANONYMOUS, _PASSWORD = 0, 2
_REFUSALS = {
    1: "general failure", 2: "not allowed by its rules", 3: "network unreachable", 4: "host unreachable",
    5: "connection refused by the target", 6: "time to live expired", 7: "command not supported",
    8: "address type not supported",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy as mirror.toml names it. User and password may be empty."""

    scheme: str  # "socks5h" or "http"
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read `socks5h://[user:password@]host:port` or `http://…`. Raises `NetworkError`."""
        match = _URL.fullmatch(url)
        if match is None:
            raise NetworkError("a proxy must be like socks5h://127.0.0.1:9050 or http://proxy:3128")
        scheme, user, password, host, port = match.groups(default="")
        return cls(scheme=scheme, host=host.strip("[]"), port=int(port), user=unquote(user), password=unquote(password))

    def isolated(self) -> Proxy:
        """The same with random credentials where a SOCKS proxy has none: Tor gives each pair circuits of its own."""
        if self.scheme != "socks5h" or self.user:
            return self
        return Proxy(
            scheme=self.scheme, host=self.host, port=self.port, user=secrets.token_hex(8), password=secrets.token_hex(8)
        )


async def connect(proxy: Proxy, host: str, port: int) -> socket.socket:
    """Open a connected socket to `host` at the far end of `proxy`. Raises `NetworkError` or `OSError`."""
    loop = asyncio.get_running_loop()
    sock = await _reach(loop, proxy)
    try:
        if proxy.scheme == "http":
            await _http_connect(loop, sock, proxy, host, port)
        else:
            await _socks(loop, sock, proxy, host, port)
    except BaseException:
        sock.close()
        raise
    return sock


async def _reach(loop: asyncio.AbstractEventLoop, proxy: Proxy) -> socket.socket:
    """Errors leave out where the proxy is: they are sealed with the capture."""
    try:
        found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    except OSError as e:
        raise NetworkError("its own name was not found") from e
    error: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
        except OSError as e:
            sock.close()
            error = e
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    reason = os.strerror(error.errno) if error is not None and error.errno else "no address"
    raise NetworkError(f"it was not reached: {reason}") from error


async def _read(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(sock, size - len(data))
        if not piece:
            raise NetworkError("the proxy closed the connection")
        data += piece
    return data


# -- HTTP CONNECT (RFC 9110 §9.3.6)


async def _http_connect(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy, host: str, port: int
) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if proxy.user:
        request += (
            f"Proxy-Authorization: Basic {base64.b64encode(f'{proxy.user}:{proxy.password}'.encode()).decode()}\r\n"
        )
    await loop.sock_sendall(sock, f"{request}\r\n".encode())
    head = b""
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        if len(head) > _MAX_REPLY:
            raise NetworkError("the proxy's answer has no end")
        head += await _read(loop, sock, 1)
    status = _STATUS.match(head)
    if status is None:
        raise NetworkError("what answered is no HTTP proxy")
    if status[1][:1] != b"2":
        raise NetworkError(f"it answered {status[1].decode()} {(status[2] or b'').decode()}".rstrip())


# -- SOCKS5 (RFC 1928), user name and password (RFC 1929)


async def _socks(loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    methods = bytes([_ANONYMOUS, _PASSWORD]) if proxy.user else bytes([_ANONYMOUS])
    await loop.sock_sendall(sock, bytes([5, len(methods)]) + methods)
    version, method = await _read(loop, sock, 2)
    if version != 5:
        raise NetworkError("what answered is no SOCKS5 proxy")
    if method not in methods:
        raise NetworkError("the proxy asks for a user name and password")
    if method == _PASSWORD:
        user, password = proxy.user.encode(), proxy.password.encode()
        if len(user) > 255 or len(password) > 255:
            raise NetworkError("user name or password of the proxy is longer than 255 bytes")
        await loop.sock_sendall(sock, bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        if (await _read(loop, sock, 2))[1] != 0:
            raise NetworkError("the proxy refused the user name or password")
    await loop.sock_sendall(sock, b"\x05\x01\x00" + _address(host) + port.to_bytes(2, "big"))
    version, reply, _, kind = await _read(loop, sock, 4)
    if version != 5:
        raise NetworkError("what answered is no SOCKS5 proxy")
    if reply:
        raise NetworkError(_REFUSALS.get(reply, f"failure {reply}"))
    length = {1: 4, 4: 16}.get(kind)
    if length is None:
        if kind != 3:
            raise NetworkError("the proxy's answer is malformed")
        length = (await _read(loop, sock, 1))[0]
    await _read(loop, sock, length + 2)


def _address(host: str) -> bytes:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if len(name) > 255:
            raise NetworkError("the host name is longer than SOCKS allows") from None
        return bytes([3, len(name)]) + name
    return bytes([1 if ip.version == 4 else 4]) + ip.packed
