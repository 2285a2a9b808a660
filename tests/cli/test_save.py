"""`mirror save` as a person and as a program call it: what is kept, what is said, and the exit codes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from keeping import PAGES, listed, mirror, new_home, objects, on_disk, save, served


@pytest.fixture(scope="module")
def site():
    with served() as url:
        yield url


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return new_home(tmp_path / "home")


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_page_is_kept_verified_and_found(home: Path, site: str) -> None:
    done = save(home, f"{site}/tin")
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete · HTTP 200" in done.stdout and "VERIFIED" in done.stdout and "not established" in done.stdout
    assert list(listed(home)) == list(on_disk(home))
    assert mirror("search", "--home", home, "dong tam").stdout.count("Tin") >= 1
    assert mirror("verify", "--home", home, home / "archives").returncode == 0


def test_json_is_one_object_per_capture(home: Path, site: str) -> None:
    done = save(home, "--json", "--no-text", f"{site}/tin", f"{site}/s.css")
    found = {o["url"]: o for o in objects(done)}
    assert set(found) == {f"{site}/tin", f"{site}/s.css"}
    page = found[f"{site}/tin"]
    assert (page["state"], page["status"], page["verdict"], page["requests"]) == ("complete", 200, "VERIFIED", 2)
    assert page["not_established"] == ["NOT-LOGGED", "TIME-UNPROVEN"]
    assert Path(page["path"]).stat().st_size == page["size"]
    assert {o["id"] for o in found.values()} == set(on_disk(home))


def test_list_on_stdin_is_kept_and_bad_lines_stop_nobody(home: Path, site: str) -> None:
    done = save(home, "--json", "--no-text", "-", stdin=f"# list\n\n{site}/tin\nftp://a/\n{site}/s.css\n{site}/tin\n")
    assert done.returncode == 2
    assert sorted(o["url"] for o in objects(done)) == [f"{site}/s.css", f"{site}/tin"]
    assert done.stderr.startswith("line 4:")


@pytest.mark.parametrize("url", ["http://", "javascript:alert(1)", "", "http://a b/", "file:///etc/passwd"])
def test_bad_url_is_a_wrong_use_and_the_others_are_kept(home: Path, site: str, url: str) -> None:
    done = save(home, "--json", "--no-text", url, f"{site}/tin")
    assert done.returncode == 2
    assert len(objects(done)) == 1 and done.stderr


def test_only_bad_urls_leave_nothing(home: Path) -> None:
    done = save(home, "http://")
    assert (done.returncode, done.stdout, on_disk(home)) == (2, "", {})


def test_unreachable_page_is_a_sealed_failure_and_exit_7(home: Path) -> None:
    done = save(home, "--json", "--no-text", f"http://127.0.0.1:{closed_port()}/")
    assert done.returncode == 7
    (found,) = objects(done)
    assert (found["state"], found["failure"]["kind"], found["verdict"]) == ("failed", "connection-refused", "VERIFIED")
    assert found["id"] in on_disk(home)


def test_private_address_is_refused_without_the_option(home: Path, site: str) -> None:
    done = mirror("save", "--home", home, "--json", "--no-text", f"{site}/tin")
    assert done.returncode == 7
    assert objects(done)[0]["failure"]["kind"] == "blocked-address"


def test_missing_home_is_exit_6_and_says_what_to_type(tmp_path: Path) -> None:
    done = mirror("save", "--home", tmp_path / "none", "http://a.example/")
    assert done.returncode == 6
    assert "mirror init" in done.stderr


def test_home_without_its_key_is_exit_6(home: Path) -> None:
    for path in (home / "state" / "keys").iterdir():
        path.unlink()
    assert save(home, "http://a.example/").returncode == 6


def test_damaged_index_is_exit_6_before_anything_is_fetched(home: Path, site: str) -> None:
    assert save(home, "--no-text", f"{site}/tin").returncode == 0
    (home / "state" / "index.sqlite3").write_bytes(os.urandom(9000))
    done = save(home, "--no-text", f"{site}/tin")
    assert done.returncode == 6
    assert "mirror index rebuild" in done.stderr
    assert len(on_disk(home)) == 1


def test_deleted_index_comes_back_with_the_next_save(home: Path, site: str) -> None:
    assert save(home, "--no-text", f"{site}/tin").returncode == 0
    for path in (home / "state").glob("index.sqlite3*"):
        path.unlink()
    assert save(home, "--no-text", f"{site}/s.css").returncode == 0
    assert set(listed(home)) == set(on_disk(home)) and len(on_disk(home)) == 2


def test_wrong_use_is_exit_2(home: Path) -> None:
    for words in ([], ["--follow", "-1", "http://a.example/"], ["--follow", "x", "http://a.example/"], ["--none"]):
        assert save(home, *words).returncode == 2


def test_messages_are_vietnamese_when_asked(home: Path, site: str) -> None:
    done = save(home, "--no-text", f"{site}/tin", MIRROR_LANG="vi")
    assert done.returncode == 0
    assert "đầy đủ · HTTP 200" in done.stdout and "yêu cầu" in done.stdout and "chưa chứng minh" in done.stdout


def test_many_pages_at_once(home: Path) -> None:
    pages = {f"/{n}": ("text/html", b"<p>%d" % n) for n in range(40)}
    with served(PAGES | pages) as url:
        done = save(home, "--json", "--no-text", *(f"{url}/{n}" for n in range(40)))
    assert done.returncode == 0
    assert {o["id"] for o in objects(done)} == set(listed(home)) == set(on_disk(home))
    assert len(on_disk(home)) == 40
