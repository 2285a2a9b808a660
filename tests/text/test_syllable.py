"""Vietnamese syllables."""

import pytest

from mirror.text.syllable import is_syllable, score


@pytest.mark.parametrize(
    "word", ["đồng", "nghiêng", "quyền", "giữ", "gì", "giết", "khoẻ", "hóa", "huỳnh", "ở", "ấy", "tuyết", "được", "yếu"]
)
def test_real_words_are_syllables(word: str) -> None:
    assert is_syllable(word)


@pytest.mark.parametrize("word", ["", "été", "für", "viêt", "señor", "ß", "đđ", "ngh", "b", "fờ", "zà", "áá", "tậng2"])
def test_other_words_are_not(word: str) -> None:
    assert not is_syllable(word)


def test_score_ignores_plain_ascii_and_punctuation() -> None:
    result = score(["“Đồng", "Tâm”", "and", "the", "été"])
    assert (result.valid, result.total, result.surplus) == (2, 3, 1)


def test_score_of_nothing_is_no_share() -> None:
    assert score([]).share == 0.0
