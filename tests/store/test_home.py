import os
import stat
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mirror.errors import HomeError, MalformedError
from mirror.model import CaptureId
from mirror.store import durable
from mirror.store import home as homes

ID = CaptureId("0b6a5a0e-6a3f-4c1e-9d55-0e5f4f7a1c11")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_home_has_its_folders_and_state_is_private(tmp_path):
    home = homes.create(tmp_path / "a" / "h", b"# empty\n")
    assert sorted(os.listdir(home.root)) == ["archives", "keys", "mirror.toml", "state"]
    assert home.captures_dir.is_dir() and home.config_path.read_bytes() == b"# empty\n"
    assert {mode(p) for p in (home.root, home.state, home.secrets_dir, home.locks_dir)} == {0o700}
    assert not home.unfinished_path.exists()


def test_existing_home_is_refused(tmp_path):
    homes.create(tmp_path / "h")
    with pytest.raises(HomeError, match="already"):
        homes.create(tmp_path / "h")


def test_empty_folder_is_taken_and_a_foreign_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    homes.create(tmp_path / "empty")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("x")
    with pytest.raises(HomeError, match="not empty"):
        homes.create(tmp_path / "foreign")
    assert os.listdir(tmp_path / "foreign") == ["thesis.txt"]


def test_file_is_no_place_for_a_home(tmp_path):
    (tmp_path / "f").write_text("x")
    for root in (tmp_path / "f", tmp_path / "f" / "h"):
        with pytest.raises(HomeError):
            homes.create(root)


def test_folder_with_data_of_a_home_but_no_configuration_is_refused(tmp_path):
    home = homes.create(tmp_path / "h")
    (home.secrets_dir / "mine.json").write_text("{}")
    home.config_path.unlink()
    with pytest.raises(HomeError, match="restore"):
        homes.create(tmp_path / "h")
    assert (home.secrets_dir / "mine.json").exists()


def test_unfinished_home_with_captures_is_never_cleared(tmp_path):
    with homes.begin(tmp_path / "h") as home:
        (home.captures_dir / "x.warc.gz").write_bytes(b"x")
        (home.secrets_dir / "mine.json").write_text("{}")
    with pytest.raises(HomeError, match="restore"):
        homes.create(tmp_path / "h")
    assert (home.secrets_dir / "mine.json").exists()


def test_two_makers_of_one_home_exclude_each_other(tmp_path):
    with homes.begin(tmp_path / "h") as home:
        with pytest.raises(HomeError, match="another mirror process"):
            homes.create(tmp_path / "h")
        homes.finish(home, b"")


def test_try_that_ended_early_is_cleared_and_completed(tmp_path):
    with homes.begin(tmp_path / "h") as home:
        durable.write_new(home.secrets_dir / "old.json", b"{}")
        durable.write_new(home.keys / "old.vkey", b"")
        (home.keys / ".tmp-0").write_bytes(b"")
    with pytest.raises(HomeError, match="mirror init"):
        homes.find(tmp_path / "h", {}, tmp_path)
    homes.create(tmp_path / "h")
    assert os.listdir(home.keys) == [] and os.listdir(home.secrets_dir) == []


def test_home_is_found_by_option_then_environment_then_nearest_above(tmp_path):
    a, b, c = (homes.create(tmp_path / n) for n in "abc")
    deep = c.root / "archives" / "captures"
    env = {"MIRROR_HOME": str(b.root)}
    assert homes.find(a.root, env, deep) == a
    assert homes.find(None, env, deep) == b
    assert homes.find(None, {}, deep) == c
    assert homes.find(None, {"MIRROR_HOME": ""}, c.root) == c
    assert homes.find(Path("a"), {}, tmp_path) == a


def test_missing_home_says_how_to_make_one(tmp_path):
    for explicit, env in ((tmp_path, {}), (None, {"MIRROR_HOME": str(tmp_path)}), (None, {})):
        with pytest.raises(HomeError, match="mirror init"):
            homes.find(explicit, env, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_configuration_planted_by_another_user_is_not_followed(tmp_path):
    home = homes.create(tmp_path / "h")
    os.chown(home.config_path, 12345, 12345)
    with pytest.raises(HomeError, match="another user"):
        homes.find(None, {}, home.keys)
    assert homes.find(home.root, {}, tmp_path) == home


def test_capture_path_is_by_utc_date(tmp_path):
    home = homes.Home(tmp_path)
    started = datetime(2027, 1, 1, 3, tzinfo=timezone(timedelta(hours=7)))
    assert homes.capture_path(home, ID, started) == tmp_path / "archives/captures/2026/12/31" / f"{ID}.warc.gz"


@pytest.mark.parametrize("bad", ["", "../../x", str(ID).upper(), f"{ID}\n"])
def test_capture_path_refuses_what_is_no_id(tmp_path, bad):
    with pytest.raises(MalformedError):
        homes.capture_path(homes.Home(tmp_path), CaptureId(bad), datetime(2026, 1, 1, tzinfo=UTC))


def test_capture_path_refuses_a_time_without_zone(tmp_path):
    with pytest.raises(MalformedError, match="time zone"):
        homes.capture_path(homes.Home(tmp_path), ID, datetime(2026, 1, 1))


def test_captures_come_in_order_and_nothing_foreign_among_them(tmp_path):
    home = homes.create(tmp_path / "h")
    assert list(homes.captures(home)) == []
    made = []
    for i in range(30):
        at = datetime(2025, 12, 1, tzinfo=UTC) + timedelta(days=3 * i)
        path = homes.capture_path(home, CaptureId(str(uuid.uuid4())), at)
        durable.make_dir(path.parent, base=home.captures_dir)
        durable.write_new(path, b"")
        made.append(path)
    (made[0].parent / ".tmp-0.warc.gz").write_bytes(b"")
    (made[0].parent / "notes.warc.gz").write_bytes(b"")
    (made[0].parent / f"{ID}.warc.gz").symlink_to(made[0])
    (home.captures_dir / "log").mkdir()
    assert list(homes.captures(home)) == sorted(made)


def test_tidy_removes_leftovers_everywhere(tmp_path):
    home = homes.create(tmp_path / "h")
    path = homes.capture_path(home, ID, datetime(2026, 1, 1, tzinfo=UTC))
    durable.make_dir(path.parent, base=home.captures_dir)
    for folder in (home.root, home.keys, home.state, home.secrets_dir, path.parent):
        (folder / ".tmp-0").write_bytes(b"half")
    assert homes.tidy(home) == 5
    assert homes.tidy(home) == 0
