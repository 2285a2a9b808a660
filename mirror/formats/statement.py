"""in-toto Statement v1 with the capture-seal predicate: what the signers of a capture say (archives/FORMAT.md).

No URL, address, operator name or file hash stands here: they live in records, behind salted leaves.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from mirror.errors import MalformedError
from mirror.model import CaptureId

STATEMENT = "https://in-toto.io/Statement/v1"
CAPTURE_SEAL = "urn:mirror:predicate:capture-seal/v1"
_HEX = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_MAX_SIGNERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSeal:
    """The seal's claims. Times are the sealer's own clock, RFC 3339 UTC with microseconds: claimed, never proven.

    `signers`: the keyids that sign, sorted; a signature added or removed later shows.
    `not_before`, `series`, `roster`, `log` are the doors of the log and time layers; empty until those are in use.
    """

    capture: CaptureId
    root: str
    records: int
    started: str
    finished: str
    signers: tuple[str, ...]
    tool_version: str
    clock_source: str = "system"
    clock_offset: float | None = None
    tool_name: str = "mirror"
    tool_commit: str | None = None
    not_before: tuple[dict[str, Any], ...] = ()
    series: dict[str, Any] | None = None
    roster: dict[str, Any] | None = None
    log: str | None = None


def encode(seal: CaptureSeal) -> bytes:
    """The statement's JSON, as it is signed (through DSSE's PAE)."""
    predicate = {
        "capture": seal.capture,
        "records": seal.records,
        "claimed": {
            "started": seal.started,
            "finished": seal.finished,
            "clock": {"source": seal.clock_source, "offset": seal.clock_offset},
        },
        "not_before": list(seal.not_before),
        "series": seal.series,
        "signers": list(seal.signers),
        "tool": {"name": seal.tool_name, "version": seal.tool_version, "commit": seal.tool_commit},
        "roster": seal.roster,
        "log": seal.log,
    }
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": "capture", "digest": {"mirrorSegmentsV1": seal.root}}],
        "predicateType": CAPTURE_SEAL,
        "predicate": predicate,
    }
    return json.dumps(statement, separators=(",", ":"), ensure_ascii=False).encode()


def decode(payload: bytes) -> CaptureSeal:
    """Parse a capture seal strictly: exactly these fields, these types. Raises `MalformedError` with the place."""
    try:
        document = json.loads(payload, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as e:
        raise MalformedError("not JSON", "seal") from e
    top = _fields(document, "statement", "_type", "subject", "predicateType", "predicate")
    if top["_type"] != STATEMENT:
        raise MalformedError("not an in-toto Statement v1", "seal._type")
    if top["predicateType"] != CAPTURE_SEAL:
        raise MalformedError(f"not a capture seal v1: {str(top['predicateType'])[:80]}", "seal.predicateType")
    match top["subject"]:
        case [{"name": "capture", "digest": {"mirrorSegmentsV1": str(root), **more}, **rest}] if not more and not rest:
            pass
        case _:
            raise MalformedError("not exactly one capture root", "seal.subject")
    p = _fields(
        top["predicate"], "predicate",
        "capture", "records", "claimed", "not_before", "series", "signers", "tool", "roster", "log",
    )  # fmt: skip
    claimed = _fields(p["claimed"], "claimed", "started", "finished", "clock")
    clock = _fields(claimed["clock"], "clock", "source", "offset")
    tool = _fields(p["tool"], "tool", "name", "version", "commit")
    signers = _list(p["signers"], "signers")
    if not 1 <= len(signers) <= _MAX_SIGNERS or sorted(set(map(str, signers))) != signers:
        raise MalformedError("1 to 16 distinct keyids in order", "seal.signers")
    records = p["records"]
    if type(records) is not int or not 1 <= records < 1 << 32:
        raise MalformedError("not a record count", "seal.records")
    offset = clock["offset"]
    if offset is not None and type(offset) not in (int, float):
        raise MalformedError("not a number of seconds", "seal.clock.offset")
    for name in ("series", "roster"):
        if p[name] is not None and type(p[name]) is not dict:
            raise MalformedError("neither null nor an object", f"seal.{name}")
    return CaptureSeal(
        capture=CaptureId(_text(p["capture"], "capture", _UUID)),
        root=_text(root, "root", _HEX),
        records=records,
        started=_text(claimed["started"], "started", _TIME),
        finished=_text(claimed["finished"], "finished", _TIME),
        signers=tuple(_text(s, "signers", _HEX) for s in signers),
        tool_version=_text(tool["version"], "tool.version"),
        clock_source=_text(clock["source"], "clock.source"),
        clock_offset=offset,
        tool_name=_text(tool["name"], "tool.name"),
        tool_commit=None if tool["commit"] is None else _text(tool["commit"], "tool.commit"),
        not_before=tuple(_list(p["not_before"], "not_before")),
        series=p["series"],
        roster=p["roster"],
        log=None if p["log"] is None else _text(p["log"], "log"),
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a key stands twice", "seal")
    return found


def _fields(value: Any, place: str, *names: str) -> dict[str, Any]:
    if type(value) is not dict or set(value) != set(names):
        raise MalformedError(f"expected exactly the fields {', '.join(names)}", f"seal.{place}")
    return value


def _list(value: Any, place: str) -> list[Any]:
    if type(value) is not list:
        raise MalformedError("not a list", f"seal.{place}")
    return value


def _text(value: Any, place: str, pattern: re.Pattern[str] | None = None) -> str:
    if type(value) is not str or len(value) > 200 or (pattern and not pattern.fullmatch(value)):
        raise MalformedError("not in the expected form", f"seal.{place}")
    return value
