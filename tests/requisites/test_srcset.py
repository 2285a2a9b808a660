"""Candidates of srcset: the cases of the parsing algorithm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.requisites import srcset


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" , ,, ", []),
        ("a.jpg", ["a.jpg"]),
        ("a.jpg, b.jpg 2x", ["a.jpg", "b.jpg"]),
        ("a.jpg 1x,b.jpg 2x", ["a.jpg", "b.jpg"]),
        ("a.jpg,", ["a.jpg"]),
        ("a.jpg,,, b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg,b.jpg 2x", ["a.jpg,b.jpg"]),
        ("/i/w_1,h_2/a.jpg 100w, /i/w_2,h_4/a.jpg 200w", ["/i/w_1,h_2/a.jpg", "/i/w_2,h_4/a.jpg"]),
        ("data:image/gif;base64,R0lG, b.jpg 1x", ["data:image/gif;base64,R0lG", "b.jpg"]),
        ("a.jpg 100w 50h", ["a.jpg"]),
        ("a.jpg 1.5e1x", ["a.jpg"]),
        ("a.jpg 1x 2x, b.jpg 3x", ["b.jpg"]),
        ("a.jpg 1x 100w, b.jpg", ["b.jpg"]),
        ("a.jpg 0w", []),
        ("a.jpg -1x", []),
        ("my photo.jpg 1x, b.jpg", ["b.jpg"]),
        ("a.jpg (1x, 2x) , b.jpg", ["b.jpg"]),
        ("a.jpg (never closed, b.jpg", []),
        ("\n\ta.jpg\t1x\f,\nb.jpg\n", ["a.jpg", "b.jpg"]),
    ],
)
def test_candidates_follow_the_standard(value: str, expected: list[str]) -> None:
    assert srcset.parse(value) == expected


words = st.text("abc/.,:?=&%-", min_size=1, max_size=12).map(lambda word: "x" + word.strip(",") + "x")


@given(st.lists(st.tuples(words, st.sampled_from(["", " 1x", " 100w", " 2.5x", " 10w 20h"])), max_size=8))
def test_a_list_that_was_written_is_read_back(candidates: list[tuple[str, str]]) -> None:
    value = ", ".join(reference + descriptor for reference, descriptor in candidates)
    assert srcset.parse(value) == [reference for reference, _ in candidates]


@given(st.text(alphabet="a ,(){}1xwh.\t\n"))
def test_no_text_raises(value: str) -> None:
    assert all(srcset.parse(value))
