"""Secret Ed25519 keys at rest: our own envelope, one JSON object per file, mode 0600 (threats.md, "key seizure").

Encrypted:  {"v":1,"name":…,"public":…,"kdf":"scrypt","n":131072,"r":8,"p":1,"salt":…,
             "cipher":"chacha20-poly1305","nonce":…,"ct":…}
Plain:      {"v":1,"name":…,"public":…,"kdf":"none","seed":…}

Bytes are standard base64. `ct` is ChaCha20-Poly1305 (RFC 8439) of the 32-byte seed (RFC 8032 §5.1.5) under the scrypt
key (RFC 7914, 32 bytes); the associated data is the JSON of all other fields, keys sorted, no white space, ASCII.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
import resource
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.errors import HomeError, LimitError, MalformedError, PassphraseError
from mirror.formats import vkey
from mirror.store import durable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_BYTES = 4096
SCRYPT_N = 2**17
_SCRYPT_N_MAX = 2**19  # 512 MiB; more would only serve to stop the machine
_SCRYPT_R = 8
_SCRYPT_P_MAX = 4
_SALT_BYTES, _NONCE_BYTES, _SEED_BYTES, _TAG_BYTES = 32, 12, 32, 16

_COMMON = {"v", "name", "public", "kdf"}
_PLAIN = _COMMON | {"seed"}
_ENCRYPTED = _COMMON | {"n", "r", "p", "salt", "cipher", "nonce", "ct"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """An opened signing key. `repr` shows no secret."""

    name: str
    public: bytes  # 32 bytes
    _key: Ed25519PrivateKey = field(repr=False, compare=False)

    @property
    def keyid(self) -> str:
        return vkey.keyid(self.public)

    @property
    def verifier(self) -> vkey.VerifierKey:
        return vkey.make(self.name, self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message` (RFC 8032 §5.1.6)."""
        return self._key.sign(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a secret key's file says without being opened; the file alone vouches for it."""

    name: str
    public: bytes
    encrypted: bool


def generate(name: str) -> SecretKey:
    """Make a new key. Raises `MalformedError` if `name` cannot stand in a verifier key."""
    vkey.check_name(name)
    harden()
    return _from_seed(name, os.urandom(_SEED_BYTES))


def seal(key: SecretKey, passphrase: bytes | None) -> bytes:
    """Return the file's content for `key`, encrypted under `passphrase`, or plain if it is None.

    Raises `PassphraseError` if the passphrase is empty. Text is normalised to NFC, so that keyboards may differ.
    """
    head: dict[str, str | int] = {"v": 1, "name": key.name, "public": _b64(key.public)}
    seed = key._key.private_bytes_raw()
    if passphrase is None:
        return _dump({**head, "kdf": "none", "seed": _b64(seed)})
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    head |= {"kdf": "scrypt", "n": SCRYPT_N, "r": _SCRYPT_R, "p": 1, "salt": _b64(salt)}
    head |= {"cipher": "chacha20-poly1305", "nonce": _b64(nonce)}
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    secret = _derive(passphrase, salt=salt, n=SCRYPT_N, p=1)
    return _dump({**head, "ct": _b64(ChaCha20Poly1305(secret).encrypt(nonce, seed, _associated(head)))})


def open(data: bytes, passphrase_source: Callable[[], bytes]) -> SecretKey:
    """Open a secret key's file content; asks `passphrase_source` only if it is encrypted.

    Raises `MalformedError` for anything the format does not allow (KDF parameters out of bounds in either direction
    included) or a public half of another key, `PassphraseError` if the passphrase does not fit.
    """
    fields = _parse(data)
    label = _label(fields)
    harden()
    if not label.encrypted:
        key = _from_seed(label.name, _bytes(fields, "seed", _SEED_BYTES))
    else:
        n, p = _integer(fields, "n"), _integer(fields, "p")
        if not SCRYPT_N <= n <= _SCRYPT_N_MAX or n & (n - 1) or not 1 <= p <= _SCRYPT_P_MAX:
            raise MalformedError("scrypt parameters out of bounds", "secret key")
        if _integer(fields, "r") != _SCRYPT_R or fields["cipher"] != "chacha20-poly1305":
            raise MalformedError("unknown cipher or scrypt block size", "secret key")
        salt, nonce = _bytes(fields, "salt", _SALT_BYTES), _bytes(fields, "nonce", _NONCE_BYTES)
        ct = _bytes(fields, "ct", _SEED_BYTES + _TAG_BYTES)
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        secret = _derive(passphrase_source(), salt=salt, n=n, p=p)
        head = {k: v for k, v in fields.items() if k != "ct"}
        try:
            key = _from_seed(label.name, ChaCha20Poly1305(secret).decrypt(nonce, ct, _associated(head)))
        except InvalidTag as e:
            raise PassphraseError(
                f"the passphrase does not open key {label.name} (or its file was altered); try again"
            ) from e
    if key.public != label.public:
        raise MalformedError("the file's public half belongs to another key; restore it from a backup", "secret key")
    return key


def describe(data: bytes) -> Label:
    """Read name, public key and whether it is encrypted, without opening. Raises `MalformedError`."""
    return _label(_parse(data))


def path_of(directory: Path, name: str) -> Path:
    """Return where the secret key `name` is kept. Raises `MalformedError` for a name that would leave `directory`."""
    vkey.check_name(name)
    if "/" in name or name.startswith("."):
        raise MalformedError("a secret key's name has no slash and does not start with a dot", name)
    return directory / f"{name}.json"


def read(path: Path) -> bytes:
    """Return the content of a secret key's file. Raises `HomeError` if it is missing, a link, or others may read it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise durable.explain(e, path) from e
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise HomeError(f"{path} is not a file; restore the secret key from a backup")
        if mode & 0o077:
            raise HomeError(f"{path} can be read by others; run `chmod 600 {path}`, and think of making a new key")
        return os.read(fd, MAX_BYTES + 1)
    except OSError as e:
        raise durable.explain(e, path) from e
    finally:
        os.close(fd)


def load(directory: Path, name: str, passphrase_source: Callable[[], bytes]) -> SecretKey:
    """Read and open key `name` of `directory`. Raises as `path_of`, `read` and `open` do."""
    key = open(read(path_of(directory, name)), passphrase_source)
    if key.name != name:
        raise MalformedError(f"the file holds key {key.name}; rename it back", f"{name}.json")
    return key


def harden() -> None:
    """Keep memory out of core dumps and other processes of this user, as far as the system lets us."""
    import ctypes

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def _parse(data: bytes) -> dict[str, str | int]:
    """Return the object with exactly the fields of its kind, each text or an integer."""
    if len(data) > MAX_BYTES:
        raise LimitError(f"larger than {MAX_BYTES} bytes", "secret key")
    try:
        fields = json.loads(data.decode("ascii"), object_pairs_hook=_no_duplicates)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise MalformedError("not a JSON object in ASCII; restore the file from a backup", "secret key") from e
    except ValueError as e:  # an integer of thousands of digits
        raise MalformedError("a number is too long", "secret key") from e
    if not isinstance(fields, dict) or any(type(value) not in (str, int) for value in fields.values()):
        raise MalformedError("not an object of texts and integers", "secret key")
    if fields.get("v") != 1 or fields.get("kdf") not in ("none", "scrypt"):
        raise MalformedError("unknown version or key derivation; a newer mirror may have written it", "secret key")
    if fields.keys() != (_PLAIN if fields["kdf"] == "none" else _ENCRYPTED):
        raise MalformedError("fields are missing or unknown", "secret key")
    return fields


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise MalformedError("a field stands twice", "secret key")
    return fields


def _label(fields: dict[str, str | int]) -> Label:
    name, public = fields["name"], _bytes(fields, "public", 32)
    if not isinstance(name, str):
        raise MalformedError("the name is not text", "secret key")
    vkey.check_name(name)
    vkey.check_public(public)
    return Label(name=name, public=public, encrypted=fields["kdf"] != "none")


def _integer(fields: dict[str, str | int], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int):
        raise MalformedError(f"`{name}` is not an integer", "secret key")
    return value


def _bytes(fields: dict[str, str | int], name: str, length: int) -> bytes:
    """Return `length` bytes from canonical base64; the text is never quoted in an error, it may be secret."""
    text = fields[name]
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if isinstance(text, str) else b""
    except (binascii.Error, UnicodeEncodeError):
        data = b""
    if len(data) != length or _b64(data) != text:
        raise MalformedError(f"`{name}` is not canonical base64 of {length} bytes", "secret key")
    return data


def _derive(passphrase: bytes, *, salt: bytes, n: int, p: int) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    if not passphrase:
        raise PassphraseError("the passphrase is empty; give one, or make the key with --no-passphrase")
    with contextlib.suppress(UnicodeDecodeError):  # what is not text is taken as it is
        passphrase = unicodedata.normalize("NFC", passphrase.decode("utf-8")).encode("utf-8")
    return Scrypt(salt=salt, length=32, n=n, r=_SCRYPT_R, p=p).derive(passphrase)


def _from_seed(name: str, seed: bytes) -> SecretKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(seed)
    return SecretKey(name=name, public=key.public_key().public_bytes_raw(), _key=key)


def _associated(head: dict[str, str | int]) -> bytes:
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode("ascii")


def _dump(fields: dict[str, str | int]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def _b64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")
