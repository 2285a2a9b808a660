"""gzip members: what any other gzip reads, and the checksum in the last one."""

from __future__ import annotations

import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from mirror.formats import gz

pieces = st.lists(st.binary(max_size=200) | st.integers(0, 200_000).map(bytes), max_size=5)


@given(pieces)
def test_members_inflate_to_what_was_put_in(parts: list[bytes]) -> None:
    for member in (gz.deflated(parts), gz.deflated_stream(parts), gz.stored(parts)):
        data = b"".join(member)
        assert data.startswith(gz.HEADER)
        assert gzip.decompress(data) == b"".join(parts)
        inflater = zlib.decompressobj(31)
        inflater.decompress(data)
        assert inflater.eof and not inflater.unused_data


@given(st.binary(max_size=70_000), st.integers(0, 2**32 - 1))
def test_closing_member_carries_the_checksum_of_what_is_before_it(record: bytes, crc: int) -> None:
    member = gz.closing(record, crc)
    assert gzip.decompress(member) == record
    assert gz.closing_crc(member) == crc
    assert gz.closing_crc(b"".join(gz.stored([record]))) is None


@given(st.binary(max_size=30))
def test_other_members_have_no_such_checksum(garbage: bytes) -> None:
    assert gz.closing_crc(garbage) is None
    assert gz.closing_crc(gz.closing(b"", 7)[:19]) is None


@given(st.binary(max_size=999), st.binary(max_size=999))
def test_checksums_of_ranges_combine(a: bytes, b: bytes) -> None:
    assert gz.crc32_combine(gz.crc32(a), gz.crc32(b), len(b)) == zlib.crc32(a + b)
