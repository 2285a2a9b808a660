"""Media named by JSON-LD and oEmbed."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mirror.requisites import jsonld


def references(value: object) -> list[str]:
    return [reference for reference, _ in jsonld.scan(json.dumps(value))]


def test_image_may_be_text_list_or_object() -> None:
    assert references({"image": "a.jpg"}) == ["a.jpg"]
    assert references({"image": ["a.jpg", {"@type": "ImageObject", "url": "b.jpg"}]}) == ["a.jpg", "b.jpg"]
    assert references({"@graph": [{"publisher": {"logo": {"url": "logo.png"}}}]}) == ["logo.png"]


def test_video_gives_content_and_thumbnail_but_not_its_page() -> None:
    video = {"@type": "VideoObject", "url": "/watch", "thumbnailUrl": ["t.jpg"], "contentUrl": "v.mp4"}
    assert references({"video": video}) == ["t.jpg", "v.mp4"]


def test_author_and_page_urls_are_not_media() -> None:
    assert references({"url": "/page", "author": {"url": "/author"}, "mainEntityOfPage": {"@id": "/page"}}) == []


def test_an_identifier_of_a_graph_node_is_not_media() -> None:
    assert references({"image": {"@id": "https://a.example/#/schema/logo"}}) == []


def test_line_breaks_in_strings_are_tolerated() -> None:
    assert jsonld.scan('\n{"description": "a\nb", "image": "a.jpg"}\n')[0][0] == "a.jpg"


def test_broken_deep_and_huge_json_is_empty() -> None:
    for text in ("", "{", "[" * 200_000, '{"a":' * 200_000, "1" * 10_000, '{"image": "a"', "NaN", " " * (2 << 20)):
        assert jsonld.scan(text) == []


def test_number_of_values_is_bounded() -> None:
    assert len(references({"image": [str(n) for n in range(3 * jsonld.MAX_VALUES)]})) <= jsonld.MAX_VALUES


def test_oembed_photo_is_found() -> None:
    answer = {"type": "photo", "url": "p.jpg", "thumbnail_url": "t.jpg"}
    assert [one for one, _ in jsonld.oembed(answer)] == ["p.jpg", "t.jpg"]
    assert [one for one, _ in jsonld.oembed(answer | {"type": "video"})] == ["t.jpg"]
    assert jsonld.oembed({"url": "p.jpg"}) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["image", "logo", "url", "@type", "@id", "x"]), inner, max_size=4)
    ),
)


@given(values)
def test_no_value_raises(value: object) -> None:
    assert all(isinstance(one, str) for one in references(value))
    jsonld.oembed(value)
