import json

import pytest

from mirror.cli.main import main
from mirror.formats import vkey
from mirror.store import durable, secrets
from mirror.store.home import Home


@pytest.fixture
def home(tmp_path, monkeypatch, capsys) -> Home:
    for name in ("MIRROR_HOME", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MIRROR_LANG", "en")
    assert main(["init", str(tmp_path / "h"), "--no-passphrase"]) == 0
    capsys.readouterr()
    return Home(tmp_path / "h")


def listed(home: Home, capsys) -> list[dict[str, object]]:
    assert main(["keys", "list", "--home", str(home.root), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_sealing_key_is_listed_with_its_role_and_public_line(home, capsys):
    (key,) = listed(home, capsys)
    line = (home.keys / f"{key['name']}.vkey").read_text().rstrip("\n")
    assert key == {
        "name": vkey.parse(line).name,
        "keyid": vkey.parse(line).keyid,
        "roles": ["seal"],
        "secret": True,
        "encrypted": False,
        "vkey": line,
    }


def test_list_for_people_says_what_is_not_encrypted(home, capsys, monkeypatch):
    monkeypatch.chdir(home.captures_dir)
    assert main(["keys"]) == 0
    out = capsys.readouterr().out
    assert "NOT encrypted" in out and "keyid" in out and "seal" in out


def test_foreign_public_key_and_unused_secret_have_no_role(home, capsys):
    friend, spare = secrets.generate("a-friend"), secrets.generate("b-spare")
    durable.write_new(home.keys / "a-friend.vkey", friend.verifier.format().encode())
    durable.write_new(secrets.path_of(home.secrets_dir, "b-spare"), secrets.seal(spare, b"x"))
    first, second, third = listed(home, capsys)
    assert (first["name"], first["roles"], first["secret"], first["encrypted"]) == ("a-friend", [], False, None)
    assert (second["name"], second["roles"], second["secret"], second["encrypted"]) == ("b-spare", [], True, True)
    assert third["roles"] == ["seal"]


def test_halves_that_differ_are_an_error_of_the_home(home, capsys):
    (path,) = home.keys.glob("*.vkey")
    path.write_text(secrets.generate(path.stem).verifier.format())
    assert main(["keys", "--home", str(home.root)]) == 6
    assert "differ" in capsys.readouterr().err


def test_damaged_key_files_are_named_and_malformed(home, capsys):
    (home.keys / "broken.vkey").write_text("nonsense")
    assert main(["keys", "--home", str(home.root)]) == 5
    assert "broken.vkey" in capsys.readouterr().err
    (home.keys / "broken.vkey").unlink()
    (secret,) = home.secrets_dir.iterdir()
    secret.write_text("{}")
    assert main(["keys", "--home", str(home.root)]) == 5


def test_readable_secret_is_an_error_that_says_chmod(home, capsys):
    (secret,) = home.secrets_dir.iterdir()
    secret.chmod(0o644)
    assert main(["keys", "--home", str(home.root)]) == 6
    assert "chmod 600" in capsys.readouterr().err


def test_home_without_keys_says_so(home, capsys):
    for path in (*home.keys.iterdir(), *home.secrets_dir.iterdir()):
        path.unlink()
    assert main(["keys", "--home", str(home.root)]) == 0
    assert "No keys" in capsys.readouterr().out
    assert listed(home, capsys) == []


def test_no_home_is_exit_code_six(tmp_path, capsys):
    assert main(["keys", "--home", str(tmp_path)]) == 6
    assert "mirror init" in capsys.readouterr().err
