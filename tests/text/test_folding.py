"""Search key, tone placement, NFC in linear time."""

import json
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.text.folding import fold, nfc, unify_tones

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "vietnamese"
VIETNAMESE = st.text(
    alphabet="aăâbcdđeêghiklmnoôơpqrstuưvxyáàảãạấầẩẫậắằẳẵặéèẻẽẹếềểễệíìỉĩịóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ "
)


def load(name: str) -> object:
    if not (VECTORS / name).exists():
        pytest.skip("the shared vectors are not here")
    return json.loads((VECTORS / name).read_text())


def test_fold_drops_case_marks_and_the_stroke_of_d() -> None:
    assert fold("Đồng Tâm ĐƯỜNG") == "dong tam duong"


def test_fold_leaves_other_scripts_readable() -> None:
    assert fold("記者 Журнал 기자") == "記者 журнал 기자"


def test_search_vector_hits_without_diacritics() -> None:
    for case in load("search.json"):
        for query in case["queries_hit"]:
            assert fold(query) in fold(case["doc"])
        for query in case["queries_miss_when_diacritics_given"]:
            assert query.casefold() not in case["doc"].casefold()


def test_tone_placement_vector() -> None:
    pairs = load("tone_placement.json")["pairs"]
    assert len(pairs) == 15
    for pair in pairs:
        assert unify_tones(pair["new"]) == pair["old"] == unify_tones(pair["old"])
        assert unify_tones("Kh" + pair["new"] + ", x") == "Kh" + pair["old"] + ", x"
        assert unify_tones(pair["new"].upper()) == pair["old"].upper()


def test_quy_and_closed_syllables_keep_their_form() -> None:
    for word in ("quý", "Quý", "QUÝ", "quỳ", "hoàn", "hoạch", "huỳnh", "toét", "ngoáy"):
        assert unify_tones(word) == word


def test_several_syllables_are_all_unified() -> None:
    assert unify_tones("Hoà bình, thuỷ điện, KHOẺ, hoá_học hoà") == "Hòa bình, thủy điện, KHỎE, hóa_học hòa"


@given(st.text())
def test_fold_and_nfc_are_idempotent(text: str) -> None:
    assert nfc(nfc(text)) == nfc(text)
    assert fold(fold(text)) == fold(text)


@given(VIETNAMESE)
def test_fold_of_vietnamese_is_ascii_and_blind_to_tone_place(text: str) -> None:
    assert fold(text).isascii()
    assert fold(unify_tones(text)) == fold(text)
    assert unify_tones(unify_tones(text)) == unify_tones(text)


@given(st.text(alphabet="aê\u0301\u0323\u0302 ", max_size=200))
def test_nfc_is_the_standard_one_for_real_text(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)


def test_a_million_marks_take_linear_time() -> None:
    hostile = "a" + "\u0301\u0323" * 500_000
    start = time.process_time()
    nfc(hostile)
    fold(hostile)
    assert time.process_time() - start < 8


def test_stream_safe_text_stays_nfc() -> None:
    assert unicodedata.is_normalized("NFC", nfc("a" + "\u0301\u0323" * 2_000 + "\U0001e130" * 100))
