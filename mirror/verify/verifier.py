"""Verify a file offline: what it proves to a reader with a policy, and what it does not (design: the proof contract).

1 container and last records · 2 content against the capture root · 3 signatures · 4 log and time · 5 the verdict.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mirror.errors import LimitError, MalformedError
from mirror.formats import dsse, gz, merkle, segments, statement, warc
from mirror.verify import container, content, records
from mirror.verify.policy import TrustPolicy
from mirror.verify.verdict import Check, Claim, Name, Outcome, Status, Verdict

PARALLEL_FROM = 32 << 20
"""Bytes of a file from which its ranges are worth several processes."""

_LARGEST_SEAL = 2 << 20
"""Bytes of a seal's record: an envelope of at most 1 MiB and its head."""

_SIGNATURE_SIZE = 64

RunScan = Callable[[Path, Sequence[tuple[int, int]], bool], list[records.Scan]]
RunContent = Callable[[Path, Sequence[content.Job], bytes], list[content.RangeResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs ranges of one file, in this process or in several (`verify.parallel`)."""

    jobs: int
    check: RunContent
    scan: RunScan


def _check_here(path: Path, jobs: Sequence[content.Job], opening: bytes) -> list[content.RangeResult]:
    parsed = segments.Opening(opening)
    with _Descriptor(path) as fd:
        return [content.check_range(fd, job, parsed) for job in jobs]


def _scan_here(path: Path, ranges: Sequence[tuple[int, int]], compressed: bool) -> list[records.Scan]:
    with _Descriptor(path) as fd:
        return [records.scan(fd, start, end, compressed=compressed) for start, end in ranges]


HERE = Runner(jobs=1, check=_check_here, scan=_scan_here)


class _Descriptor:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = container.open_file(self._path)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealed:
    """The parsed end of a sealed file."""

    seal: statement.CaptureSeal
    envelope: dsse.Envelope
    opening: bytes
    end: int  # where the sealed records end, in bytes of the file
    closing_start: int  # where the seal's member starts
    crc: int | None  # what the seal's member states about the bytes before it
    compressed: bool


def verify(path: Path, policy: TrustPolicy, *, deep: bool = False, runner: Runner = HERE) -> Verdict:
    """Verify one file. Never raises for what is in the file; opens no socket, writes nothing.

    `deep` recomputes the records' own digests as well (the seal covers every byte without them).
    """
    try:
        with _Descriptor(path) as fd:
            size = os.fstat(fd).st_size
            if size == 0:
                raise MalformedError("the file is empty", "offset 0")
            compressed = container.is_gzip(fd)
            sealed = _read_end(fd, size, compressed)
        if sealed is None:
            return _unsealed(path, size, compressed, policy, runner)
        return _sealed(path, size, sealed, policy, deep, runner)
    except MalformedError as e:
        name = Name.LIMIT_EXCEEDED if isinstance(e, LimitError) else Name.MALFORMED
        check = Check(
            check="container", claim=Claim.INTACT, status=Status.FAILED, name=name, sentence=str(e), place=e.place
        )
        return _verdict(path, [check], policy, {})


# -- 1 the end of the file


def _read_end(fd: int, size: int, compressed: bool) -> _Sealed | None:
    """Seal and opening, the last two records; None when the file does not end with a seal of ours."""
    find = container.last_member if compressed else container.last_record
    last = find(fd, size, largest=_LARGEST_SEAL)
    if last is None:
        return None
    seal_at, member, seal_record = last
    head = warc.parse_head(seal_record)
    target = head.get("warc-target-uri") or ""
    if not target.startswith("urn:mirror:seal:"):
        if target.startswith("urn:mirror:opening:"):
            raise MalformedError("an opening without the seal that follows it: the file was cut off", "last record")
        return None
    envelope = dsse.decode(seal_record[head.size : -len(warc.TAIL)])
    if envelope.payload_type != dsse.IN_TOTO:
        raise MalformedError("the seal is not an in-toto statement", "seal")
    seal = statement.decode(envelope.payload)
    before = find(fd, seal_at)
    if before is None:
        raise MalformedError("no whole record stands before the seal", f"offset {seal_at}")
    opening_at, opening_member, opening_record = before
    opening_head = warc.parse_head(opening_record)
    opening = opening_record[opening_head.size : -len(warc.TAIL)]
    crc = gz.closing_crc(member)
    # the two closing records stand outside the tree, so each of their bytes must follow from the signed statement
    ids = [h.require("warc-record-id") for h in (opening_head, head)]
    rebuilt_seal = warc.closing("seal", seal.capture, ids[1], seal.finished, dsse.MEDIA_TYPE, dsse.encode(envelope))
    rebuilt_opening = warc.closing("opening", seal.capture, ids[0], seal.finished, "text/plain", opening)
    numbers = [warc.record_number(f"\r\nWARC-Record-ID: {i}\r\n".encode()) for i in ids]
    if rebuilt_seal != seal_record or numbers[1] != seal.records + 1 or ids[0][:-9] != ids[1][:-9]:
        raise MalformedError("the record of the seal is not as its statement says", "seal record")
    if rebuilt_opening != opening_record or numbers[0] != seal.records:
        raise MalformedError("the record of the opening is not as the seal says", "opening record")
    if compressed and opening_member[3]:
        raise MalformedError("a gzip member with optional header fields", f"offset {opening_at}")
    if compressed and ((member[3] != 0) if crc is None else gz.closing(seal_record, crc) != member):
        raise MalformedError("the last gzip member is not in its canonical form", f"offset {seal_at}")
    return _Sealed(
        seal=seal, envelope=envelope, opening=opening, end=opening_at, closing_start=seal_at, crc=crc,
        compressed=compressed,
    )  # fmt: skip


# -- 2 content


def _sealed(path: Path, size: int, sealed: _Sealed, policy: TrustPolicy, deep: bool, runner: Runner) -> Verdict:
    seal = sealed.seal
    opening = segments.Opening(sealed.opening)
    checks: list[Check] = []
    jobs = _jobs(path, sealed, len(opening), deep, runner.jobs if size >= PARALLEL_FROM else 1)
    try:
        results = runner.check(path, jobs, sealed.opening)
        problems = [p for r in results for p in r.problems]
        if (problems or any(not r.nodes for r in results)) and len(jobs) > 1:
            raise MalformedError("ranges do not join", "")
    except MalformedError:
        if len(jobs) == 1:
            raise
        whole = _jobs(path, sealed, len(opening), deep, 1)  # a division was a wrong guess: undivided, then
        results = runner.check(path, whole, sealed.opening)
        problems = [p for r in results for p in r.problems]
    if len(opening) != seal.records:
        sentence = f"the opening lists {len(opening)} records, the seal covers {seal.records}"
        problems.append(content.Problem(name=Name.CONTENT_ALTERED, place="opening", sentence=sentence))
    checks.append(_container_check(path, sealed, results))
    checks += _content_checks(path, sealed, results, problems, deep)
    checks += _signature_checks(sealed, policy)
    checks += _later_layers()
    facts = {
        "capture": seal.capture,
        "root": seal.root,
        "records": seal.records,
        "signers": [{"keyid": k, "name": policy.keys[k].name if k in policy.keys else None} for k in seal.signers],
        "claimed": {"started": seal.started, "finished": seal.finished, "clock": seal.clock_source},
        "tool": {"name": seal.tool_name, "version": seal.tool_version},
        "trust": policy.source,
        "bytes": size,
        "raw_bytes": sum(r.raw for r in results),
        "digests_checked": sum(r.digests for r in results),
    }
    return _verdict(path, checks, policy, facts)


def _jobs(path: Path, sealed: _Sealed, count: int, deep: bool, parts: int) -> list[content.Job]:
    """Divide the sealed records into ranges at members whose record ids say which record they are."""
    edges = [(0, 0)]
    if parts > 1 and sealed.compressed:
        with _Descriptor(path) as fd:
            for offset, head in container.split(fd, 0, sealed.end, parts):
                number = warc.record_number(head)
                if number is not None and edges[-1][1] < number < count:
                    edges.append((offset, number))
    edges.append((sealed.end, count))
    header = gz.HEADER if sealed.crc is not None else container.PLAIN_MEMBER
    return [
        content.Job(start=a, end=b, first=first, last=last, compressed=sealed.compressed, header=header, deep=deep)
        for (a, first), (b, last) in pairwise(edges)
    ]


def _container_check(path: Path, sealed: _Sealed, results: list[content.RangeResult]) -> Check:
    if sealed.crc is None:
        sentence = "the records stand in a re-packed file: not the sealer's own bytes outside them"
        return Check(check="container", claim=Claim.INTACT, status=Status.PASSED, sentence=sentence)
    crc = 0
    for result in results:
        crc = gz.crc32_combine(crc, result.crc, result.size)
    with _Descriptor(path) as fd:
        rest = os.pread(fd, sealed.closing_start - sealed.end, sealed.end)
    crc = gz.crc32(rest, crc)
    if crc != sealed.crc:
        return Check(
            check="container", claim=Claim.INTACT, status=Status.FAILED, name=Name.MALFORMED, place="file",
            sentence="the file is not byte for byte as it was written (its own checksum differs)",
        )  # fmt: skip
    sentence = "one gzip member a record, nothing between them, and the file's checksum agrees"
    return Check(check="container", claim=Claim.INTACT, status=Status.PASSED, sentence=sentence)


def _content_checks(
    path: Path,
    sealed: _Sealed,
    results: list[content.RangeResult],
    problems: list[content.Problem],
    deep: bool,
) -> list[Check]:
    seal = sealed.seal
    tree = merkle.Range(0)
    for result in results:
        if result.end != result.start and not result.nodes:
            break
        tree.join(merkle.Range(result.start, result.nodes, result.end))
    same = tree.end == seal.records and tree.root().hex() == seal.root
    if not same and not any(p.name.outcome is Outcome.REFUTED for p in problems):
        place, sentence = _name_the_record(path, sealed.compressed)
        problems.append(content.Problem(name=Name.CONTENT_ALTERED, place=place, sentence=sentence))
    if not problems:
        sentence = f"all {seal.records} records are, byte for byte, those that were sealed, and there is nothing else"
        checks = [Check(check="content", claim=Claim.INTACT, status=Status.PASSED, sentence=sentence)]
        if deep:
            count = sum(r.digests for r in results)
            sentence = f"{count} digests that the records state about themselves agree"
            checks.append(Check(check="record-digests", claim=Claim.INTACT, status=Status.PASSED, sentence=sentence))
        return checks
    return [
        Check(
            check="content", claim=Claim.INTACT, status=Status.FAILED, name=p.name, sentence=p.sentence, place=p.place
        )
        for p in problems[:20]
    ]


def _name_the_record(path: Path, compressed: bool) -> tuple[str, str]:
    """The root differs: which record is it? Their own digests and numbers tell, when they still can."""
    sentence = "the records are not those that were sealed"
    try:
        with _Descriptor(path) as fd:
            found = records.scan(fd, 0, os.fstat(fd).st_size, compressed=compressed)
    except MalformedError as e:
        return e.place, sentence
    if found.problems:
        _, place, detail = found.problems[0]
        return place, f"{sentence}: {detail}"
    return "file", f"{sentence} (every record agrees with its own digests, so they were changed with care)"


# -- 3 signatures


def _signature_checks(sealed: _Sealed, policy: TrustPolicy) -> list[Check]:
    seal, envelope = sealed.seal, sealed.envelope
    present = {s.keyid: s.sig for s in envelope.signatures}
    checks: list[Check] = []
    extra = sorted(set(present) - set(seal.signers))
    if extra:
        sentence = f"a signature by {extra[0][:16]}… stands there, whom the signed statement does not name"
        checks.append(_seal_check(Status.FAILED, Name.SEAL_INVALID, sentence))
    absent = sorted(set(seal.signers) - set(present))
    if absent:
        sentence = f"{len(absent)} of {len(seal.signers)} signatures that the statement names are not there"
        checks.append(_seal_check(Status.MISSING, Name.THRESHOLD_NOT_MET, sentence))
    if any(len(sig) != _SIGNATURE_SIZE for sig in present.values()):
        checks.append(_seal_check(Status.FAILED, Name.SEAL_INVALID, "a signature does not have the size of one"))
    good: list[str] = []
    for keyid in seal.signers:
        key = policy.keys.get(keyid)
        if key is None or keyid not in present:
            continue
        if _signed(key.public, present[keyid], envelope.pae):
            good.append(keyid)
        else:
            checks.append(_seal_check(Status.FAILED, Name.SEAL_INVALID, f"the signature of {key.name} is not valid"))
    if any(c.status is Status.FAILED for c in checks):
        return checks
    if len(good) >= policy.threshold:
        names = " and ".join(policy.keys[k].name for k in good)
        others = len(present) - len(good)
        more = f"; {others} more by keys that this reader's trust does not name, not checked" if others else ""
        sentence = f"sealed by {names} ({len(good)} of {policy.threshold} required{more})"
        checks.append(_seal_check(Status.PASSED, None, sentence))
    elif good:
        sentence = f"{len(good)} trusted signatures, {policy.threshold} required"
        checks.append(_seal_check(Status.UNTRUSTED, Name.THRESHOLD_NOT_MET, sentence))
    else:
        known = ", ".join(f"{k[:16]}…" for k in seal.signers)
        sentence = f"signed by {known}, whom this reader's trust does not name; the signature was not checked"
        checks.append(_seal_check(Status.UNTRUSTED, Name.SIGNER_UNKNOWN, sentence))
    return checks


def _signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Ed25519 (RFC 8032). The key was checked when the policy was read: no low-order, no non-canonical point."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _seal_check(status: Status, name: Name | None, sentence: str) -> Check:
    return Check(check="seal", claim=Claim.SEALED, status=status, name=name, sentence=sentence, place="seal")


# -- 4 log and time


def _later_layers() -> list[Check]:
    """What this file does not establish. Absence is said, and is never success."""
    return [
        Check(check="log", claim=Claim.LOGGED, status=Status.MISSING, name=Name.NOT_LOGGED,
              sentence="no log proof: the sealer could have kept this capture back or made others"),
        Check(check="witnesses", claim=Claim.WITNESSED, status=Status.MISSING, name=Name.NOT_LOGGED,
              sentence="no witness has cosigned a log that holds this capture"),
        Check(check="not-after", claim=Claim.NOT_AFTER, status=Status.MISSING, name=Name.TIME_UNPROVEN,
              sentence="no time stamp: the dates are the sealer's own clock"),
        Check(check="not-before", claim=Claim.NOT_BEFORE, status=Status.MISSING, name=Name.TIME_UNPROVEN,
              sentence="no value that was unknown earlier is inside the seal"),
    ]  # fmt: skip


# -- files without a seal


def _unsealed(path: Path, size: int, compressed: bool, policy: TrustPolicy, runner: Runner) -> Verdict:
    ranges = [(0, size)]
    if compressed and runner.jobs > 1 and size >= PARALLEL_FROM:
        with _Descriptor(path) as fd:
            edges = [0, *(offset for offset, _ in container.split(fd, 0, size, runner.jobs)), size]
        ranges = list(pairwise(edges))
    try:
        scans = runner.scan(path, ranges, compressed)
    except MalformedError:
        if len(ranges) == 1:
            raise
        scans = runner.scan(path, [(0, size)], compressed)
    count, checked = sum(s.records for s in scans), sum(s.digests for s in scans)
    problems = [p for s in scans for p in s.problems]
    checks = [
        Check(check="container", claim=Claim.INTACT, status=Status.PASSED, sentence=f"{count} whole WARC records"),
    ]
    for name, place, sentence in problems[:20]:
        checks.append(
            Check(
                check="record-digests",
                claim=Claim.INTACT,
                status=Status.FAILED,
                name=name,
                sentence=sentence,
                place=place,
            )
        )
    if any(s.ours for s in scans) and _ends_loosely(path, size, compressed):
        checks.append(
            Check(check="container", claim=Claim.INTACT, status=Status.FAILED, name=Name.MALFORMED, place="end of file",
                  sentence="a seal is inside, but bytes follow it that belong to no small record")
        )  # fmt: skip
    elif any(s.ours for s in scans):
        checks.append(
            Check(check="content", claim=Claim.INTACT, status=Status.FAILED, name=Name.UNSEALED_RECORD,
                  place="last record",
                  sentence="a seal is inside, but the file does not end with it: what follows was never sealed")
        )  # fmt: skip
    elif _is_ours(path, compressed):
        checks.append(
            Check(check="container", claim=Claim.INTACT, status=Status.FAILED, name=Name.MALFORMED, place="end of file",
                  sentence="this is the beginning of a sealed capture, but opening and seal are gone: it was cut off")
        )  # fmt: skip
    elif not problems:
        without = sum(s.without_digest for s in scans)
        sentence = (
            f"{checked} digests agree, {without} records state none; whoever changes a record can change its digest"
        )
        checks.append(
            Check(
                check="record-digests", claim=Claim.INTACT, status=Status.MISSING, name=Name.UNSEALED, sentence=sentence
            )
        )
    checks.append(
        Check(
            check="seal",
            claim=Claim.SEALED,
            status=Status.MISSING,
            name=Name.UNSEALED,
            sentence="nobody has sealed this file",
        )
    )
    checks += _later_layers()
    facts = {
        "records": count, "digests_checked": checked, "digests_unknown": sum(s.unchecked for s in scans), "bytes": size,
        "raw_bytes": sum(s.raw for s in scans), "trust": policy.source,
    }  # fmt: skip
    return _verdict(path, checks, policy, facts)


def _ends_loosely(path: Path, size: int, compressed: bool) -> bool:
    find = container.last_member if compressed else container.last_record
    with _Descriptor(path) as fd:
        return find(fd, size, largest=_LARGEST_SEAL) is None


def _is_ours(path: Path, compressed: bool) -> bool:
    """The first record has number 0 in its id, as only the recorder counts them."""
    with _Descriptor(path) as fd:
        head = container.starts_record(fd, 0) if compressed else os.pread(fd, 4096, 0)
    return head is not None and warc.record_number(head) == 0


# -- 5 the verdict


def _verdict(path: Path, checks: list[Check], policy: TrustPolicy, facts: dict[str, object]) -> Verdict:
    """All checks have run; what contradicts decides first, then what the policy requires and is not shown."""
    failed = [c for c in checks if c.status is Status.FAILED and c.name is not None]
    lacking = [c for c in checks if c.claim in policy.require and c.status in (Status.MISSING, Status.UNTRUSTED)]
    lacking += [
        c for c in checks if c.status is Status.MISSING and c.name is Name.THRESHOLD_NOT_MET and c not in lacking
    ]
    shown = {c.claim for c in checks if c.status is Status.PASSED}
    if failed:
        outcome = (
            Outcome.REFUTED if any(c.name and c.name.outcome is Outcome.REFUTED for c in failed) else Outcome.MALFORMED
        )
        first = next(c for c in failed if c.name and c.name.outcome is outcome)
        headline = _line(outcome, first)
    elif lacking or not policy.require or not policy.require <= shown:
        outcome = Outcome.NOT_PROVEN
        headline = _not_proven(checks, lacking)
    else:
        outcome = Outcome.VERIFIED
        by = (
            next(c.sentence for c in checks if c.check == "seal" and c.status is Status.PASSED)
            if Claim.SEALED in shown
            else ""
        )
        headline = f"VERIFIED - {by or 'intact'}"
    return Verdict(path=str(path), outcome=outcome, headline=headline, checks=tuple(checks), facts=dict(facts))


def _line(outcome: Outcome, check: Check) -> str:
    name = check.name.value if check.name else ""
    label = name if name == outcome.value else f"{outcome.value} - {name}"
    return f"{label}: {check.sentence}" + (
        f" ({check.place})" if check.place and check.place not in check.sentence else ""
    )


def _not_proven(checks: list[Check], lacking: list[Check]) -> str:
    intact = any(c.check == "content" and c.status is Status.PASSED for c in checks)
    if not lacking:
        return "NOT PROVEN: the policy requires nothing, so nothing is proven"
    first = lacking[0]
    name = first.name.value if first.name else first.claim.value
    if intact and first.name is Name.SIGNER_UNKNOWN:
        return f"SELF-CONSISTENT, SIGNER-UNKNOWN: {first.sentence}"
    return f"NOT PROVEN - {name}: {first.sentence}"
