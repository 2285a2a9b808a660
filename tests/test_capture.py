"""What a capture fetches, in which manner, until when, and what it says of itself afterwards."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from servers import (
    Call,
    Names,
    Page,
    PublicLoopback,
    Site,
    answer,
    chunked,
    free_port,
    in_turn,
    run,
    serving,
    then_close,
    then_hold,
)

from mirror import capture as module
from mirror.capture import MAX_PARTS, Browser, Capture, CaptureLimits, Scope, capture
from mirror.formats.urls import parse_href
from mirror.model import Completeness, Exchange, FailureKind, Truncation
from mirror.net.connector import Vantage
from mirror.net.cookies import Jar
from mirror.net.fetch import Fetcher
from mirror.net.guard import Guard

BROWSER = Browser(user_agent="Test/1", languages="vi,en;q=0.5", headers=(("DNT", "1"),))
LIMITS = CaptureLimits(total_s=20, retry_s=0.01)
CSS = "text/css"
HOST = "site.example"


@dataclass
class Kept:
    """A keeper that counts and drops bodies, as the real one does."""

    exchanges: list[Exchange] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)

    async def keep(self, exchange: Exchange) -> int | None:
        if exchange.spool is None:
            self.bodies[exchange.url] = b"".join(exchange.body)
        exchange.body = []
        self.exchanges.append(exchange)
        return len(self.exchanges) if exchange.answered else None

    def paths(self) -> list[str]:
        return [parse_href(e.url).target for e in self.exchanges]


def fetcher(guard: Guard | None = None, names: Names | None = None) -> Fetcher:
    return Fetcher(
        vantage=Vantage(), guard=guard or Guard(allow_private=True), spool=tempfile.TemporaryFile,
        resolver=names or Names(),
    )  # fmt: skip


async def save(
    own: Fetcher, url: str, limits: CaptureLimits = LIMITS, scope: Scope | None = None
) -> tuple[Capture, Kept]:
    kept = Kept()
    result = await capture(
        parse_href(url), fetcher=own, cookies=Jar(), keeper=kept, browser=BROWSER, limits=limits,
        scope=scope or Scope(),
    )  # fmt: skip
    assert result.requests == len(kept.exchanges)
    assert result.bytes == sum(e.body_size for e in kept.exchanges)
    assert all(e.spool is None for e in kept.exchanges)
    return result, kept


def captured(
    pages: Mapping[str, Page], limits: CaptureLimits = LIMITS, scope: Scope | None = None, path: str = "/"
) -> tuple[Capture, Kept, Site]:
    """Capture `path` of a site of its own."""

    async def main() -> tuple[Capture, Kept, Site]:
        async with serving(pages) as site, fetcher() as own:
            return *(await save(own, site.url(path, host=HOST), limits, scope)), site

    result: tuple[Capture, Kept, Site] = run(main())
    return result


def page(*images: str, more: str = "") -> bytes:
    return answer(("<html><body>" + "".join(f'<img src="{i}">' for i in images) + more).encode())


def reasons(result: Capture) -> dict[str, str]:
    return {parse_href(m.url).target: m.reason for m in result.missing}


# -- what it came to


def test_whole_page_is_complete():
    result, kept, _ = captured({"/": page("/a.png"), "/a.png": answer(b"png", mime="image/png")})
    assert (result.completeness, result.status, result.page) == (Completeness.COMPLETE, 200, 1)
    assert kept.paths() == ["/", "/a.png"]
    assert (result.missing, result.absent, result.failure) == ([], [], None)


def test_requisite_the_site_does_not_have_is_absent_not_missing():
    result, _, _ = captured({"/": page("/gone.png", "/never.png"), "/gone.png": answer(b"", status="410 Gone")})
    assert result.completeness is Completeness.COMPLETE
    assert [(parse_href(m.url).target, m.reason) for m in result.absent] == [
        ("/gone.png", "the site answered 410"), ("/never.png", "the site answered 404"),
    ]  # fmt: skip


def test_requisite_that_fails_is_missing_with_its_reason():
    dead = f"http://{HOST}:{free_port()}/dead.png"
    pages = {
        "/": page("/broken.png", "/refused.png", dead),
        "/broken.png": then_close(answer(b"x" * 90)[:-50]),
        "/refused.png": answer(b"", status="403 Forbidden"),
    }
    result, kept, _ = captured(pages)
    assert result.completeness is Completeness.PARTIAL
    assert reasons(result) == {
        "/broken.png": "the server closed the connection before the end of the answer",
        "/dead.png": "the server refused the connection",
        "/refused.png": "the site answered 403",
    }
    assert [e.attempt for e in kept.exchanges if e.url == dead] == [1, 2, 3]


def test_page_cut_off_is_partial():
    result, kept, _ = captured({"/": then_close(page("/a.png")[:-5])}, replace(LIMITS, retries=0))
    assert result.completeness is Completeness.PARTIAL and result.page == 1
    assert result.failure is not None and result.failure.kind is FailureKind.DISCONNECTED
    assert kept.exchanges[0].truncated is Truncation.DISCONNECT


def test_page_without_an_answer_is_failed_and_every_attempt_kept():
    async def main() -> tuple[Capture, Kept]:
        async with fetcher() as own:
            return await save(own, f"http://{HOST}:{free_port()}/")

    result, kept = run(main())
    assert (result.completeness, result.page, result.status) == (Completeness.FAILED, None, 0)
    assert result.failure is not None and result.failure.kind is FailureKind.REFUSED
    assert len(kept.exchanges) == 3 and len(result.missing) == 1


def test_page_that_is_refused_with_an_answer_is_kept_as_it_is():
    result, kept, _ = captured({"/": answer(b"blocked", status="451 Unavailable For Legal Reasons")})
    assert (result.completeness, result.status) == (Completeness.COMPLETE, 451)
    assert len(kept.exchanges) == 1


def test_preview_that_fails_does_not_make_a_page_partial_unless_the_page_shows_it():
    preview = '<meta property="og:image" content="/hero.jpg">'
    forbidden = answer(b"", status="403 Forbidden")
    result, _, _ = captured({"/": page(more=preview), "/hero.jpg": forbidden})
    assert result.completeness is Completeness.COMPLETE and len(result.absent) == 1
    shown = answer(f"<html><head>{preview}</head><body><img src='/hero.jpg'>".encode())
    result, kept, _ = captured({"/": shown, "/hero.jpg": forbidden})
    assert result.completeness is Completeness.PARTIAL and list(reasons(result)) == ["/hero.jpg"]
    assert kept.paths() == ["/", "/hero.jpg"]


# -- what is found


def test_styles_are_followed_into_styles():
    pages = {
        "/": answer(b'<link rel=stylesheet href="/css/a.css"><style>@import "/inline.css";</style>'),
        "/css/a.css": answer(b'@import "b.css"; body{background:url(../bg.png)}', mime=CSS),
        "/css/b.css": answer(b'@import url("/css/a.css"); @font-face{src:url(f.woff2)}', mime=CSS),
        "/inline.css": answer(b"", mime=CSS), "/bg.png": answer(b"p"), "/css/f.woff2": answer(b"f"),
    }  # fmt: skip
    result, kept, _ = captured(pages)
    assert sorted(kept.paths()) == sorted(pages) and result.completeness is Completeness.COMPLETE


def test_frames_are_followed_to_their_depth_and_no_further():
    pages: dict[str, Page] = {
        f"/{i}": answer(f'<iframe src="/{i + 1}"></iframe><img src="/{i}.png">'.encode()) for i in range(6)
    }
    pages |= {f"/{i}.png": answer(b"p") for i in range(6)}
    result, kept, _ = captured(pages, replace(LIMITS, frame_depth=2), path="/0")
    assert sorted(kept.paths()) == ["/0", "/0.png", "/1", "/1.png", "/2", "/2.png"]
    assert reasons(result) == {"/3": "not tried: frames within frames, too deep"}


def test_every_size_of_an_image_is_kept():
    pages = {
        "/": answer(b'<img src=/s srcset="/m 2x, /l 3x"><picture><source srcset="/x 1w, /y 2w"></picture>'),
        **{f"/{n}": answer(b"p", mime="image/png") for n in "smlxy"},
    }
    _, kept, _ = captured(pages)
    assert sorted(kept.paths()) == sorted(pages)


def test_duplicates_are_fetched_once():
    pages = {
        "/": page("/a.png", "/a.png#x", "a.png", "/b.png", more='<link rel=stylesheet href="/s.css">'),
        "/a.png": answer(b"a"), "/s.css": answer(b"a{background:url(a.png)}", mime=CSS),
        "/b.png": answer(b"", status="302 Found", extra="Location: /a.png\r\n"),
    }  # fmt: skip
    result, kept, _ = captured(pages)
    assert sorted(kept.paths()) == sorted(pages) and result.completeness is Completeness.COMPLETE


def test_compressed_chunked_documents_are_searched():
    packed = gzip.compress(b'<img src="/a.png">')
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, kept, _ = captured({"/": head + chunked(packed, 5), "/a.png": answer(b"p")})
    assert kept.paths() == ["/", "/a.png"]


def test_documents_that_cannot_be_read_whole_are_declared():
    html = b'<img src="/a.png">' + bytes(range(256)) * 400
    cases = {
        "unknown": answer(html, extra="Content-Encoding: zstd\r\n"),
        "broken": answer(gzip.compress(html, 0)[:-5000], extra="Content-Encoding: gzip\r\n"),
        "longer": answer(gzip.compress(b" " * (module.MAX_DOCUMENT + 9)), extra="Content-Encoding: gzip\r\n"),
    }
    for reason, raw in cases.items():
        result, _, _ = captured({"/": raw, "/a.png": answer(b"p")})
        assert result.completeness is Completeness.PARTIAL and reason in reasons(result)["/"]
    video = answer(b"\0" * 3_000_000, mime="video/mp4", extra="Content-Encoding: what\r\n")
    assert captured({"/": video})[0].completeness is Completeness.COMPLETE


def test_large_documents_are_searched_off_the_event_loop(monkeypatch):
    """2 MB as it is, 5 MB in a file, and 3 MB that arrive as a few compressed kilobytes."""
    import threading

    threads: dict[str, bool] = {}
    search = module._links_of

    def noted(read: Any, exchange: Exchange, url: Any, task: Any) -> Any:
        threads[url.target] = threading.current_thread() is threading.main_thread()
        return search(read, exchange, url, task)

    monkeypatch.setattr(module, "_links_of", noted)

    def body(size: int, name: str) -> bytes:
        return b" " * size + f'<img src="/{name}.png">'.encode()

    packed = gzip.compress(body(3 << 20, "packed"))
    pages = {
        "/": answer(b'<iframe src="/plain"></iframe><iframe src="/spooled"></iframe><iframe src="/packed"></iframe>'),
        "/plain": answer(body(2 << 20, "plain")), "/spooled": answer(body(5 << 20, "spooled")),
        "/packed": answer(packed, extra="Content-Encoding: gzip\r\n"),
        **{f"/{n}.png": answer(b"p") for n in ("plain", "spooled", "packed")},
    }  # fmt: skip
    _, kept, _ = captured(pages)
    assert sorted(kept.paths()) == sorted(pages)
    assert threads == {"/": True, "/plain": False, "/spooled": False, "/packed": False}


# -- redirects


def hop(to: str, status: str = "302 Found", extra: str = "") -> bytes:
    return answer(b"moved", status=status, extra=f"Location: {to}\r\n{extra}")


def test_redirects_are_exchanges_of_their_own():
    result, kept, _ = captured({"/": hop("/two", "301 Moved"), "/two": hop("three", "307 Hm"), "/three": page()})
    assert [e.status for e in kept.exchanges] == [301, 307, 200]
    assert (result.page, result.status, parse_href(result.final).target) == (3, 200, "/three")
    assert result.completeness is Completeness.COMPLETE and parse_href(result.target).target == "/"


def test_redirects_in_a_circle_or_without_end_are_declared():
    result, kept, _ = captured({"/": hop("/b"), "/b": hop("/")})
    assert kept.paths() == ["/", "/b"] and result.completeness is Completeness.PARTIAL
    assert result.failure is not None and result.failure.kind is FailureKind.REDIRECTS

    async def further(call: Call) -> None:
        call.writer.write(hop(f"/{len(call.site.calls)}"))

    async def main() -> tuple[Capture, Kept]:
        async with serving({}, default=further) as site, fetcher() as own:
            return await save(own, site.url(host=HOST))

    result, kept = run(main())
    assert len(kept.exchanges) == module.MAX_REDIRECTS + 1
    assert result.failure is not None and result.failure.kind is FailureKind.REDIRECTS


def test_redirect_to_what_is_no_web_address_is_declared():
    for target in ("javascript:alert(1)", "file:///etc/passwd", "http://user:word@site.example/", "data:,x"):
        result, _, _ = captured({"/": hop(target)})
        assert result.failure is not None and result.failure.kind is FailureKind.URL
        assert result.completeness is Completeness.PARTIAL


# -- private addresses


def test_redirects_and_requisites_to_private_addresses_make_no_connection():
    async def main() -> None:
        async with serving({}, default=answer(b"secret")) as canary:
            inside = [canary.url("/i", host=h) for h in ("127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "0")]
            names = Names({HOST: [[PublicLoopback.ADDRESS]], "inside.example": [["127.0.0.1"]]})
            inside.append(canary.url("/i", host="inside.example"))
            more = (
                f'<iframe src="{inside[0]}"></iframe><link rel=stylesheet href="/s.css"><img src="/hop">'
                f'<img srcset="{inside[1]} 2x">'
            )
            pages = {
                "/": page(*inside, more=more), "/hop": hop(inside[0]), "/direct": hop(inside[4]),
                "/s.css": answer(f"@import '{inside[1]}?css'; a{{background:url({inside[2]}?css)}}".encode(), mime=CSS),
            }  # fmt: skip
            async with (
                serving(pages, host=PublicLoopback.ADDRESS) as site,
                fetcher(PublicLoopback(), names) as own,
            ):
                result, _ = await save(own, site.url(host=HOST))
                assert result.completeness is Completeness.PARTIAL
                assert {m.url for m in result.missing} >= {parse_href(u).href for u in inside}
                assert all("--allow-private-hosts" in m.reason for m in result.missing)
                direct, _ = await save(own, site.url("/direct", host=HOST))
                assert direct.failure is not None and direct.failure.kind is FailureKind.BLOCKED_ADDRESS
            assert canary.accepted == 0

    run(main())


# -- how it asks


def test_it_asks_as_configured():
    _, _, site = captured({"/": page("/a.png"), "/a.png": answer(b"p")})
    first = site.call("/")
    assert first.raw.split(b"\r\n")[1:] == [
        f"Host: {HOST}:{site.port}".encode(), b"User-Agent: Test/1",
        b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        b"Accept-Language: vi,en;q=0.5", b"Accept-Encoding: gzip, deflate, br", b"DNT: 1", b"Connection: keep-alive",
        b"", b"",
    ]  # fmt: skip
    assert (site.call("/a.png").header("accept") or "").startswith("image/")


def test_referer_is_the_page_within_its_origin_and_only_the_origin_beyond():
    async def main() -> None:
        async with serving({"/x.png": answer(b"p")}) as other:
            far = other.url("/x.png", host="other.example")
            pages = {"/p?q=1": page("/a.png", "/hop.png", far), "/a.png": answer(b"p"), "/hop.png": hop("/b.png"),
                     "/b.png": answer(b"p")}  # fmt: skip
            async with serving(pages) as site, fetcher() as own:
                await save(own, site.url("/p?q=1", host=HOST))
            whole = site.url("/p?q=1", host=HOST)
            assert site.call("/p?q=1").header("referer") is None
            assert site.call("/a.png").header("referer") == whole
            assert site.call("/b.png").header("referer") == whole  # a redirect does not change it
            assert other.call("/x.png").header("referer") == site.url(host=HOST)

    run(main())


def test_the_page_asked_for_never_sends_a_referer():
    _, _, site = captured({"/": hop("/two"), "/two": page()})
    assert [call.header("referer") for call in site.calls] == [None, None]


def test_cookies_live_within_one_capture_and_go_to_nobody_else():
    async def main() -> None:
        async with serving({"/x.png": answer(b"p"), "/": page()}) as other:
            far = other.url("/x.png", host="other.example")
            pages = {
                "/": hop("/two", extra="Set-Cookie: id=1; Path=/\r\nSet-Cookie: deep=2; Path=/deep\r\n"),
                "/two": page("/a.png", "/deep/b.png", far), "/a.png": answer(b"p"), "/deep/b.png": answer(b"p"),
                "/out": hop(other.url("/", host="other.example"), extra="Set-Cookie: id=9; Path=/\r\n"),
                "/evil": answer(b"", extra="Set-Cookie: a=1; Domain=other.example\r\n"),
            }  # fmt: skip
            async with serving(pages) as site, fetcher() as own:
                await save(own, site.url(host=HOST))
                assert site.call("/").header("cookie") is None
                assert site.call("/two").header("cookie") == "id=1"
                assert site.call("/a.png").header("cookie") == "id=1"
                assert sorted((site.call("/deep/b.png").header("cookie") or "").split("; ")) == ["deep=2", "id=1"]
                await save(own, site.url("/out", host=HOST))
                await save(own, site.url("/evil", host=HOST))
                assert [c.header("cookie") for c in site.calls if c.path in ("/out", "/evil")] == [None, None]
            assert [call.header("cookie") for call in other.calls] == [None, None]

    run(main())


# -- again, and when


def test_what_is_worth_it_is_tried_again_and_every_attempt_is_kept():
    busy = answer(b"busy", status="503 Busy", extra="Connection: close\r\n")
    result, kept, _ = captured({"/": in_turn(busy, then_close(b""), page())})
    assert [(e.status, e.attempt) for e in kept.exchanges] == [(503, 1), (0, 2), (200, 3)]
    assert (result.completeness, result.page, result.status) == (Completeness.COMPLETE, 3, 200)


def test_it_gives_up_after_the_attempts_allowed():
    result, kept, _ = captured({"/": page("/a.png"), "/a.png": answer(b"busy", status="503 Busy")})
    assert kept.paths() == ["/"] + ["/a.png"] * 3
    assert reasons(result) == {"/a.png": "the site answered 503"}
    for status in ("403 Forbidden", "404 Not Found", "501 Not Implemented"):
        assert len(captured({"/": answer(b"", status=status)})[1].exchanges) == 1


def test_retry_after_in_seconds_is_waited_for_by_all_of_that_host():
    later = answer(b"", status="429 Too Many", extra="Retry-After: 1\r\n")
    times: list[float] = []

    async def noted(call: Call) -> None:
        times.append(time.monotonic())
        call.writer.write(answer(b"p"))

    pages = {
        "/": answer(b'<link rel=stylesheet href="/s.css">'),
        "/s.css": in_turn(later, answer(b"a{background:url(/a)}", mime=CSS)),
        "/a": noted,
    }
    begun = time.monotonic()
    result, kept, _ = captured(pages)
    assert [e.status for e in kept.exchanges] == [200, 429, 200, 200]
    assert result.completeness is Completeness.COMPLETE and times[0] - begun >= 1


def test_retry_after_as_a_date_is_understood():
    now = time.time()
    assert module._retry_after(email.utils.formatdate(now + 100, usegmt=True)) == pytest.approx(100, abs=3)
    assert module._retry_after(email.utils.formatdate(now - 100, usegmt=True)) == 0
    assert module._retry_after(" 7 ") == 7
    for nothing in (None, "", "soon", "-3", "1e9", "9" * 40, "Thu, 99 Foo 2026"):
        assert module._retry_after(nothing) is None


def test_a_host_that_asks_for_too_long_is_left_alone_and_what_is_missing_says_so():
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    for value in ("3600", date):
        pages = {
            "/": answer(b'<link rel=stylesheet href="/s.css">'),
            "/s.css": hop("/busy"), "/busy": answer(b"", status="503 Busy", extra=f"Retry-After: {value}\r\n"),
        }  # fmt: skip
        result, kept, _ = captured(pages)
        assert [e.status for e in kept.exchanges] == [200, 302, 503]
        assert reasons(result) == {"/s.css": "the site answered 503"}
    images = {f"/{i}.png": answer(b"", status="503 Busy", extra="Retry-After: 3600\r\n") for i in range(40)}
    result, kept, _ = captured({"/": page(*images), **images}, replace(LIMITS, parallel=2))
    assert len(kept.exchanges) < 10 and len(result.missing) == 40
    assert any("left alone" in reason for reason in reasons(result).values())


# -- budgets


def test_the_number_of_requests_is_bounded_and_declared():
    images = {f"/{i}.png": answer(b"p") for i in range(50)}
    result, kept, _ = captured({"/": page(*images), **images}, replace(LIMITS, max_requests=20))
    assert len(kept.exchanges) == 20 and len(result.missing) == 31
    assert set(reasons(result).values()) == {"not tried: more than 20 URLs"}
    hops = {f"/{i}.png": hop(f"/to{i}") for i in range(12)}
    result, kept, _ = captured({"/": page(*hops), **hops}, replace(LIMITS, max_requests=15))
    assert len(kept.exchanges) == 15
    assert "not tried: the capture's request limit was reached" in reasons(result).values()


def test_the_bytes_of_all_exchanges_together_are_bounded_and_declared():
    async def endless(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
        while True:
            call.writer.write(b"z" * 65536)
            await call.writer.drain()

    images = {f"/{i}.png": endless for i in range(20)}
    result, kept, _ = captured({"/": page(*images), **images}, replace(LIMITS, max_bytes=5_000_000))
    assert result.bytes < 15_000_000 and result.completeness is Completeness.PARTIAL
    assert len(result.missing) == 20 and all("size limit" in r for r in reasons(result).values())
    assert all(e.truncated is Truncation.LENGTH for e in kept.exchanges[1:])


def test_one_response_is_bounded_and_declared():
    result, kept, _ = captured(
        {"/": page("/a.png"), "/a.png": answer(b"x" * 3_000_000)}, replace(LIMITS, max_response=100_000)
    )
    assert reasons(result) == {"/a.png": "cut after 100000 bytes"}
    assert kept.exchanges[1].truncated is Truncation.LENGTH


def test_the_time_is_bounded_and_declared():
    pages = {"/": page("/hang.png", "/a.png"), "/hang.png": then_hold(answer(b"x" * 9)[:-4]), "/a.png": answer(b"p")}
    result, kept, _ = captured(pages, replace(LIMITS, total_s=1))
    assert result.completeness is Completeness.PARTIAL
    assert list(reasons(result)) == ["/hang.png"] and "not finished after" in reasons(result)["/hang.png"]
    assert len(kept.exchanges) == 3 and kept.exchanges[2].truncated is Truncation.TIME


def test_an_endless_site_is_bounded():
    """Each frame has another frame and another hundred images, all of them different."""

    async def more(call: Call) -> None:
        n = len(call.site.calls)
        images = "".join(f'<img src="/{n}/{i}">' for i in range(100))
        call.writer.write(answer(f'{images}<iframe src="/f{n}"></iframe>'.encode()))

    async def main() -> tuple[Capture, Kept]:
        async with serving({}, default=more) as site, fetcher() as own:
            return await save(own, site.url(host=HOST), replace(LIMITS, frame_depth=10, max_requests=200))

    result, kept = run(main())
    assert len(kept.exchanges) == 200 and result.completeness is Completeness.PARTIAL


def test_a_slow_host_does_not_hold_up_the_others_of_the_same_page():
    async def main() -> None:
        async with serving({}, default=then_hold(b"")) as slow:
            late = [slow.url(f"/{i}", host="slow.example") for i in range(150)]
            pages: dict[str, Page] = {f"/{i}": answer(b"p") for i in range(100)}
            async with serving({"/": page(*late, *pages), **pages}) as site, fetcher() as own:
                running = asyncio.create_task(save(own, site.url(host=HOST), replace(LIMITS, total_s=4)))
                while len(site.calls) < 101:
                    assert not running.done()
                    await asyncio.sleep(0.01)
                result, _ = await running
            assert len(result.missing) == 150

    run(main())


# -- further pages


def test_next_parts_are_followed_as_far_as_asked():
    pages: dict[str, Page] = {
        f"/{i}": answer(f'<link rel=next href="/{i + 1}"><img src="/{i}.png">'.encode()) for i in range(9)
    }
    pages |= {f"/{i}.png": answer(b"p") for i in range(9)}
    for follow in (0, 2):
        result, kept, site = captured(pages, scope=Scope(follow=follow), path="/0")
        assert sorted(kept.paths()) == sorted(p for i in range(follow + 1) for p in (f"/{i}", f"/{i}.png"))
        assert result.parts == [site.url(f"/{i}", host=HOST) for i in range(1, follow + 1)]
        assert result.completeness is Completeness.COMPLETE


def feed(count: int) -> bytes:
    items = "".join(f"<item><title>t</title><link>/item{i}</link></item>" for i in range(count))
    return answer(f'<rss version="2.0"><channel>{items}</channel></rss>'.encode(), mime="application/rss+xml")


def test_items_of_a_feed_are_kept_with_what_they_need():
    pages = {"/": feed(3), "/p.png": answer(b"p"), **{f"/item{i}": page("/p.png") for i in range(3)}}
    result, kept, _ = captured(pages)
    assert sorted(kept.paths()) == sorted(pages) and len(result.parts) == 3
    assert captured(pages, scope=Scope(feed_items=False))[1].paths() == ["/"]


def test_more_items_than_are_kept_are_declared():
    count = MAX_PARTS + 40
    pages = {"/": feed(count), **{f"/item{i}": page() for i in range(count)}}
    result, kept, _ = captured(pages)
    assert len(kept.exchanges) == MAX_PARTS + 1 and len(result.parts) == MAX_PARTS
    assert list(reasons(result).values()) == [
        f"not tried: more than {MAX_PARTS} parts (40 of this document are left out)"
    ]
    assert result.completeness is Completeness.PARTIAL


def test_pages_of_a_site_map_are_kept_only_when_asked():
    async def main() -> None:
        def places(kind: str, *urls: str) -> bytes:
            inner = "".join(f"<{kind}><loc>{u}</loc></{kind}>" for u in urls)
            name = "urlset" if kind == "url" else "sitemapindex"
            return answer(f'<?xml version="1.0"?><{name}>{inner}</{name}>'.encode(), mime="application/xml")

        async with serving({}) as site, fetcher() as own:
            site.pages = {
                "/": places("sitemap", site.url("/map.xml", host=HOST)),
                "/map.xml": places("url", site.url("/one", host=HOST), site.url("/two", host=HOST)),
                "/one": page(), "/two": page(),
            }  # fmt: skip
            _, kept = await save(own, site.url(host=HOST))
            assert kept.paths() == ["/"]
            _, kept = await save(own, site.url(host=HOST), scope=Scope(sitemap=True))
            assert sorted(kept.paths()) == ["/", "/map.xml", "/one", "/two"]

    run(main())


# -- hostile servers


@pytest.mark.slow
def test_many_hostile_servers_at_once_end_in_time_and_leave_a_good_one_alone():
    async def endless(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            call.writer.write(b"z" * 4096)
            await call.writer.drain()
            await asyncio.sleep(0.01)

    async def trickle(call: Call) -> None:
        for byte in answer(b"x" * 100_000):
            call.writer.write(bytes([byte]))
            await call.writer.drain()
            await asyncio.sleep(0.02)

    async def flood(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            call.writer.write(b"X: " + b"y" * 3000 + b"\r\n")
            await call.writer.drain()

    async def around(call: Call) -> None:
        call.writer.write(hop(f"/{len(call.site.calls)}"))

    async def frames(call: Call) -> None:
        n = len(call.site.calls)
        call.writer.write(answer(f'<iframe src="/{n}"></iframe><img src="/x{n}">'.encode()))

    bomb = gzip.compress(gzip.compress(b"\0" * (64 << 20)))
    hostile: list[Page] = [
        endless, trickle, flood, around, frames, then_hold(b""), then_hold(b"HTTP/1.1 200 OK\r\n"), then_close(b""),
        then_hold(answer(b"x" * 99)[:-50]), then_close(b"\0" * 5000),
        answer(bomb, extra="Content-Encoding: gzip, gzip\r\n"),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100, answer(b"", status="503 Busy", extra="Retry-After: 99999\r\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\nx", hop("//[::1/"), hop(""),
        answer(b"", extra="".join(f"Set-Cookie: c{i}={'v' * 50}\r\n" for i in range(2000))),
        answer(b"<img src=x>" * 50_000), answer(b"<iframe src=?>" * 9), answer(b'@import "?";' * 9, mime=CSS),
    ]  # fmt: skip
    limits = replace(LIMITS, total_s=6, idle_s=3, max_requests=300, max_bytes=50_000_000)

    async def main() -> None:
        async with serving({"/": page("/a.png"), "/a.png": answer(b"p")}) as good, fetcher() as own:
            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                jobs = []
                for number, default in enumerate(hostile):

                    async def attack(number: int = number, default: Page = default) -> Capture:
                        async with serving({}, default=default) as site:
                            return (await save(own, site.url(host=f"bad{number}.example"), limits))[0]

                    jobs.append(group.create_task(attack()))
                for _ in range(10):
                    result, _ = await save(own, good.url(host=HOST), limits)
                    assert result.completeness is Completeness.COMPLETE
                    await asyncio.sleep(0.3)
            assert len(jobs) == 20
            for job in jobs:
                assert job.result().completeness in (Completeness.PARTIAL, Completeness.FAILED, Completeness.COMPLETE)

    run(main())


# -- errors of the home


def test_an_error_of_the_keeper_ends_the_capture_and_leaves_no_file_open():
    class Full(Kept):
        async def keep(self, exchange: Exchange) -> int | None:
            if len(self.exchanges) == 2:
                raise OSError(28, "No space left on device")
            return await super().keep(exchange)

    async def main() -> None:
        pages = {"/": page(*(f"/{i}" for i in range(30))), **{f"/{i}": answer(b"x" * 2_000_000) for i in range(30)}}
        async with serving(pages) as site, fetcher() as own:
            with pytest.raises(ExceptionGroup) as errors:
                await capture(
                    parse_href(site.url(host=HOST)), fetcher=own, cookies=Jar(), keeper=Full(), browser=BROWSER,
                    limits=LIMITS, scope=Scope(),
                )  # fmt: skip
            assert errors.group_contains(OSError, match="No space left")

    run(main())
