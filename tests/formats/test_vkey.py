import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import LimitError, MalformedError
from mirror.formats import vkey

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def vectors(name: str) -> object:
    path = VECTORS / name
    if not path.is_file():
        pytest.skip(f"{name}: the shared vectors are not present")
    return json.loads(path.read_text())


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Edwards addition in affine coordinates (RFC 8032 §5.1.4), slow and plain."""
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def root_of(square: int) -> int:
    x = pow(square, (P + 3) // 8, P)
    return x if x * x % P == square % P else x * pow(2, (P - 1) // 4, P) % P


def low_order_points() -> set[tuple[int, int]]:
    y = vkey._ORDER_8_Y
    point = (root_of((y * y - 1) * pow(D * y * y + 1, -1, P)), y)
    found, here = set(), (0, 1)
    for _ in range(8):
        found.add(here)
        here = add(here, point)
    assert here == (0, 1)
    return found


def encode(point: tuple[int, int]) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def test_all_eight_low_order_points_are_refused():
    points = low_order_points()
    assert len(points) == 8
    for point in points:
        with pytest.raises(MalformedError, match="low order"):
            vkey.check_public(encode(point))


@pytest.mark.parametrize("y", [P, P + 1, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_key_that_is_not_canonical_is_refused(y, sign):
    with pytest.raises(MalformedError, match="canonical"):
        vkey.check_public((y | sign << 255).to_bytes(32, "little"))


def test_zero_x_with_the_sign_bit_set_is_refused():
    for y in (1, P - 1):
        with pytest.raises(MalformedError):
            vkey.check_public((y | 1 << 255).to_bytes(32, "little"))


def test_half_of_all_y_are_no_points_and_are_refused():
    refused = 0
    for y in range(2, 202):
        try:
            vkey.check_public(y.to_bytes(32, "little"))
        except MalformedError:
            refused += 1
    assert 60 < refused < 140


@pytest.mark.parametrize("length", [0, 31, 33])
def test_key_of_another_length_is_refused(length):
    with pytest.raises(MalformedError):
        vkey.check_public(bytes(length))


def test_every_low_order_key_of_the_cctv_vectors_is_refused_and_no_good_one():
    for case in vectors("ed25519/ed25519vectors.json"):
        key, flags = bytes.fromhex(case["key"]), set(case["flags"] or ())
        if flags & {"low_order_A", "non_canonical_A"}:
            with pytest.raises(MalformedError):
                vkey.check_public(key)
        else:
            vkey.check_public(key)


def test_published_verifier_keys_are_read_and_written_back():
    kat = vectors("kat.json")
    for text in [kat[k]["vkey"] for k in ("c2sp_signed_note_example", "go_note_example", "tessera_log")]:
        assert vkey.parse(text).format() == text


def test_published_bad_verifier_keys_are_refused():
    for text in vectors("kat.json")["go_note_example"]["bad_vkeys"]:
        with pytest.raises(MalformedError):
            vkey.parse(text)


def test_cosignature_key_is_not_taken_for_a_signing_key():
    with pytest.raises(MalformedError, match="0x01"):
        vkey.parse(vectors("kat.json")["native_cosig_vkey"])


def public_of(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


names = st.text(min_size=1, max_size=40).filter(lambda s: s.isprintable() and " " not in s and "+" not in s)


@given(names, st.binary(min_size=32, max_size=32))
def test_format_and_parse_are_inverse(name, seed):
    key = vkey.make(name, public_of(seed))
    assert vkey.parse(key.format()) == key
    assert vkey.parse_file((key.format() + "\n").encode()) == key


GOOD = vkey.make("mirror-seal-00000000", public_of(b"\1" * 32))


def test_any_changed_character_is_refused():
    text = GOOD.format()
    for i in range(len(text)):
        for c in "A0+= /-":
            if c != text[i]:
                with pytest.raises(MalformedError):
                    vkey.parse(text[:i] + c + text[i + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "a+b",
        GOOD.format() + "\n",
        " " + GOOD.format(),
        GOOD.format() + "=",
        GOOD.format()[:-1],
        "é+00000000+é",
    ],
)
def test_text_that_is_not_exactly_one_key_is_refused(text):
    with pytest.raises(MalformedError):
        vkey.parse(text)


@given(st.text(max_size=200))
def test_foreign_text_only_ever_raises_malformed(text):
    with pytest.raises(MalformedError):
        vkey.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\x1b[2J", "a\u202eb", "\ud800"])
def test_names_that_do_not_print_are_refused(name):
    with pytest.raises(MalformedError):
        vkey.check_name(name)


def test_overlong_key_is_over_a_limit():
    with pytest.raises(LimitError):
        vkey.parse("a" * 5000)
    with pytest.raises(LimitError, match=r"x\.vkey"):
        vkey.parse_file(b"a" * 5000, "x.vkey")


def test_file_with_two_newlines_or_not_utf8_is_refused():
    for data in (GOOD.format().encode() + b"\n\n", b"\xff"):
        with pytest.raises(MalformedError, match=r"x\.vkey"):
            vkey.parse_file(data, "x.vkey")


def test_keyid_is_the_sha256_of_the_raw_key():
    assert vkey.keyid(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert GOOD.keyid == vkey.keyid(GOOD.public)
