import contextlib
import fcntl
import json
import os
import pty
import stat
import subprocess
import sys
import termios
import tomllib
from pathlib import Path

import pytest

import mirror
from mirror.cli import messages
from mirror.cli.main import COMMANDS, main, printable
from mirror.config import load
from mirror.formats import vkey
from mirror.store import secrets
from mirror.store.home import Home

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def english(monkeypatch):
    for name in ("MIRROR_HOME", "LC_ALL", "LC_MESSAGES", "LANG", "CREDENTIALS_DIRECTORY", "MIRROR_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MIRROR_LANG", "en")


def run(*args: object, pass_fds: tuple[int, ...] = (), before: tuple[str, ...] = (), **env: str):
    return subprocess.run(
        [*before, sys.executable, "-m", "mirror", *map(str, args)],
        capture_output=True, text=True, timeout=60, pass_fds=pass_fds, stdin=subprocess.DEVNULL,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT), "MIRROR_LANG": "en", **env},
    )  # fmt: skip


def pipe_of(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


def the_key(home: Home) -> str:
    (path,) = home.secrets_dir.iterdir()
    return path.stem


def test_init_makes_a_home_with_a_key_a_policy_and_a_configuration(tmp_path, capsys):
    home = Home(tmp_path / "h")
    assert main(["init", str(home.root), "--no-passphrase"]) == 0
    out = capsys.readouterr()
    name = the_key(home)
    public = vkey.parse_file((home.keys / f"{name}.vkey").read_bytes())
    assert public.name == name and public.keyid in out.out
    assert "not encrypted" in out.err and f"mirror save --home {home.root} URL" in out.out
    assert load(home.config_path).seal.keys == (name,)
    assert tomllib.loads(home.trust_path.read_text()) == {
        "version": 1,
        "require": ["intact", "sealed"],
        "seal": {"threshold": 1, "keys": [name]},
    }
    assert secrets.load(home.secrets_dir, name, lambda: b"").public == public.public


def test_modes_keep_secrets_from_others(tmp_path):
    home = Home(tmp_path / "h")
    old = os.umask(0)
    try:
        assert main(["init", str(home.root), "--no-passphrase"]) == 0
    finally:
        os.umask(old)
    for path in (home.root, home.state, home.secrets_dir, home.locks_dir):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for folder, _, names in os.walk(home.state):
        assert {stat.S_IMODE((Path(folder) / n).stat().st_mode) for n in names} <= {0o600}


def test_names_tell_nothing_of_host_or_user(tmp_path):
    home = Home(tmp_path / "h")
    assert main(["init", str(home.root), "--no-passphrase"]) == 0
    name = the_key(home)
    assert name.startswith("mirror-seal-") and len(name) == 20
    for path in (home.config_path, home.trust_path, home.keys / f"{name}.vkey", home.secrets_dir / f"{name}.json"):
        text = path.read_text()
        assert os.uname().nodename not in text.split() and str(tmp_path) not in text


def test_passphrase_comes_from_a_file_descriptor(tmp_path):
    home = Home(tmp_path / "h")
    fd = pipe_of(b"secret words\n")
    result = run("init", home.root, "--passphrase-fd", fd, "--json", pass_fds=(fd,))
    os.close(fd)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout)
    assert made["encrypted"] is True and "secret words" not in result.stdout + result.stderr
    key = secrets.load(home.secrets_dir, made["key"], lambda: b"secret words")
    assert key.keyid == made["keyid"] and key.verifier.format() == made["vkey"]


def test_passphrase_comes_from_service_credentials(tmp_path):
    (tmp_path / "cred").mkdir()
    (tmp_path / "cred" / "mirror-passphrase").write_bytes(b"from the unit\r\n")
    home = Home(tmp_path / "h")
    assert run("init", home.root, CREDENTIALS_DIRECTORY=str(tmp_path / "cred")).returncode == 0
    assert secrets.load(home.secrets_dir, the_key(home), lambda: b"from the unit")


@pytest.mark.parametrize(
    ("given", "says"), [(b"", "empty"), (b"\n", "empty"), (b"\r\n", "empty"), (b"x" * 5000, "longer")]
)
def test_empty_or_endless_passphrase_is_refused_and_nothing_is_made(tmp_path, given, says):
    fd = pipe_of(given)
    result = run("init", tmp_path / "h", "--passphrase-fd", fd, pass_fds=(fd,))
    os.close(fd)
    assert result.returncode == 6 and says in result.stderr
    assert not (tmp_path / "h").exists()


def test_without_terminal_init_says_what_to_do(tmp_path):
    result = run("init", tmp_path / "h")
    assert result.returncode == 6 and "--passphrase-fd" in result.stderr
    assert not (tmp_path / "h").exists()


def test_closed_descriptor_and_contradicting_options_are_refused(tmp_path, capsys):
    assert run("init", tmp_path / "h", "--passphrase-fd", "99").returncode == 6
    assert main(["init", str(tmp_path / "h"), "--passphrase-fd", "-1"]) == 2
    assert main(["init", str(tmp_path / "h"), "--passphrase-fd", "0", "--no-passphrase"]) == 2
    assert not (tmp_path / "h").exists()


def typed(home: Path, *lines: bytes) -> tuple[int, bytes]:
    """Run `mirror init` on a terminal of its own and type `lines`, each when it asks."""
    leader, follower = pty.openpty()
    code = """if True:
        import fcntl, os, sys, termios
        fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
        os.execv(sys.executable, [sys.executable, "-m", "mirror", "init", sys.argv[2]])"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(follower), str(home)], pass_fds=(follower,), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    seen = b""
    for line in lines:
        asked = b""
        while not asked.endswith(b": "):
            asked += os.read(leader, 1000)
        while termios.tcgetattr(follower)[3] & termios.ECHO:
            pass  # the prompt stands before echo is off
        os.write(leader, line + b"\n")
        seen += asked
    out, _ = child.communicate(timeout=60)
    os.set_blocking(leader, False)
    with contextlib.suppress(BlockingIOError):
        seen += os.read(leader, 10_000)
    os.close(leader)
    os.close(follower)
    return child.returncode, seen + out


def test_prompt_asks_twice_and_shows_nothing(tmp_path):
    home = Home(tmp_path / "h")
    code, seen = typed(home.root, b"typed words", b"typed words")
    assert code == 0, seen
    assert b"typed" not in seen
    assert secrets.load(home.secrets_dir, the_key(home), lambda: b"typed words")


def test_prompt_refuses_two_different_passphrases(tmp_path):
    code, seen = typed(tmp_path / "h", b"one", b"two")
    assert code == 6 and b"differ" in seen
    assert not (tmp_path / "h").exists()


def test_init_refuses_an_existing_home_before_it_asks(tmp_path, capsys):
    assert main(["init", str(tmp_path / "h"), "--no-passphrase"]) == 0
    before = the_key(Home(tmp_path / "h"))
    assert main(["init", str(tmp_path / "h")]) == 6
    assert "already" in capsys.readouterr().err
    assert the_key(Home(tmp_path / "h")) == before


def test_default_place_is_the_environment_then_here(tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["init", "--no-passphrase"]) == 0
    assert "mirror save URL" in capsys.readouterr().out
    monkeypatch.setenv("MIRROR_HOME", "../there")
    assert main(["init", "--no-passphrase"]) == 0
    assert Home(tmp_path / "there").config_path.is_file()


KILL = """if True:
    import os, sys
    left = int(sys.argv[1])
    def step(event, args):
        global left
        if event in ("os.mkdir", "os.link", "os.remove", "os.rename", "fcntl.flock", "mirror.fsync"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)
    real = os.fsync
    def fsync(fd):
        sys.audit("mirror.fsync")
        real(fd)
    os.fsync = fsync
    from mirror.cli.main import main
    sys.addaudithook(step)
    sys.exit(main(["init", sys.argv[2], "--no-passphrase"]))"""


@pytest.mark.slow
def test_init_killed_at_any_step_is_finished_by_running_it_again(tmp_path):
    for step in range(1, 200):
        root = tmp_path / str(step)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        first = subprocess.run([sys.executable, "-c", KILL, str(step), str(root)], env=env, capture_output=True)
        home = Home(root)
        finished = home.config_path.exists()
        code = main(["init", str(root), "--no-passphrase"])
        assert code == (6 if finished else 0), step
        name = the_key(home)
        assert load(home.config_path).seal.keys == (name,)
        assert sorted(os.listdir(home.keys)) == sorted([f"{name}.vkey", "trust.toml"]), step
        assert main(["keys", "--home", str(root)]) == 0
        if first.returncode == 0:
            break
        assert first.returncode == -9, first.stderr
    assert first.returncode == 0 and step > 30


# The frame: help, exit codes, languages


def test_help_lists_every_command_and_ends_with_the_exit_status():
    for args in ([], *([name] for name in COMMANDS)):
        result = run(*args, "--help")
        assert result.returncode == 0
        assert result.stdout.rstrip().splitlines()[-9:][0] == "EXIT STATUS:"
        assert result.stdout.rstrip().endswith("7  network")
    assert all(f" {name} " in run("--help").stdout for name in COMMANDS)


def test_help_loads_nothing_heavy():
    code = """if True:
        import sys; from mirror.cli.main import main
        main(["--help"])
        heavy = {"asyncio", "sqlite3", "aiohttp", "cryptography", "trafilatura", "dataclasses", "pathlib", "json"}
        sys.exit(", ".join(sorted(heavy & sys.modules.keys())) or 0)"""
    result = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_version_and_usage_errors(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mirror {mirror.__version__}\n"
    for args in ([], ["nonsense"], ["init", "--nonsense"], ["--home"], ["keys", "a", "b"]):
        assert main(args) == 2, args


def test_closed_stdout_is_no_traceback(tmp_path):
    assert main(["init", str(tmp_path / "h"), "--no-passphrase"]) == 0
    read, write = os.pipe()
    os.close(read)
    child = subprocess.run(
        [sys.executable, "-m", "mirror", "keys", "--home", str(tmp_path / "h")],
        stdout=write, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(write)
    assert child.returncode == 141 and child.stderr == b""


def test_vietnamese_is_chosen_by_the_first_variable_that_is_set(tmp_path, capsys):
    result = run("keys", "--help", MIRROR_LANG="", LC_ALL="vi_VN.UTF-8", LANG="en_US.UTF-8")
    assert "khóa" in result.stdout
    assert "keys of" in run("keys", "--help", MIRROR_LANG="en", LC_ALL="vi_VN.UTF-8").stdout
    assert "khóa" in run("keys", "--help", MIRROR_LANG="vi", PYTHONIOENCODING="utf-8").stdout


def test_terminal_without_vietnamese_letters_still_gets_an_answer():
    result = run("--help", MIRROR_LANG="vi", PYTHONIOENCODING="ascii")
    assert result.returncode == 0 and "\\u" in result.stdout


def test_both_languages_fill_the_same_fields():
    import string

    for key, texts in messages._TEXT.items():
        english, vietnamese = ({f for _, f, _, _ in string.Formatter().parse(t) if f} for t in texts)
        assert english == vietnamese, key


def test_message_cannot_steer_the_terminal():
    assert printable("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"
    assert printable("tiếng Việt") == "tiếng Việt"


def test_unexpected_error_is_one_line_and_the_traceback_comes_on_request(monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "keys", "mirror.no_such_module")
    assert main(["keys"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("MIRROR_DEBUG", "1")
    assert main(["keys"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_lock_held_by_another_init_is_a_clear_error(tmp_path, capsys):
    (tmp_path / "h" / "state" / "locks").mkdir(parents=True)
    with (tmp_path / "h" / "state" / "locks" / "init.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (tmp_path / "h" / "state" / "unfinished").touch()
        assert main(["init", str(tmp_path / "h"), "--no-passphrase"]) == 6
    assert "another mirror process" in capsys.readouterr().err
