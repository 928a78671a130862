"""Slots of pictures: documents with one side or both, and queries by text, by picture and by both."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diptych_adapters.hooks
import named_server
from colour_plugin import COLOURS, ColourWords
from diptych import AdapterSpec, Collection, Document, Query, Registry, SparseVector, hookimpl
from diptych.errors import CollectionError, MediaError, PopulateError, SearchError
from diptych.media import Media, MediaStore
from diptych.search import Retrieve

Made = Callable[..., dict[str, Any]]


def ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


@pytest.fixture
def collection(config: Made, documents: list[Document], colours: Registry) -> Any:
    with Collection.open(config(), registry=colours) as opened:
        report = opened.populate(documents)
        assert (report.new, report.set_aside) == (len(documents), 0), report
        yield opened


def test_each_document_has_the_vectors_of_what_it_has(collection: Collection) -> None:
    points: Any = collection.client.scroll("shapes", with_vectors=True)[0]
    vectors = {point.payload["_diptych"]["id"]: sorted(point.vector) for point in points}
    assert vectors["red"] == ["lexical.1", "picture.1"]
    assert vectors["half"] == ["picture.1"]
    assert vectors["note"] == ["lexical.1"]


def test_a_picture_finds_pictures_and_a_text_finds_both_sides(collection: Collection, pictures: Path) -> None:
    assert ids(collection.search(Query(media={"image": "red.png"}), limit=1)) == ["red"]
    shifted = np.full((9, 9, 3), COLOURS["blue"], np.uint8)
    assert ids(collection.search(Query(media={"image": shifted}), limit=1)) == ["blue"]
    by_words = collection.search("green", pipeline=Retrieve("picture"), limit=1)
    assert ids(by_words) == ["green"]
    assert "note" in ids(collection.search("corners", limit=6))


def test_a_text_and_a_picture_together(collection: Collection) -> None:
    only = collection.search(Query(media={"image": "red.png"}), pipeline=Retrieve("picture"), limit=5)
    both = collection.search(Query("blue", media={"image": "red.png"}), pipeline=Retrieve("picture"), limit=5)
    assert ids(only)[0] == "red"
    assert set(ids(both)[:3]) == {"red", "half", "blue"}
    assert both[0].score < 0.99, "no picture is red and blue everywhere"


def test_a_query_that_no_slot_takes_is_an_error(collection: Collection) -> None:
    with pytest.raises(SearchError, match=r"no slot .* takes this query") as caught:
        collection.search(Query(media={"image": "red.png"}), pipeline=Retrieve("lexical"))
    assert "image" in str(caught.value)
    with pytest.raises(SearchError, match="a query is empty"):
        collection.search(Query(""))
    with pytest.raises(MediaError, match=r"absent\.png"):
        collection.search(Query(media={"image": "absent.png"}))


def test_hits_carry_media_and_payloads_nothing_large(collection: Collection) -> None:
    (hit,) = collection.search("green", limit=1)
    found = hit.document.media["image"]
    assert isinstance(found, Media)
    assert found.source == "green.png"
    points, _ = collection.client.scroll("shapes", limit=10)
    assert max(len(json.dumps(point.payload)) for point in points) < 400


def test_what_is_unchanged_is_not_encoded_again_and_changed_bytes_are(
    collection: Collection, documents: list[Document], pictures: Path
) -> None:
    again = collection.populate(documents)
    assert (again.unchanged, again.new, again.changed) == (len(documents), 0, 0)
    Image.new("RGB", (24, 16), COLOURS["yellow"]).save(pictures / "red.png")
    changed = collection.populate(documents)
    assert (changed.changed, changed.unchanged) == (1, len(documents) - 1)
    hits = collection.search(Query(media={"image": "yellow.png"}), pipeline=Retrieve("picture"), limit=2)
    assert sorted(ids(hits)) == ["red", "yellow"]


def test_a_document_that_loses_its_picture_loses_its_vector(collection: Collection) -> None:
    (warning,) = collection.populate([Document("red", "A red square")]).warnings
    assert warning == "1 of the documents read have lost their image, which the source does not give: red"
    assert "red" not in ids(collection.search(Query(media={"image": "red.png"}), limit=9))
    assert collection.populate([Document("red", "A red square")]).unchanged == 1


def test_many_documents_lose_their_pictures_only_on_purpose(collection: Collection, documents: list[Document]) -> None:
    bare = [Document(document.id, f"{document.text} bare") for document in documents]
    with pytest.raises(
        PopulateError, match=r"(?s)5 of 5 documents read so far would lose their image.*drop_media=True"
    ):
        collection.populate(bare)
    assert all(document.media for document in collection.get([*COLOURS]))
    assert collection.populate(bare, drop_media=True).changed == len(documents)
    assert not any(document.media for document in collection.get([*COLOURS]))


def test_bad_media_reject_their_document_by_name(
    collection: Collection, pictures: Path, tmp_path: Path, documents: list[Document]
) -> None:
    whole = (pictures / "red.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(pictures / "cut.png")
    (pictures / "cut.png").write_bytes((pictures / "cut.png").read_bytes()[:5000])
    (pictures / "text.png").write_text("no picture")
    (tmp_path / "outside.png").write_bytes(whole)
    bad: dict[str, Any] = {"cut": "cut.png", "text": "text.png", "absent": "absent.png", "list": [1]}
    bad["outside"] = "../outside.png"
    mixed: list[Any] = [Document(name, media={"image": raw}) for name, raw in bad.items()]
    mixed += [Document(f"good-{n}", media={"image": np.full((4, 4, 3), n, np.uint8)}) for n in range(150)]
    report = collection.populate(mixed)
    assert report.new == 150
    assert report.set_aside == len(bad)
    reasons = {example.id: example.reason for example in report.examples}
    assert reasons.keys() <= bad.keys()
    lines = Path(str(report.report_file)).read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(bad)


def test_reopened_by_name_and_by_config(collection: Collection, config: Made, colours: Registry) -> None:
    collection.close()
    store, key = config()["store"], os.environ.get(named_server.KEY)
    with Collection.open(store, "shapes", api_key=key, registry=colours) as by_name:
        picture = np.full((5, 5, 3), COLOURS["red"], np.uint8)
        assert ids(by_name.search(Query(media={"image": picture}), limit=1)) == ["red"]
    other = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "colours", "of": "text"}}
    with pytest.raises(CollectionError, match="what a slot's encoder reads"):
        Collection.open(config(slots=other), registry=colours)


def test_mappings_and_thumbnails_and_bytes(config: Made, colours: Registry, pictures: Path) -> None:
    rows = [{"id": name, "text": name, "media": {"image": f"{name}.png"}, "kind": "square"} for name in COLOURS]
    for store, key in (("thumbnail", "thumbnail"), ("bytes", "data")):
        with Collection.open(config(collection=store, media={"store": store}), registry=colours) as opened:
            assert opened.populate(rows).new == len(rows)
            points: Any = opened.client.scroll(store)[0]
            assert all(point.payload["_diptych"]["media"]["image"][key] for point in points)
            (hit,) = opened.search("red", limit=1)
            assert hit.document.metadata == {"kind": "square"}


def test_words_explain_a_picture(config: Made, documents: list[Document], colours: Registry) -> None:
    slots = {"words": {"adapter": "colour-words", "of": "image"}}
    with Collection.open(config(slots=slots), registry=colours) as opened:
        opened.populate([document for document in documents if document.media])
        assert ids(opened.search("red", limit=1)) == ["red"]
        (explained,) = opened.explain("red", limit=1)
        assert "red" in str(explained)


class WordsOfPictures(ColourWords):
    """Refuses texts, as an encoder does that has none."""

    def encode_query(self, inputs: Sequence[Any]) -> list[SparseVector]:
        assert not any(isinstance(given, str) for given in inputs)
        return super().encode_query(inputs)

    encode_document = encode_query


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        factory = f"{__name__}:WordsOfPictures"
        spec = AdapterSpec(name="words-of-pictures", kind="sparse", factory=factory, summary="t", accepts=("image",))
        return [spec]


def test_words_of_a_picture_are_marked_in_no_text(config: Made, documents: list[Document]) -> None:
    slots = {"lexical": {"adapter": "bm25"}, "words": {"adapter": "words-of-pictures", "of": "image"}}
    registry = Registry(diptych_adapters.hooks, Plugin(), installed=False)
    with Collection.open(config(slots=slots), registry=registry) as opened:
        opened.populate(documents)
        (hit,) = opened.search("red square", limit=1, highlight=True)
        (explanation,) = opened.explain("red square", ids=["red"])
        assert hit.document.text == explanation.document.text == "A red square"
        assert hit.highlight is not None
        assert [*hit.highlight.words] == [*explanation.words] == [(2, 5), (6, 12)]
        (by_picture,) = opened.explain(Query(media={"image": "red.png"}), ids=["red"])
        assert by_picture.words == ()
        assert by_picture.slots["words"].terms[0].word == "red"


def test_sounds(config: Made, colours: Registry) -> None:
    from diptych.media import Sound

    def tone(pitch: float) -> Sound:
        return Sound(np.sin(2 * np.pi * pitch * np.arange(8000) / 8000).astype(np.float32), 8000)

    slots = {"tone": {"adapter": "pitches", "of": "sound"}}
    with Collection.open(config(slots=slots), registry=colours) as opened:
        opened.populate([Document(str(pitch), media={"sound": tone(pitch)}) for pitch in (110, 440, 880, 1500)])
        assert ids(opened.search(Query(media={"sound": tone(885)}), limit=1)) == ["880"]
        with pytest.raises(SearchError, match="no slot"):
            opened.search("a text")


def test_a_document_that_no_slot_reads_is_rejected(config: Made, documents: list[Document], colours: Registry) -> None:
    slots = {"picture": {"adapter": "colours", "of": "image"}}
    with Collection.open(config(slots=slots), registry=colours) as opened:
        report = opened.populate(documents)
        assert [example.id for example in report.examples] == ["note"]
        assert "expected image" in report.examples[0].reason


def test_examples_may_be_pictures(collection: Collection) -> None:
    def score(**examples: Any) -> float:
        hits = collection.search("yellow", pipeline=Retrieve("picture"), limit=9, **examples)
        return next(hit.score for hit in hits if hit.id == "blue")

    liked = score(like=[Query(media={"image": "blue.png"})])
    assert liked > score() > score(unlike=[Query(media={"image": "blue.png"})])
    assert liked == pytest.approx(score(like=["blue"]), abs=1e-5)


def test_documents_without_a_text_are_not_measured(collection: Collection, documents: list[Document]) -> None:
    statistics = collection.handle.read().live.slots["lexical"].statistics
    assert statistics is not None
    assert statistics["documents"] == sum(bool(document.text) for document in documents)
    assert collection.populate(documents).warnings == ()


def test_media_of_asynchronous_queries_are_read_beside_the_event_loop(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[str] = []
    take = MediaStore.take

    def noted(self: MediaStore, *raw: Any) -> Media:
        readers.append(threading.current_thread().name)
        return take(self, *raw)

    monkeypatch.setattr(MediaStore, "take", noted)
    hits = asyncio.run(collection.asearch(Query(media={"image": "red.png"}), limit=1))
    assert ids(hits) == ["red"]
    assert readers
    assert threading.main_thread().name not in readers


def test_info_says_what_a_slot_reads(collection: Collection) -> None:
    assert {slot.name: slot.of for slot in collection.info().slots} == {"lexical": "text", "picture": "image"}
