"""A corpus as one sealed capture: the same requests and responses, recorded and sealed as `mirror save` does it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip

from mirror.formats import http1
from mirror.model import CaptureId, Exchange
from mirror.record import Recorder, Signer
from mirror.store import durable

_TYPE = re.compile(rb"\r\nWARC-Type: (\w+)\r\n")
_URL = re.compile(rb"\r\nWARC-Target-URI: (\S+)\r\n")
_DATE = re.compile(rb"\r\nWARC-Date: (\S+)\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


def seal(corpus: Path, target: Path, signer: Signer) -> None:
    """Write `target`, a capture file with all exchanges of `corpus`."""
    capture = CaptureId(str(uuid.UUID(int=1, version=4)))
    with durable.Staged.open(target.parent) as staged:
        recorder = Recorder(staged, capture, random=bytes(range(44)))
        recorder.info("mirror/bench", 0.0)
        for exchange in exchanges(corpus):
            recorder.exchange(exchange)
        recorder.exchanges(1.0)
        recorder.metadata("outcome", "application/json", [b"{}\n"], 1.0)
        recorder.seal([signer], started=0.0, finished=1.0, version="0")
        staged.publish(target)


def exchanges(corpus: Path) -> Iterator[Exchange]:
    """The exchanges of a corpus of ours: a response, then its request if there is one."""
    waiting: Exchange | None = None
    with igzip.open(corpus, "rb") as packed:
        for head, block in _records(cast(BinaryIO, packed)):
            kind = _field(_TYPE, head)
            if kind == "request" and waiting is not None:
                waiting.request = block
            elif kind == "response":
                if waiting is not None:
                    yield waiting
                waiting = _response(head, block)
    if waiting is not None:
        yield waiting


def _response(head: bytes, block: bytes) -> Exchange:
    end = block.index(b"\r\n\r\n") + 4
    http = block[:end]
    return Exchange(
        url=_field(_URL, head), started=datetime.fromisoformat(_field(_DATE, head)).timestamp(), head=http,
        body=[block[end:]], body_size=len(block) - end, status=200, fields=http1.parse_head(http).fields,
    )  # fmt: skip


def _records(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while line := file.readline():
        lines = [line]
        while lines[-1] != b"\r\n":
            lines.append(file.readline())
        head = b"".join(lines)
        block = file.read(int(_field(_LENGTH, head)))
        file.read(4)
        yield head, block


def _field(pattern: re.Pattern[bytes], head: bytes) -> str:
    match = pattern.search(head)
    assert match, head
    return match[1].decode()
