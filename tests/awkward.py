"""Answers as servers really give them: whole ones, those that end with the connection, and those cut off."""

from __future__ import annotations

import gzip

from servers import chunked

PACKED = gzip.compress(b"<html>" + b"hello world " * 400 + b"</html>", mtime=0)
KEEP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"

WHOLE = {
    "plain": b"HTTP/1.1 200 OK\r\nserver: x\r\nX-dUp: 1\r\nX-Dup: 2\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n"
    b"Content-Type:text/html\r\ncontent-length: 11\r\n\r\nhello world",
    "not-utf8-header": b"HTTP/1.1 200 Tr\xe8s bien\r\nX-Title: \xe1\xba\xa1\xff\xfe\r\nContent-Length: 5\r\n\r\nhello",
    "gzip": KEEP + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
    "chunked": KEEP + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 3000),
    "chunked-gzip": KEEP + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(PACKED, 13),
    "chunked-extension-trailer": KEEP
    + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    + chunked(b"y" * 2000, extension=b";a=b", trailer=b"X-T: 1\r\n"),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /plain\r\nContent-Length: 4\r\n\r\nmove",
    "unavailable-for-legal-reasons": b"HTTP/1.1 451 Unavailable For Legal Reasons\r\n"
    b'Link: <http://x/>; rel="blocked-by"\r\nContent-Length: 7\r\n\r\nblocked',
    "line-feeds-only": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "folded": b"HTTP/1.1 200 OK\r\nX-A: one\r\n  two\r\nContent-Length: 2\r\n\r\nhi",
    "field-without-colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n: empty\r\nContent-Length: 2\r\n\r\nhi",
    "lower-case-reason-less": b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nhi",
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
}  # fmt: skip
CLOSED = {
    "close-delimited": b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"c" * 1500,
    "no-status-line": b"<html>from another age</html>",
    "contradictory-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
    "broken-chunks": KEEP + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nwhat\r\nis this",
}
CUT = {
    "truncated": KEEP + b"Content-Length: 5000\r\n\r\n" + b"t" * 1200,
    "truncated-chunks": KEEP + b"Transfer-Encoding: chunked\r\n\r\n" + b"500\r\n" + b"t" * 900,
    "truncated-head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "only-interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
}
