"""Each named verdict: a vector that breaks one thing only, with everything renewed that needs no key."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import tamper
from make_samples import packed, renew_root, sign
from tamper import KEY, STRANGER, TRUST, Sealed, failing, members, put_together, signed, take_apart, trust, verdict

from mirror.formats import dsse, gz, statement, warc
from mirror.store import secrets
from mirror.verify.policy import NO_TRUST
from mirror.verify.verdict import Claim, Outcome, Status, worst

OTHERS = [secrets.generate(f"signer-{n}") for n in range(3)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tamper.capture_file(tmp_path_factory.mktemp("sealed")).read_bytes()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """Another capture by the same key."""
    return take_apart(tamper.capture_file(tmp_path_factory.mktemp("other")).read_bytes())


@pytest.fixture(scope="module")
def sealed(data: bytes) -> Sealed:
    return take_apart(data)


# -- what is intact


def test_intact_capture_is_verified_and_says_what_is_not_shown(tmp_path: Path, data: bytes) -> None:
    for deep in (False, True):
        found = verdict(tmp_path, data, deep=deep)
        assert (found.outcome, found.outcome.code) == (Outcome.VERIFIED, 0)
        assert found.headline == "VERIFIED - sealed by mirror-seal-test (1 of 1 required)"
        missing = {(c.check, c.name.value) for c in found.checks if c.status is Status.MISSING and c.name}
        assert missing == {
            ("log", "NOT-LOGGED"), ("witnesses", "NOT-LOGGED"),
            ("not-after", "TIME-UNPROVEN"), ("not-before", "TIME-UNPROVEN"),
        }  # fmt: skip
    assert found.facts["digests_checked"] > 10


def test_putting_together_what_was_taken_apart_gives_a_verified_file(tmp_path: Path, sealed: Sealed) -> None:
    assert verdict(tmp_path, put_together(sealed)).outcome is Outcome.VERIFIED


def test_repacked_copy_is_verified_and_says_so(tmp_path: Path, data: bytes) -> None:
    copy = b"".join(gzip.compress(gzip.decompress(m), mtime=0) for m in members(data))
    found = verdict(tmp_path, copy, deep=True)
    assert found.outcome is Outcome.VERIFIED
    assert any("re-packed" in c.sentence for c in found.checks)


def test_decompressed_copy_is_verified_and_says_so(tmp_path: Path, data: bytes) -> None:
    found = verdict(tmp_path, gzip.decompress(data), deep=True)
    assert found.outcome is Outcome.VERIFIED
    assert any("re-packed" in c.sentence for c in found.checks)


def test_altered_decompressed_copy_is_not_verified(tmp_path: Path, data: bytes) -> None:
    plain = gzip.decompress(data)
    for at in range(0, len(plain), 23):
        changed = plain[:at] + bytes([plain[at] ^ 1]) + plain[at + 1 :]
        assert verdict(tmp_path, changed).outcome in (Outcome.REFUTED, Outcome.MALFORMED)
    for size in range(1, len(plain), 97):
        assert verdict(tmp_path, plain[:size]).outcome is Outcome.MALFORMED
    assert verdict(tmp_path, plain + b"\r\n").outcome is Outcome.MALFORMED


# -- check 3: content


def _page(sealed: Sealed, change: Callable[[bytes], bytes]) -> Sealed:
    record = change(sealed.records[sealed.page])
    return replace(sealed, records=(*sealed.records[: sealed.page], record, *sealed.records[sealed.page + 1 :]))


def _new_digests(record: bytes) -> bytes:
    head, _, block = record.removesuffix(warc.TAIL).partition(b"\r\n\r\n")
    payload = block.partition(b"\r\n\r\n")[2]
    for name, of in ((b"Payload", payload), (b"Block", block)):
        head = re.sub(b"WARC-" + name + b"-Digest: sha256:[0-9a-f]+",
                      b"WARC-" + name + b"-Digest: sha256:" + sha256(of).hexdigest().encode(), head)  # fmt: skip
    return head + b"\r\n\r\n" + block + warc.TAIL


def _other_words(record: bytes) -> bytes:
    return _new_digests(record.replace("Đồng Tâm".encode(), "Đồng Tám".encode(), 1))


def _without(sealed: Sealed, number: int, *, cut: bool) -> Sealed:
    """Without a record; `cut`: the opening no longer lists it."""
    cuts = sealed.cuts[:number] + sealed.cuts[number + 1 :] if cut else sealed.cuts
    return replace(sealed, records=sealed.records[:number] + sealed.records[number + 1 :], cuts=cuts)


def _swapped(sealed: Sealed, a: int, b: int, *, cut: bool) -> Sealed:
    records, cuts = list(sealed.records), list(sealed.cuts)
    records[a], records[b] = records[b], records[a]
    if cut:
        cuts[a], cuts[b] = cuts[b], cuts[a]
    return replace(sealed, records=tuple(records), cuts=tuple(cuts))


def test_altered_page_is_refuted(tmp_path: Path, sealed: Sealed) -> None:
    found = verdict(tmp_path, put_together(_page(sealed, _other_words)))
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["CONTENT-ALTERED"])
    assert "changed with care" in found.headline


def test_altered_page_with_its_old_digests_is_refuted_and_named(tmp_path: Path, sealed: Sealed) -> None:
    changed = _page(sealed, lambda r: r.replace("Đồng Tâm".encode(), "Đồng Tám".encode(), 1))
    found = verdict(tmp_path, put_together(changed))
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["CONTENT-ALTERED"])
    assert f"record {sealed.page}" in found.headline


def test_altered_page_with_a_renewed_root_breaks_the_signature_only(tmp_path: Path, sealed: Sealed) -> None:
    found = verdict(tmp_path, put_together(renew_root(_page(sealed, _other_words))))
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["SEAL-INVALID"])


def test_redated_header_is_refuted(tmp_path: Path, sealed: Sealed) -> None:
    for number, record in enumerate(sealed.records):
        changed = re.sub(rb"(?m)^(WARC-Date: )2026", rb"\g<1>2025", record, count=1)
        assert changed != record
        records = (*sealed.records[:number], changed, *sealed.records[number + 1 :])
        found = verdict(tmp_path, put_together(replace(sealed, records=records)))
        assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["CONTENT-ALTERED"])


@pytest.mark.parametrize("cut", [False, True])
def test_dropped_record_is_refuted(tmp_path: Path, sealed: Sealed, cut: bool) -> None:
    for number in range(len(sealed.records)):
        found = verdict(tmp_path, put_together(_without(sealed, number, cut=cut)))
        assert found.outcome in (Outcome.REFUTED, Outcome.MALFORMED)
    assert found.outcome is Outcome.REFUTED
    assert ("CONTENT-ALTERED" if cut else "RECORD-MISSING") in failing(found)


@pytest.mark.parametrize("cut", [False, True])
def test_doubled_record_is_refuted(tmp_path: Path, sealed: Sealed, cut: bool) -> None:
    for number in range(len(sealed.records)):
        twice = (*sealed.records[: number + 1], *sealed.records[number:])
        cuts = (*sealed.cuts[: number + 1], *sealed.cuts[number:]) if cut else sealed.cuts
        found = verdict(tmp_path, put_together(replace(sealed, records=twice, cuts=cuts)))
        assert found.outcome is Outcome.REFUTED


@pytest.mark.parametrize("cut", [False, True])
def test_swapped_records_are_refuted(tmp_path: Path, sealed: Sealed, cut: bool) -> None:
    for number in range(len(sealed.records) - 1):
        found = verdict(tmp_path, put_together(_swapped(sealed, number, number + 1, cut=cut)))
        assert found.outcome is Outcome.REFUTED
        assert "CONTENT-ALTERED" in failing(found)


def _note(sealed: Sealed) -> bytes:
    record_id = f"{sealed.ids[1][:-9]}{len(sealed.records):08x}>"
    return warc.closing("note", sealed.seal.capture, record_id, sealed.seal.finished, "text/plain", b"added\n")


def test_record_that_the_seal_does_not_cover_is_named(tmp_path: Path, sealed: Sealed, data: bytes) -> None:
    note = _note(sealed)
    before_opening = put_together(replace(sealed, records=(*sealed.records, note)))
    *front, seal = members(data)
    before_seal = tamper.closed([*front, packed([note])], seal)
    for where, changed in (("opening", before_opening), ("end", data + packed([note]))):
        found = verdict(tmp_path, changed)
        assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["UNSEALED-RECORD"]), where
    for changed in (packed([note]) + data, before_seal):
        assert verdict(tmp_path, changed).outcome in (Outcome.REFUTED, Outcome.MALFORMED)
    middle = (*sealed.records[:3], note, *sealed.records[3:])
    found = verdict(
        tmp_path, put_together(replace(sealed, records=middle, cuts=(*sealed.cuts[:3], (len(note),), *sealed.cuts[3:])))
    )
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["CONTENT-ALTERED"])


def test_two_captures_in_one_file_are_refuted(tmp_path: Path, data: bytes, other: Sealed) -> None:
    found = verdict(tmp_path, data + put_together(other))
    assert found.outcome is Outcome.REFUTED
    assert {"UNSEALED-RECORD", "CONTENT-ALTERED"} & set(failing(found))


def test_seal_of_another_capture_is_refuted(tmp_path: Path, sealed: Sealed, other: Sealed) -> None:
    both = replace(other, records=sealed.records)
    own_opening = replace(both, secret=sealed.secret, cuts=sealed.cuts)
    for changed in (both, own_opening, replace(own_opening, ids=sealed.ids)):
        found = verdict(tmp_path, put_together(changed))
        assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["CONTENT-ALTERED"])


def test_seal_member_of_another_capture_is_refuted(tmp_path: Path, data: bytes, other: Sealed) -> None:
    *front, _ = members(data)
    foreign = members(put_together(other))[-1]
    assert verdict(tmp_path, tamper.closed(front, foreign)).outcome in (Outcome.REFUTED, Outcome.MALFORMED)


def test_other_secret_and_other_cuts_are_refuted(tmp_path: Path, sealed: Sealed) -> None:
    secret = replace(sealed, secret=bytes([sealed.secret[0] ^ 1]) + sealed.secret[1:])
    first, second, *rest = sealed.cuts[sealed.page]
    for cut in ((first + 1, second - 1, *rest), (first + second, *rest), (1, first - 1, second, *rest)):
        cuts = (*sealed.cuts[: sealed.page], cut, *sealed.cuts[sealed.page + 1 :])
        found = verdict(tmp_path, put_together(replace(sealed, cuts=cuts)))
        assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["CONTENT-ALTERED"])
    found = verdict(tmp_path, put_together(secret))
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["CONTENT-ALTERED"])


def test_cut_that_joins_two_records_is_refuted(tmp_path: Path, sealed: Sealed) -> None:
    cuts = ((*sealed.cuts[0], *sealed.cuts[1]), *sealed.cuts[2:])
    assert verdict(tmp_path, put_together(replace(sealed, cuts=cuts))).outcome is Outcome.REFUTED


# -- check 0: the container


def test_missing_end_is_malformed(tmp_path: Path, data: bytes, sealed: Sealed) -> None:
    parts = members(data)
    without_opening = tamper.closed(parts[:-2], parts[-1])
    for changed in (b"".join(parts[:-1]), without_opening, b"".join(parts[:-2]), parts[0]):
        found = verdict(tmp_path, changed)
        assert (found.outcome, failing(found)) == (Outcome.MALFORMED, ["MALFORMED"])


def test_file_cut_anywhere_is_malformed(tmp_path: Path, data: bytes) -> None:
    edges = {sum(map(len, members(data)[:n])) for n in range(len(members(data)))}
    for size in sorted({0, *edges, *(e + d for e in edges for d in (-9, -1, 1, 9)), *range(1, len(data), 53)}):
        if 0 <= size < len(data):
            assert verdict(tmp_path, data[:size]).outcome is Outcome.MALFORMED, size


def test_head_of_the_file_cut_off_is_not_verified(tmp_path: Path, data: bytes) -> None:
    for size in [len(data) - sum(map(len, members(data)[:n])) for n in range(1, len(members(data)))]:
        assert verdict(tmp_path, data[-size:]).outcome in (Outcome.REFUTED, Outcome.MALFORMED)


@pytest.mark.parametrize("junk", [b"\0", b"\0" * 512, b"junk", gzip.compress(b"", mtime=0), gz.HEADER], ids=len)
def test_bytes_between_and_after_members_are_not_verified(tmp_path: Path, data: bytes, junk: bytes) -> None:
    *front, seal = members(data)
    for number in range(len(front) + 1):
        changed = tamper.closed([*front[:number], junk, *front[number:]], seal)
        assert verdict(tmp_path, changed).outcome in (Outcome.REFUTED, Outcome.MALFORMED), number
    assert verdict(tmp_path, data + junk).outcome in (Outcome.REFUTED, Outcome.MALFORMED)


def test_gzip_header_fields_are_malformed(tmp_path: Path, data: bytes) -> None:
    *front, seal = members(data)
    comment = (b"\x10", b"hidden\0")
    extra = (b"\x04", b"\x06\0XX\x02\0ab")
    name = (b"\x08", b"a.warc\0")
    for flag, field in (comment, extra, name):
        for number in range(len(front)):
            member = front[number]
            with_field = member[:3] + flag + member[4:10] + field + member[10:]
            changed = tamper.closed([*front[:number], with_field, *front[number + 1 :]], seal)
            found = verdict(tmp_path, changed)
            assert (found.outcome, failing(found)) == (Outcome.MALFORMED, ["MALFORMED"]), (flag, number)


def test_several_records_in_one_member_are_malformed(tmp_path: Path, sealed: Sealed, data: bytes) -> None:
    *_, opening, seal = members(data)
    one = packed([b"".join(sealed.records)])
    found = verdict(tmp_path, tamper.closed([one, opening], seal))
    assert (found.outcome, failing(found)) == (Outcome.MALFORMED, ["MALFORMED"])


def test_other_compression_with_the_old_checksum_is_malformed(tmp_path: Path, data: bytes) -> None:
    *front, seal = members(data)
    front[0] = gzip.compress(gzip.decompress(front[0]), mtime=0)
    found = verdict(tmp_path, b"".join([*front, seal]))
    assert (found.outcome, failing(found)) == (Outcome.MALFORMED, ["MALFORMED"])
    assert "checksum" in found.headline


def test_other_gzip_times_in_the_closing_members_are_malformed(tmp_path: Path, data: bytes) -> None:
    *front, seal = members(data)
    dated = seal[:4] + b"\x01" + seal[5:]
    assert verdict(tmp_path, b"".join([*front, dated])).outcome is Outcome.MALFORMED
    front[-1] = front[-1][:4] + b"\x01" + front[-1][5:]
    assert verdict(tmp_path, b"".join([*front, seal])).outcome is Outcome.MALFORMED


@pytest.mark.parametrize("kind", ["opening", "seal"])
def test_any_byte_of_the_closing_records_that_nobody_signed_is_malformed(
    tmp_path: Path, sealed: Sealed, data: bytes, kind: str
) -> None:
    *front, opening, seal = (gzip.decompress(m) for m in members(data))
    closing = {"opening": opening, "seal": seal}
    head = closing[kind].split(b"\r\n\r\n")[0]
    for line in head.split(b"\r\n")[1:]:
        for changed in (line + b" ", line.swapcase(), line[:-1] + b"~", line + b"\r\nX-Note: 1"):
            both = closing | {kind: closing[kind].replace(line, changed, 1)}
            start = packed([*front, both["opening"]])
            found = verdict(tmp_path, start + gz.closing(both["seal"], gz.crc32(start, 0)))
            assert found.outcome in (Outcome.REFUTED, Outcome.MALFORMED), changed


# -- check 7: signatures


def test_statement_changed_without_the_key_is_refuted(tmp_path: Path, sealed: Sealed) -> None:
    for changes in (
        {"started": "2020-01-01T00:00:00.000000Z"}, {"clock_offset": 0.5}, {"tool_version": "9"}, {"log": "a.example"},
        {"series": {"id": "00", "seq": 1, "prev": None}}, {"not_before": ({"kind": "drand"},)},
    ):  # fmt: skip
        found = verdict(tmp_path, put_together(replace(sealed, seal=replace(sealed.seal, **changes))))
        assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["SEAL-INVALID"])


def test_seal_by_a_key_nobody_trusts_proves_nothing(tmp_path: Path, sealed: Sealed) -> None:
    forged = put_together(signed(renew_root(_page(sealed, _other_words)), STRANGER))
    for policy in (TRUST, NO_TRUST):
        found = verdict(tmp_path, forged, policy)
        assert (found.outcome, found.outcome.code) == (Outcome.NOT_PROVEN, 4)
        assert found.headline.startswith("SELF-CONSISTENT, SIGNER-UNKNOWN")
    assert verdict(tmp_path, forged, trust(STRANGER)).outcome is Outcome.VERIFIED


def test_signature_by_another_key_under_the_trusted_name_is_refuted(tmp_path: Path, sealed: Sealed) -> None:
    found = verdict(tmp_path, put_together(sign(sealed, STRANGER, KEY.keyid)))
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["SEAL-INVALID"])


def test_added_signature_is_refuted_and_removed_one_proves_nothing(tmp_path: Path, sealed: Sealed) -> None:
    message = dsse.pae(dsse.IN_TOTO, statement.encode(sealed.seal))
    more = (*sealed.signatures, dsse.Signature(STRANGER.keyid, STRANGER.sign(message)))
    found = verdict(tmp_path, put_together(replace(sealed, signatures=more)))
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["SEAL-INVALID"])
    two = signed(sealed, KEY, STRANGER)
    mine = tuple(s for s in two.signatures if s.keyid == KEY.keyid)
    found = verdict(tmp_path, put_together(replace(two, signatures=mine)))
    assert (found.outcome.code, found.headline.split(":")[0]) == (4, "NOT PROVEN - THRESHOLD-NOT-MET")


def test_envelope_without_signatures_is_malformed(tmp_path: Path, sealed: Sealed) -> None:
    assert verdict(tmp_path, put_together(replace(sealed, signatures=()))).outcome is Outcome.MALFORMED


def test_every_flipped_bit_of_a_signature_is_refuted(tmp_path: Path, sealed: Sealed) -> None:
    (whole,) = sealed.signatures
    for bit in range(0, 512, 3):
        wrong = bytearray(whole.sig)
        wrong[bit // 8] ^= 1 << bit % 8
        changed = replace(sealed, signatures=(dsse.Signature(whole.keyid, bytes(wrong)),))
        assert failing(verdict(tmp_path, put_together(changed))) == ["SEAL-INVALID"]
    for short in (b"", whole.sig[:-1], whole.sig + b"\0"):
        changed = replace(sealed, signatures=(dsse.Signature(whole.keyid, short),))
        assert failing(verdict(tmp_path, put_together(changed))) == ["SEAL-INVALID"]


def test_two_of_three(tmp_path: Path, sealed: Sealed) -> None:
    three = put_together(signed(sealed, *OTHERS))
    assert verdict(tmp_path, three, trust(*OTHERS, threshold=2)).outcome is Outcome.VERIFIED
    assert verdict(tmp_path, three, trust(*OTHERS[:2], STRANGER, threshold=2)).outcome is Outcome.VERIFIED
    found = verdict(tmp_path, three, trust(OTHERS[0], STRANGER, KEY, threshold=2))
    assert (found.outcome.code, failing(found)) == (4, [])
    assert found.headline == "NOT PROVEN - THRESHOLD-NOT-MET: 1 trusted signatures, 2 required"


def test_one_bad_signature_among_good_ones_is_refuted(tmp_path: Path, sealed: Sealed) -> None:
    three = signed(sealed, *OTHERS)
    first, *rest = three.signatures
    bad = replace(three, signatures=(dsse.Signature(first.keyid, bytes(64)), *rest))
    found = verdict(tmp_path, put_together(bad), trust(*OTHERS, threshold=2))
    assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["SEAL-INVALID"])


# -- policies


@pytest.mark.parametrize("claim", [Claim.LOGGED, Claim.WITNESSED, Claim.NOT_AFTER, Claim.NOT_BEFORE])
def test_policy_that_asks_for_more_is_not_satisfied(tmp_path: Path, data: bytes, claim: Claim) -> None:
    found = verdict(tmp_path, data, trust(require=(Claim.INTACT, Claim.SEALED, claim)))
    assert (found.outcome.code, failing(found)) == (4, [])
    name = "NOT-LOGGED" if claim in (Claim.LOGGED, Claim.WITNESSED) else "TIME-UNPROVEN"
    assert found.headline.startswith(f"NOT PROVEN - {name}")


def test_policy_that_requires_nothing_proves_nothing(tmp_path: Path, data: bytes) -> None:
    assert verdict(tmp_path, data, trust(require=())).outcome.code == 4


def test_policy_that_requires_only_intact_accepts_an_unknown_signer_but_no_change(
    tmp_path: Path, data: bytes, sealed: Sealed
) -> None:
    policy = trust(STRANGER, require=(Claim.INTACT,))
    assert verdict(tmp_path, data, policy).outcome is Outcome.VERIFIED
    assert verdict(tmp_path, put_together(_page(sealed, _other_words)), policy).outcome is Outcome.REFUTED


def test_worst_of_several_outcomes_decides_and_none_is_not_proven() -> None:
    ordered = [Outcome.VERIFIED, Outcome.NOT_PROVEN, Outcome.MALFORMED, Outcome.REFUTED]
    assert [worst(ordered[: n + 1]) for n in range(4)] == ordered
    assert worst([]) is Outcome.NOT_PROVEN


# -- files that nobody sealed


def _foreign(number: int, body: bytes, digest: bytes | None = None) -> bytes:
    digest = sha256(body).hexdigest().encode() if digest is None else digest
    return (
        b"WARC/1.0\r\nWARC-Type: resource\r\nWARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-%012d>\r\n"
        b"WARC-Date: 2020-01-01T00:00:00Z\r\nWARC-Target-URI: http://a.example/\r\nWARC-Block-Digest: sha256:%b\r\n"
        b"Content-Length: %d\r\n\r\n%b\r\n\r\n" % (number, digest, len(body), body)
    )


def test_warc_of_others_is_unsealed(tmp_path: Path) -> None:
    records = [_foreign(n, b"text %d" % n) for n in range(5)]
    for changed in (b"".join(map(gzip.compress, records)), b"".join(records)):
        found = verdict(tmp_path, changed)
        assert (found.outcome.code, failing(found)) == (4, [])
        assert found.headline.startswith("NOT PROVEN - UNSEALED")
        assert found.facts["records"] == 5


def test_warc_of_others_with_a_wrong_digest_is_refuted(tmp_path: Path) -> None:
    records = [_foreign(0, b"a"), _foreign(1, b"b", sha256(b"c").hexdigest().encode())]
    for changed in (b"".join(map(gzip.compress, records)), b"".join(records)):
        found = verdict(tmp_path, changed)
        assert (found.outcome, failing(found)) == (Outcome.REFUTED, ["DIGEST-MISMATCH"])
        assert "record 1" in found.headline


def test_large_last_record_of_others_is_no_fault(tmp_path: Path) -> None:
    found = verdict(tmp_path, gzip.compress(_foreign(0, bytes(60 << 20)), 1))
    assert (found.outcome.code, failing(found)) == (4, [])
