"""Cookies of one capture: an empty jar at its start, thrown away at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

import aiohttp
from yarl import URL

from mirror.formats.urls import Url

_MAX_COOKIES = 300


class Jar:
    """Takes what servers set, gives what a browser would send back. Needs a running event loop."""

    def __init__(self) -> None:
        self._jar: aiohttp.CookieJar | None = None

    def store(self, url: Url, values: Iterable[str]) -> None:
        """Remember the `Set-Cookie` values of an answer from `url`; unreadable ones are left out."""
        for value in values:
            cookie: SimpleCookie = SimpleCookie()
            try:
                cookie.load(value)
            except CookieError:
                continue  # the answer is recorded with it all the same
            if self._jar is None:
                self._jar = aiohttp.CookieJar(unsafe=True, loop=asyncio.get_running_loop())  # IP hosts too
            if len(self._jar) < _MAX_COOKIES:
                self._jar.update_cookies(cookie, URL(url.href, encoded=True))

    def header(self, url: Url) -> str | None:
        """The `Cookie` value for a request, or None."""
        if self._jar is None:
            return None
        found = self._jar.filter_cookies(URL(url.href, encoded=True))
        return "; ".join(f"{name}={morsel.coded_value}" for name, morsel in found.items()) or None
