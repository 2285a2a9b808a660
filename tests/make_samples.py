"""Make the sample evidence of the repository: `python tests/make_samples.py [FOLDER]` (default: the repository).

An intact capture, kept with `mirror save` from docs/sample over loopback, and twins of it, each broken in one way:

    archives/samples/*.warc.gz     archives/expected.json     keys/trust.toml     keys/mirror-sample.vkey

The key is new each time; its secret half lives in a temporary folder and is gone afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from mirror.formats import dsse, gz, merkle, segments, statement, vkey, warc
from mirror.store import secrets
from mirror.store.secrets import SecretKey

ROOT = Path(__file__).resolve().parent.parent
KEY_NAME = "mirror-sample"
TRUST = f"""\
# Trust for the samples in archives/ and nothing else: the secret half of their key no longer exists.
# Your own home has a keys/ folder of its own, made by `mirror init`.
version = 1
require = ["intact", "sealed"]
[seal]
threshold = 1
keys = ["{KEY_NAME}"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A capture file taken apart: its sealed records, and what its two closing records say."""

    records: tuple[bytes, ...]
    secret: bytes
    cuts: tuple[tuple[int, ...], ...]
    seal: statement.CaptureSeal
    signatures: tuple[dsse.Signature, ...]
    ids: tuple[str, str]  # of opening and seal

    @property
    def page(self) -> int:
        """Number of the page's response."""
        outcome = json.loads(_block(self.records[-1]))
        return int(outcome["page"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """What was done to a copy of the intact file, and what `mirror verify` must say."""

    what: str
    verdict: str
    name: str | None
    exit_code: int
    make: Callable[[Sealed, bytes, Sealed], bytes]  # (the capture, its file, another capture by the same key) → a file


def main(folder: Path) -> None:
    samples = folder / "archives" / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    for old in samples.glob("*.warc.gz"):
        old.unlink()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        made = json.loads(_mirror("init", str(home), "--no-passphrase", "--json"))
        with site() as url:
            data, other = (_save(home, url).read_bytes() for _ in range(2))
    for name, twin in TWINS.items():
        (samples / f"{name}.warc.gz").write_bytes(twin.make(take_apart(data), data, take_apart(other)))
    expected = {
        f"samples/{name}.warc.gz": {"what": t.what, "verdict": t.verdict, "name": t.name, "exit_code": t.exit_code}
        for name, t in TWINS.items()
    }
    (folder / "archives" / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    public = vkey.make(KEY_NAME, vkey.parse(made["vkey"]).public)
    (keys / f"{KEY_NAME}.vkey").write_text(f"{public.format()}\n")
    (keys / "trust.toml").write_text(TRUST)


# -- the intact capture


@contextlib.contextmanager
def site() -> Iterator[str]:
    """docs/sample on loopback; the page comes chunked, gzip-coded and with a cookie, as many do."""
    handler = functools.partial(_Handler, directory=str(ROOT / "docs" / "sample"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def version_string(self) -> str:
        return "sample"

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified":  # when this copy of the repository was made is nobody's business
            super().send_header(keyword, value)

    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        body = gzip.compress((Path(self.directory) / "index.html").read_bytes(), mtime=0)
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"), ("Content-Encoding", "gzip"),
            ("Transfer-Encoding", "chunked"), ("Set-Cookie", "visit=1; Path=/"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        for part in (body[:300], body[300:]):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


def _save(home: Path, url: str) -> Path:
    return Path(json.loads(_mirror("save", "--home", str(home), "--allow-private-hosts", "--json", url))["path"])


def _mirror(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "mirror", *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


# -- apart and together


def members(data: bytes) -> list[bytes]:
    """The gzip members of a file."""
    found = []
    while data:
        inflater = zlib.decompressobj(31)
        inflater.decompress(data)
        size = len(data) - len(inflater.unused_data)
        found.append(data[:size])
        data = data[size:]
    return found


def take_apart(data: bytes) -> Sealed:
    *records, opening, seal = (gzip.decompress(m) for m in members(data))
    parsed = segments.Opening(_block(opening))
    envelope = dsse.decode(_block(seal))
    return Sealed(
        records=tuple(records), secret=parsed.secret,
        cuts=tuple(tuple(parsed.cut(n)) for n in range(len(parsed))),
        seal=statement.decode(envelope.payload), signatures=envelope.signatures,
        ids=(_id(opening), _id(seal)),
    )  # fmt: skip


def put_together(sealed: Sealed) -> bytes:
    """The file as the recorder would have written it, its own checksum included."""
    seal = sealed.seal
    opening = segments.write_opening(sealed.secret, sealed.cuts)
    envelope = dsse.encode(dsse.Envelope(statement.encode(seal), dsse.IN_TOTO, sealed.signatures))
    front = packed(
        [*sealed.records, warc.closing("opening", seal.capture, sealed.ids[0], seal.finished, "text/plain", opening)]
    )
    last = warc.closing("seal", seal.capture, sealed.ids[1], seal.finished, dsse.MEDIA_TYPE, envelope)
    return front + gz.closing(last, gz.crc32(front, 0))


def packed(records: Sequence[bytes]) -> bytes:
    return b"".join(piece for record in records for piece in gz.deflated([record]))


def renew_root(sealed: Sealed) -> Sealed:
    """The statement says what the records are now; the signatures stay those of the statement before."""
    committer = segments.Committer(sealed.secret)
    leaves = []
    for number, (record, cut) in enumerate(zip(sealed.records, sealed.cuts, strict=True)):
        edges = [sum(cut[:n]) for n in range(len(cut) + 1)]
        digests = [sha256(record[a:b]).digest() for a, b in pairwise(edges)]
        leaves.append(committer.leaf(number, digests))
    root = merkle.tree_hash(leaves).hex()
    return replace(sealed, seal=replace(sealed.seal, root=root, records=len(leaves)))


def sign(sealed: Sealed, key: SecretKey, keyid: str) -> Sealed:
    """Signed by `key`, under the name `keyid`."""
    sealed = replace(sealed, seal=replace(sealed.seal, signers=(keyid,)))
    message = dsse.pae(dsse.IN_TOTO, statement.encode(sealed.seal))
    return replace(sealed, signatures=(dsse.Signature(keyid, key.sign(message)),))


def _block(record: bytes) -> bytes:
    return record[record.index(b"\r\n\r\n") + 4 : -len(warc.TAIL)]


def _id(record: bytes) -> str:
    return warc.parse_head(record).require("warc-record-id")


# -- what is done to the twins


def _other_page(sealed: Sealed) -> Sealed:
    """One byte of the page's chunked, compressed body is another."""
    record = bytearray(sealed.records[sealed.page])
    record[record.index(b"\r\n\r\n", record.index(b"Set-Cookie")) + 200] ^= 1
    return _with_record(sealed, sealed.page, bytes(record))


def _other_page_with_digests(sealed: Sealed) -> Sealed:
    """Another picture, and in its record the digests that belong to it."""
    number = next(n for n, record in enumerate(sealed.records) if b"\r\n\r\n<svg" in record)
    record = sealed.records[number].replace(b"#a33", b"#3a3")
    block = _block(record)
    for name, digest in (("Payload", sha256(block[block.index(b"\r\n\r\n") + 4 :])), ("Block", sha256(block))):
        field = f"WARC-{name}-Digest: sha256:".encode()
        record = re.sub(field + b"[0-9a-f]{64}", field + digest.hexdigest().encode(), record, count=1)
    return _with_record(sealed, number, record)


def _with_record(sealed: Sealed, number: int, record: bytes) -> Sealed:
    return replace(sealed, records=(*sealed.records[:number], record, *sealed.records[number + 1 :]))


def _other_cut(sealed: Sealed) -> Sealed:
    """The border between the first two segments of the page stands one byte later."""
    first, second, *rest = sealed.cuts[sealed.page]
    cuts = list(sealed.cuts)
    cuts[sealed.page] = (first + 1, second - 1, *rest)
    return replace(sealed, cuts=tuple(cuts))


def _swapped(records: tuple[bytes, ...], page: int) -> tuple[bytes, ...]:
    return (*records[:page], records[page + 1], records[page], *records[page + 2 :])


def _note(sealed: Sealed) -> bytes:
    """A record that nobody sealed, with an id that continues the count."""
    record_id = f"{sealed.ids[1][:-9]}{len(sealed.records) + 2:08x}>"
    return warc.closing("note", sealed.seal.capture, record_id, sealed.seal.finished, "text/plain", b"added later\n")


def _stranger() -> SecretKey:
    return secrets.generate("stranger")


def _signature_by_another(s: Sealed) -> Sealed:
    return sign(s, _stranger(), s.seal.signers[0])


def _signature_more(s: Sealed) -> Sealed:
    key = _stranger()
    return replace(s, signatures=(*s.signatures, *sign(s, key, key.keyid).signatures))


def _resealed_by_a_stranger(s: Sealed) -> Sealed:
    key = _stranger()
    return sign(renew_root(_other_page_with_digests(s)), key, key.keyid)


def _flipped(data: bytes) -> bytes:
    """One bit within the compressed text of a record."""
    middle = len(members(data)[0]) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _commented(data: bytes) -> bytes:
    """The first gzip member carries a comment; what it holds, and the file's checksum, are right."""
    *front, last = members(data)
    front[0] = front[0][:3] + b"\x10" + front[0][4:10] + b"hidden\0" + front[0][10:]
    start = b"".join(front)
    return start + gz.closing(gzip.decompress(last), gz.crc32(start, 0))


def _cut_seal(data: bytes, count: int) -> bytes:
    return b"".join(members(data)[:-count])


def _ok(what: str, make: Callable[[Sealed, bytes, Sealed], bytes]) -> Twin:
    return Twin(what=what, verdict="VERIFIED", name=None, exit_code=0, make=make)


def _refuted(name: str, what: str, make: Callable[[Sealed], Sealed]) -> Twin:
    return Twin(what=what, verdict="REFUTED", name=name, exit_code=3, make=lambda s, _d, _o: put_together(make(s)))


def _malformed(what: str, make: Callable[[bytes], bytes]) -> Twin:
    return Twin(what=what, verdict="MALFORMED", name="MALFORMED", exit_code=5, make=lambda _s, d, _o: make(d))


TWINS = {
    "intact": _ok("as `mirror save` wrote it", lambda _s, data, _o: data),
    "repacked": _ok(
        "every record compressed again with another gzip; the sealed records are the same",
        lambda _s, data, _o: b"".join(gzip.compress(gzip.decompress(m), mtime=0) for m in members(data)),
    ),
    "page-altered": _refuted("CONTENT-ALTERED", "one byte of the page is another", _other_page),
    "picture-altered": _refuted(
        "CONTENT-ALTERED", "another picture, and its record's own digests were renewed", _other_page_with_digests
    ),
    "root-renewed": _refuted(
        "SEAL-INVALID", "another picture, and digests and statement were renewed; only the signature was not",
        lambda s: renew_root(_other_page_with_digests(s)),
    ),
    "resealed-by-a-stranger": Twin(
        what="another picture, and all was sealed again with a key that nobody trusts", verdict="NOT PROVEN",
        name="SIGNER-UNKNOWN", exit_code=4, make=lambda s, _d, _o: put_together(_resealed_by_a_stranger(s)),
    ),
    "signature-replaced": _refuted(
        "SEAL-INVALID", "the signature is another key's, under the true key's name", _signature_by_another
    ),
    "signature-added": _refuted(
        "SEAL-INVALID", "a second signature, by a key that the statement does not name", _signature_more
    ),
    "date-changed": _refuted(
        "SEAL-INVALID", "the statement claims another start",
        lambda s: replace(s, seal=replace(s.seal, started="2020-01-01T00:00:00.000000Z")),
    ),
    "seal-of-another-capture": Twin(
        what="opening and seal come from another capture by the same key, the cut was made to fit", verdict="REFUTED",
        name="CONTENT-ALTERED", exit_code=3,
        make=lambda s, _d, other: put_together(replace(other, records=s.records, cuts=s.cuts)),
    ),
    "record-dropped": _refuted(
        "CONTENT-ALTERED", "the page's request is gone",
        lambda s: replace(s, records=s.records[: s.page + 1] + s.records[s.page + 2 :]),
    ),
    "last-record-dropped": _refuted(
        "RECORD-MISSING", "the last sealed record is gone", lambda s: replace(s, records=s.records[:-1])
    ),
    "record-added": _refuted(
        "UNSEALED-RECORD", "one more record before the opening", lambda s: replace(s, records=(*s.records, _note(s)))
    ),
    "record-after-seal": Twin(
        what="one more record after the seal", verdict="REFUTED", name="UNSEALED-RECORD", exit_code=3,
        make=lambda s, data, _o: data + packed([_note(s)]),
    ),
    "records-swapped": _refuted(
        "CONTENT-ALTERED", "the page's response and request changed places",
        lambda s: replace(s, records=_swapped(s.records, s.page)),
    ),
    "secret-changed": _refuted(
        "CONTENT-ALTERED", "the opening states another secret",
        lambda s: replace(s, secret=bytes([s.secret[0] ^ 1]) + s.secret[1:]),
    ),
    "cut-changed": _refuted(
        "CONTENT-ALTERED", "the opening cuts the page's record one byte later", _other_cut
    ),
    "bit-flipped": _malformed("one bit of the file is another", _flipped),
    "truncated": _malformed("the last 100 bytes are gone", lambda data: data[:-100]),
    "seal-removed": _malformed("the last record, the seal, is gone", lambda data: _cut_seal(data, 1)),
    "opening-and-seal-removed": _malformed("the last two records are gone", lambda data: _cut_seal(data, 2)),
    "never-sealed": Twin(
        what="the exchanges alone, as a tool that seals nothing would keep them", verdict="NOT PROVEN",
        name="UNSEALED", exit_code=4, make=lambda s, _d, _o: packed(s.records[1:-2]),
    ),
    "bytes-after-the-end": _malformed("a few bytes follow the last record", lambda data: data + b"\0\0\0\0"),
    "bytes-hidden": _malformed("a comment is hidden in a gzip header", _commented),
}  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
