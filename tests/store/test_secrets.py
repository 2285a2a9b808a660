import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import HomeError, LimitError, MalformedError, PassphraseError
from mirror.store import durable, secrets

KEY = secrets.generate("mirror-seal-00000000")
PASSPHRASE = b"correct horse"
SEALED = secrets.seal(KEY, PASSPHRASE)
PLAIN = secrets.seal(KEY, None)


def say(passphrase: bytes) -> Callable[[], bytes]:
    return lambda: passphrase


def never() -> bytes:
    pytest.fail("the passphrase was asked for")


def changed(data: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(data), **fields}).encode()


def test_encrypted_key_opens_with_its_passphrase_and_signs():
    key = secrets.open(SEALED, say(PASSPHRASE))
    assert key == KEY and key.keyid == KEY.keyid
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(key.sign(b"message"), b"message")
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(KEY.public).verify(key.sign(b"message"), b"other")


def test_plain_key_opens_without_asking():
    assert secrets.open(PLAIN, never).sign(b"m") == KEY.sign(b"m")


def test_wrong_passphrase_is_a_passphrase_error():
    with pytest.raises(PassphraseError, match="mirror-seal-00000000"):
        secrets.open(SEALED, say(b"wrong"))


def test_empty_passphrase_is_refused():
    with pytest.raises(PassphraseError):
        secrets.seal(KEY, b"")
    with pytest.raises(PassphraseError):
        secrets.open(SEALED, say(b""))


def test_composed_and_decomposed_typing_of_a_passphrase_are_the_same():
    sealed = secrets.seal(KEY, "mật khẩu".encode())
    assert secrets.open(sealed, say("mật khẩu".encode())) == KEY


def test_passphrase_need_not_be_text():
    assert secrets.open(secrets.seal(KEY, b"\xff\x00"), say(b"\xff\x00")) == KEY


def test_two_seals_of_one_key_share_neither_salt_nor_nonce():
    a, b = json.loads(SEALED), json.loads(secrets.seal(KEY, PASSPHRASE))
    assert all(a[name] != b[name] for name in ("salt", "nonce", "ct"))


def test_secret_is_not_in_repr_nor_in_the_encrypted_file():
    seed = json.loads(PLAIN)["seed"]
    assert seed not in SEALED.decode()
    assert "private" not in repr(KEY).lower() and seed not in repr(KEY)


@pytest.mark.parametrize("name", ["mirror-seal-11111111", "x"])
def test_renamed_header_does_not_open(name):
    with pytest.raises(PassphraseError):
        secrets.open(changed(SEALED, name=name), say(PASSPHRASE))


def test_public_half_of_another_key_is_refused():
    other = json.loads(secrets.seal(secrets.generate("k"), None))["public"]
    with pytest.raises(MalformedError, match="another key"):
        secrets.open(changed(PLAIN, public=other), never)
    with pytest.raises(PassphraseError):  # associated data: it does not even decrypt
        secrets.open(changed(SEALED, public=other), say(PASSPHRASE))


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2**16},
        {"n": 2**20},
        {"n": 2**17 + 1},
        {"n": 0},
        {"n": -(2**17)},
        {"n": 131072.0},
        {"n": "131072"},
        {"n": True},
        {"n": 2**200},
        {"r": 1},
        {"r": 16},
        {"p": 0},
        {"p": 5},
        {"p": False},
        {"v": 2},
        {"v": "1"},
        {"v": True},
        {"kdf": "pbkdf2"},
        {"kdf": "none"},
        {"kdf": None},
        {"cipher": "none"},
        {"salt": ""},
        {"salt": "AA=="},
        {"nonce": "AAAA"},
        {"ct": "AAAA"},
        {"ct": 5},
        {"name": ""},
        {"name": "a b"},
        {"name": "\x1b[2J"},
        {"name": 5},
        {"public": "AA=="},
        {"public": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"extra": 1},
    ],
)
def test_header_outside_the_format_is_malformed_and_nobody_is_asked(fields):
    with pytest.raises(MalformedError):
        secrets.open(changed(SEALED, **fields), never)


@pytest.mark.parametrize("name", sorted(json.loads(SEALED)))
def test_missing_field_is_malformed(name):
    fields = json.loads(SEALED)
    del fields[name]
    with pytest.raises(MalformedError):
        secrets.open(json.dumps(fields).encode(), never)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"1", b"{", b"{}", b'{"v":1}', b"\xff", b"[" * 4000, b'{"v":' + b"9" * 4080 + b"}", PLAIN + PLAIN],
)
def test_file_that_is_no_key_is_malformed(data):
    with pytest.raises(MalformedError):
        secrets.open(data, never)


def test_oversized_file_is_over_a_limit():
    with pytest.raises(LimitError):
        secrets.open(PLAIN + b" " * 5000, never)


def test_field_given_twice_is_malformed():
    with pytest.raises(MalformedError, match="twice"):
        secrets.open(PLAIN.replace(b"{", b'{"v":1,', 1), never)


def test_base64_that_is_not_canonical_is_malformed():
    seed = json.loads(PLAIN)["seed"]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    loose = seed[:-2] + last[last.index(seed[-2]) + 1] + "="
    for text in (loose, seed + "=", seed + "\n", " " + seed, seed[:-1]):
        with pytest.raises(MalformedError) as caught:
            secrets.open(changed(PLAIN, seed=text), never)
        assert seed[:20] not in str(caught.value)


@given(st.binary(max_size=300))
def test_foreign_bytes_only_ever_raise_malformed(data):
    with pytest.raises(MalformedError):
        secrets.open(data, never)


def test_label_is_read_without_opening():
    assert secrets.describe(SEALED) == secrets.Label(name=KEY.name, public=KEY.public, encrypted=True)
    assert not secrets.describe(PLAIN).encrypted


def test_key_that_others_can_read_is_refused(tmp_path):
    path = secrets.path_of(tmp_path, KEY.name)
    durable.write_new(path, PLAIN)
    assert secrets.load(tmp_path, KEY.name, never) == KEY
    path.chmod(0o640)
    with pytest.raises(HomeError, match="chmod 600"):
        secrets.load(tmp_path, KEY.name, never)


def test_key_file_under_another_name_is_refused(tmp_path):
    durable.write_new(secrets.path_of(tmp_path, "other"), PLAIN)
    with pytest.raises(MalformedError, match=r"other\.json"):
        secrets.load(tmp_path, "other", never)


def test_missing_key_and_key_behind_a_link_are_home_errors(tmp_path):
    with pytest.raises(HomeError):
        secrets.load(tmp_path, KEY.name, never)
    durable.write_new(tmp_path / "real", PLAIN)
    secrets.path_of(tmp_path, KEY.name).symlink_to(tmp_path / "real")
    with pytest.raises(HomeError):
        secrets.load(tmp_path, KEY.name, never)
    os.mkfifo(secrets.path_of(tmp_path, "fifo"), 0o600)
    with pytest.raises(HomeError, match="not a file"):
        secrets.load(tmp_path, "fifo", never)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", ""])
def test_key_name_cannot_leave_its_folder(tmp_path, name):
    with pytest.raises(MalformedError):
        secrets.path_of(tmp_path, name)


def test_process_with_a_secret_dumps_no_core():
    code = """if True:
        import ctypes, resource; from mirror.store import secrets
        secrets.generate("k")
        print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout == "(0, 0) 0\n"
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)  # this process made keys as well
