"""Tell Vietnamese words from chance: the syllable-validity score that questions a declared charset.

A Vietnamese word is one syllable: an onset, a rhyme and a tone, each from a small closed set. Bytes read with the wrong
table almost never make such syllables, so the share of valid ones names the right table.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ONSETS = _words("b c ch d đ g gh gi h k kh l m n ng ngh nh p ph qu r s t th tr v x") | {""}
_RHYMES = _words(
    """
    a ac ach ai am an ang anh ao ap at au ay ăc ăm ăn ăng ăp ăt âc âm ân âng âp ât âu ây
    e ec em en eng eo ep et ê êch êm ên ênh êp êt êu i ich im in inh ip it iu ia iêc iêm iên iêng iêp iêt iêu
    o oc oi om on ong ooc oong op ot oa oac oach oai oam oan oang oanh oao oap oat oay oăc oăm oăn oăng oăt
    oe oem oen oeo oet ô ôc ôi ôm ôn ông ôp ôt ơ ơi ơm ơn ơp ơt
    u uc ui um un ung up ut ua uân uâng uât uây uê uêch uên uênh uêt uơ uôc uôi uôm uôn uông uôt uy uya uych uyên uyêt
    uynh uyp uyt uyu ư ưc ưi ưm ưn ưng ưt ưu ưa ươc ươi ươm ươn ương ươp ươt ươu y yêm yên yêng yêt yêu ych ynh yt
    """
)
_COMMON = _words(
    """
    là của và có không người được một những các với để này đã đến cũng từ ở vào về như lại ra nước việt thì đó khi còn
    phải nhà năm ngày tại đường công đồng bộ trên đi làm hà nội hồ chí đảng cộng sản quyền tự báo chính phủ dân xã hội
    thành phố tỉnh huyện quốc tế kinh đất bị bắt tù luật án tòa toà viện trưởng chủ tịch bà tôi họ chúng hai số nhiều
    rất sẽ đang nếu vì điều việc sự giữa sau trước mới thế gì đều thể cả đây nay
    """
)
_STOPS = ("p", "t", "c", "ch")
_ACUTE, _DOT = "\u0301", "\u0323"
_EDGE = "\"'“”‘’„‚…–—-«»‹›·•.,;:!?()[]\u200b\ufeff"  # typographic signs that touch a word and are no letters
_LONGEST = 7  # letters of the longest syllable, nghiêng


def _letters() -> dict[str, tuple[str, str]]:
    """Map each lower-case vowel, toned or not, to the vowel without its tone and the tone ("" for none)."""
    table = {}
    for vowel in "aăâeêioôơuưy":
        for tone in ("", "\u0300", _ACUTE, "\u0303", "\u0309", _DOT):
            table[unicodedata.normalize("NFC", vowel + tone)] = (vowel, tone)
    return table


_VOWELS = _letters()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How many words with a letter beyond ASCII were looked at, and how many of them are Vietnamese syllables."""

    valid: int
    total: int
    common: int  # valid words that are among the most frequent ones

    @property
    def surplus(self) -> int:
        """Valid words minus the others: what the right table has most of."""
        return 2 * self.valid - self.total

    @property
    def rank(self) -> tuple[int, int]:
        """The surplus; between equals, as two words often are, the reading with more frequent words."""
        return self.surplus, self.common

    @property
    def share(self) -> float:
        return self.valid / self.total if self.total else 0.0


def is_syllable(word: str) -> bool:
    """Say whether `word`, lower case and NFC, can be one Vietnamese syllable."""
    if not 0 < len(word) <= _LONGEST:
        return False
    bare, tones = "", ""
    for char in word:
        vowel, tone = _VOWELS.get(char, (char, ""))
        bare += vowel
        tones += tone
    if len(tones) > 1:
        return False
    for cut in range(min(3, len(bare) - 1), -1, -1):
        if bare[:cut] in _ONSETS and bare[cut:] in _RHYMES:
            return not bare.endswith(_STOPS) or tones in (_ACUTE, _DOT)
    return False


def score(words: Iterable[str]) -> Score:
    """Score words (NFC, any case). Words of ASCII letters only say nothing and are left out, single letters too."""
    valid = total = common = 0
    for word in words:
        core = word.strip(_EDGE)
        if len(core) < 2 or core.isascii():
            continue
        total += 1
        if (core.islower() or core.isupper() or core.istitle()) and is_syllable(core.lower()):
            valid += 1
            common += core.lower() in _COMMON
    return Score(valid=valid, total=total, common=common)
