"""What a verification says: checks, each with a status and a sentence, and the verdict that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(Enum):
    """Outcome of one check. Absence is `MISSING`, never success."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"
    UNTRUSTED = "untrusted"


class Outcome(Enum):
    """The verdict. The value is what a person reads, `code` the exit code (proof contract)."""

    VERIFIED = "VERIFIED"
    NOT_PROVEN = "NOT PROVEN"
    MALFORMED = "MALFORMED"
    REFUTED = "REFUTED"

    @property
    def code(self) -> int:
        return _CODES[self]


_CODES = {Outcome.VERIFIED: 0, Outcome.NOT_PROVEN: 4, Outcome.MALFORMED: 5, Outcome.REFUTED: 3}
_SEVERITY = (Outcome.VERIFIED, Outcome.NOT_PROVEN, Outcome.MALFORMED, Outcome.REFUTED)


def worst(outcomes: list[Outcome]) -> Outcome:
    """The most severe of several; no outcome at all is NOT PROVEN."""
    return max(outcomes, key=_SEVERITY.index) if outcomes else Outcome.NOT_PROVEN


class Name(Enum):
    """Named verdicts of the proof contract, with the class each belongs to."""

    MALFORMED = "MALFORMED"
    LIMIT_EXCEEDED = "LIMIT-EXCEEDED"
    CONTENT_ALTERED = "CONTENT-ALTERED"
    RECORD_MISSING = "RECORD-MISSING"
    UNSEALED_RECORD = "UNSEALED-RECORD"
    DIGEST_MISMATCH = "DIGEST-MISMATCH"
    SEAL_INVALID = "SEAL-INVALID"
    SIGNER_UNKNOWN = "SIGNER-UNKNOWN"
    THRESHOLD_NOT_MET = "THRESHOLD-NOT-MET"
    UNSEALED = "UNSEALED"
    NOT_LOGGED = "NOT-LOGGED"
    TIME_UNPROVEN = "TIME-UNPROVEN"

    @property
    def outcome(self) -> Outcome:
        return _CLASSES.get(self, Outcome.REFUTED)


_CLASSES = {
    Name.MALFORMED: Outcome.MALFORMED,
    Name.LIMIT_EXCEEDED: Outcome.MALFORMED,
    Name.SIGNER_UNKNOWN: Outcome.NOT_PROVEN,
    Name.THRESHOLD_NOT_MET: Outcome.NOT_PROVEN,
    Name.UNSEALED: Outcome.NOT_PROVEN,
    Name.NOT_LOGGED: Outcome.NOT_PROVEN,
    Name.TIME_UNPROVEN: Outcome.NOT_PROVEN,
}


class Claim(Enum):
    """What a policy can require, in the order of the proof contract."""

    INTACT = "intact"
    SEALED = "sealed"
    LOGGED = "logged"
    WITNESSED = "witnessed"
    NOT_AFTER = "not-after"
    NOT_BEFORE = "not-before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check. `claim`: what it speaks to. `sentence`: what it proves, or what is wrong and where."""

    check: str
    claim: Claim
    status: Status
    sentence: str
    name: Name | None = None
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer for one file. `facts` are for programs: capture id, root, signers, claimed times, counts."""

    path: str
    outcome: Outcome
    headline: str
    checks: tuple[Check, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object `mirror verify --json` prints."""
        return {
            "path": self.path,
            "verdict": self.outcome.value,
            "exit_code": self.outcome.code,
            "headline": self.headline,
            "facts": self.facts,
            "checks": [
                {
                    "check": c.check, "claim": c.claim.value, "status": c.status.value,
                    "verdict": c.name.value if c.name else None, "sentence": c.sentence, "place": c.place,
                }
                for c in self.checks
            ],
        }  # fmt: skip
