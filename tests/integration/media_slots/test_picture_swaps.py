"""Encoders of pictures are swapped on a live collection, as those of texts are; and copies keep the media."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import colour_plugin
import diptych_adapters.hooks
from colour_plugin import COLOURS, Colours
from diptych import AdapterSpec, Collection, Document, Query, Registry, hookimpl
from diptych.collection.queries import check
from diptych.collection.verify import mend, verify
from diptych.config.models import Config
from diptych.errors import CollectionError, GateFailed, SwapError
from diptych.evaluate import Qrels
from diptych.media import Sound
from diptych.search import Retrieve
from diptych.swap import ApplyOptions, Judged, apply, finish, plan, rollback
from diptych.swap.documents import SourceDocuments
from named_server import require_feature, require_vector_names


class Brightness(Colours):
    """Reads pictures alone, as an encoder does that has no text side."""

    def encode_query(self, inputs: Sequence[Any]) -> Any:
        assert not any(isinstance(given, str) for given in inputs)
        return super().encode_query(inputs) + np.float32(300)

    encode_document = encode_query


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        factory = f"{__name__}:Brightness"
        return [AdapterSpec(name="brightness", kind="dense", factory=factory, summary="t", accepts=("image",))]


Made = Callable[..., dict[str, Any]]
FINER = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "colours", "of": "image", "grid": 3}}


@pytest.fixture
def collection(config: Made, documents: list[Document], colours: Registry) -> Any:
    with Collection.open(config(), registry=colours) as opened:
        opened.populate(documents)
        yield opened


def vectors(collection: Collection, name: str) -> set[str]:
    points, _ = collection.client.scroll("shapes", with_vectors=True)
    found: list[Any] = [*points]
    return {point.payload["_diptych"]["id"] for point in found if name in point.vector}


def best(collection: Collection, picture: str) -> str:
    return collection.search(Query(media={"image": picture}), pipeline=Retrieve("picture"), limit=1)[0].id


def test_plan_apply_rollback_and_finish(collection: Collection, config: Made) -> None:
    finer = Config.model_validate(config(slots=FINER))
    steps = {step.slot: step for step in plan(collection.handle, finer).steps}
    assert steps["picture"].action == "re-encode"
    assert steps["picture"].encode == 5, "the five documents with a picture"
    assert steps["lexical"].action == "keep"
    report = apply(collection.handle, finer)
    assert report.outcome == "cut over", report
    assert vectors(collection, "picture.2") == {*COLOURS, "half"}
    assert best(collection, "half.png") == "half"
    collection.populate([Document("second", media={"image": "half.png"})])
    assert "second" in vectors(collection, "picture.1") & vectors(collection, "picture.2")
    rollback(collection.handle)
    assert best(collection, "red.png") == "red"
    apply(collection.handle, finer)
    finish(collection.handle)
    assert verify(collection.handle, sample=None).passed
    require_vector_names(collection.handle.client)
    assert vectors(collection, "picture.1") == set()


def test_a_plan_leaves_out_pictures_that_are_gone(
    config: Made, documents: list[Document], colours: Registry, tmp_path: Path
) -> None:
    with Collection.open(config(), registry=colours) as opened:
        opened.populate(documents)
    next(tmp_path.rglob("half.png")).unlink()
    with Collection.open(config(), registry=colours) as opened:
        step = next(step for step in opened.plan(Config.model_validate(config(slots=FINER))).steps if step.rate)
    assert (step.slot, step.action, step.encode) == ("picture", "re-encode", 5)


def test_an_encoder_of_pictures_and_texts_is_swapped_for_one_of_pictures_alone_and_back(
    config: Made, documents: list[Document]
) -> None:
    registry = Registry(colour_plugin, Plugin(), diptych_adapters.hooks, installed=False)
    slots = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "brightness", "of": "image"}}
    alone, both = Config.model_validate(config(slots=slots)), Config.model_validate(config())
    with Collection.open(config(), registry=registry) as opened:
        opened.populate(documents)
        steps = {step.slot: step for step in opened.plan(alone).steps}
        assert (steps["picture"].action, steps["picture"].encode) == ("re-encode", 5)
        assert "queries can no longer be texts" in steps["picture"].why
        assert opened.apply(alone).outcome == "cut over"
        assert best(opened, "half.png") == "half"
        assert opened.plan(both).steps[1].action == "reuse"
        opened.rollback()
        assert opened.plan(alone).steps[1].action == "reuse"
        opened.apply(alone)
        opened.finish()
        assert opened.plan(both).steps[1].action == "re-encode"
        assert opened.apply(both).outcome == "cut over"
        assert opened.search("green", pipeline=Retrieve("picture"), limit=1)[0].id == "green"


def test_a_plan_warns_of_a_slot_that_no_longer_reads_pictures(collection: Collection, config: Made) -> None:
    slots = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "colours"}}
    warnings = plan(collection.handle, Config.model_validate(config(slots=slots))).warnings
    assert any("slot 'picture' no longer reads image" in own and "set of: image" in own for own in warnings)
    warnings = plan(collection.handle, Config.model_validate(config(slots=FINER))).warnings
    assert not any("no longer reads" in own for own in warnings)


def test_the_gate_counts_judged_words_that_an_encoder_of_pictures_alone_cannot_answer(
    config: Made, pictures: Path, tmp_path: Path
) -> None:
    registry = Registry(colour_plugin, Plugin(), installed=False)
    asked = [{"_id": f"q-{name}", "media": {"image": f"{name}.png"}} for name in COLOURS]
    asked += [{"_id": f"w-{name}", "text": name} for name in COLOURS]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    rows = [f"{query['_id']}\t{str(query['_id'])[2:]}\t1" for query in asked]
    (tmp_path / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    judged = {"queries": str(tmp_path / "queries.jsonl"), "qrels": str(tmp_path / "qrels.tsv")}
    sections = {"evaluate": judged}
    slots = {"picture": {"adapter": "brightness", "of": "image"}}
    alone = Config.model_validate(config(slots=slots, **sections))
    with Collection.open(config(slots={"picture": {"adapter": "colours", "of": "image"}}), registry=registry) as opened:
        opened.populate([Document(name, media={"image": f"{name}.png"}) for name in COLOURS])
        (step,) = opened.plan(alone).steps
        assert step.action == "re-encode"
        with pytest.raises(GateFailed, match=r"nDCG@10 1\.0000 -> 0\.5000"):
            opened.apply(alone)
        assert opened.apply(alone, ApplyOptions(gate=False)).outcome == "cut over"


def test_a_picture_that_changed_since_is_left_and_refused(
    collection: Collection, config: Made, pictures: Path, colours: Registry
) -> None:
    Image.new("RGB", (24, 16), (1, 2, 3)).save(pictures / "red.png")
    collection.close()
    with Collection.open(config(), registry=colours) as later:
        with pytest.raises(SwapError, match="lack") as caught:
            apply(later.handle, Config.model_validate(config(slots=FINER)))
        assert "changed" in str(caught.value.context["left"])
        assert best(later, "blue.png") == "blue", "the old encoder still answers"


def test_a_slot_of_pictures_is_added_to_a_collection_of_texts(config: Made, colours: Registry) -> None:
    texts = {"lexical": {"adapter": "bm25"}}
    with Collection.open(config(slots=texts), registry=colours) as opened:
        opened.populate([Document(name, f"A {name} square") for name in COLOURS])
        pictured = Config.model_validate(config())
        with pytest.raises(SwapError, match="image"):
            apply(opened.handle, pictured)
        sources = [Document(name, f"A {name} square", media={"image": f"{name}.png"}) for name in COLOURS]
        with SourceDocuments(opened.handle, sources) as given:
            report = apply(opened.handle, pictured, ApplyOptions(documents=given))
        assert report.outcome == "cut over"
        opened.handle.catch_up()
        assert best(opened, "green.png") == "green"
        assert verify(opened.handle, sample=None).passed
        assert opened.populate(sources).unchanged == len(sources)


def test_verify_finds_lost_vectors_and_lost_files(
    collection: Collection, config: Made, pictures: Path, colours: Registry
) -> None:
    points: Any = collection.client.scroll("shapes")[0]
    places = {point.payload["_diptych"]["id"]: point.id for point in points}
    collection.client.delete_vectors("shapes", ["picture.1"], [places["red"]])
    found = verify(collection.handle)
    assert list(found.vectors["picture"].values()) == ["red"]
    assert mend(collection.handle, found) == (1, 0)
    assert verify(collection.handle).passed
    (pictures / "blue.png").unlink()
    collection.close()
    with Collection.open(config(), registry=colours) as later:
        lost = verify(later.handle)
    assert list(lost.media) == [places["blue"]]
    assert not lost.passed


def test_of_is_part_of_what_a_config_may_not_change_silently(collection: Collection, config: Made) -> None:
    collection.close()
    slots = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "colours"}}
    with pytest.raises(CollectionError, match="reads"):
        Collection.open(config(slots=slots), registry=collection.handle.registry)


def test_slots_of_texts_are_swapped_beside_documents_of_pictures_alone(config: Made, colours: Registry) -> None:
    words = {"words": {"adapter": "qdrant-text-index"}, "picture": {"adapter": "colours", "of": "image"}}
    mixed = [Document(name, name if name != "red" else "", media={"image": f"{name}.png"}) for name in COLOURS]
    with Collection.open(config(slots=words), registry=colours) as opened:
        require_feature(opened.client, "text_index")
        opened.populate(mixed)
        report = opened.apply(Config.model_validate(config()))
        assert (report.outcome, report.left, report.missing) == ("cut over", {}, 0)
        assert verify(opened.handle, sample=None).passed
        (hit,) = opened.search("green", pipeline=Retrieve("lexical"), limit=1)
        assert hit.document.metadata == {}, "the text that was copied for the old index is no metadata"
        assert opened.populate(mixed).unchanged == len(mixed)


def test_the_gate_judges_by_pictures(collection: Collection, config: Made, pictures: Path, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = [
        {"_id": f"{name} {n} {kind}", kind: given}
        for n in range(-(-20 // len(COLOURS)))  # so many equal answers pass
        for name in COLOURS
        for kind, given in (("media", {"image": f"{name}.png"}), ("text", name))
    ]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    rows = [f"{query['_id']}\t{query['_id'].split()[0]}\t1" for query in asked]
    (tmp_path / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    evaluate = {"queries": str(tmp_path / "queries.jsonl"), "qrels": str(tmp_path / "qrels.tsv")}
    report = apply(
        collection.handle,
        Config.model_validate(config(slots=FINER, evaluate=evaluate)),
    )
    assert report.outcome == "cut over"
    assert report.gate is not None
    assert report.gate.judged is not None
    assert report.gate.judged.queries == len(asked)


def test_the_gate_asks_by_pictures_where_no_document_has_a_text(
    config: Made, colours: Registry, pictures: Path
) -> None:
    slots = {"picture": {"adapter": "colours", "of": "image"}}
    with Collection.open(config(slots=slots), registry=colours) as opened:
        opened.populate([Document(name, media={"image": f"{name}.png"}) for name in (*COLOURS, "half")])
        gate = opened.apply(Config.model_validate(config(slots={"picture": FINER["picture"]}))).gate
    assert gate is not None
    assert [(own.of, own.documents) for own in gate.overlaps] == [("pipeline", 5)]
    assert gate.overlaps[0].mean == 1, "all five are among the first ten"


def test_an_encoder_that_takes_no_words_is_warmed_and_swapped(config: Made, colours: Registry) -> None:
    def tone(pitch: int) -> Sound:
        return Sound(np.sin(2 * np.pi * pitch * np.arange(8000) / 8000).astype(np.float32), 8000)

    slots = {"tone": {"adapter": "pitches", "of": "sound"}}
    with Collection.open(config(slots=slots, media={"store": "bytes"}), registry=colours) as opened:
        opened.populate([Document(str(n), "with words", media={"sound": tone(n)}) for n in range(110, 1500, 90)])
        opened.warm()
        check(opened.handle)
        again = ApplyOptions(again=frozenset(["tone"]))
        report = opened.apply(Config.model_validate(config(slots=slots, media={"store": "bytes"})), again)
        assert report.outcome == "cut over"
        assert report.gate is not None
        assert report.gate.overlaps[0].documents == 16
        assert opened.search(Query(media={"sound": tone(205)}), limit=1)[0].id == "200"


def test_a_swap_of_texts_needs_no_pictures(config: Made, colours: Registry, pictures: Path) -> None:
    with Collection.open(config(), registry=colours) as opened:
        opened.populate([Document(name, name, media={"image": f"{name}.png"}) for name in COLOURS])
    for path in pictures.iterdir():
        path.unlink()
    other = {"lexical": {"adapter": "bm25", "terms": "ngrams"}, "picture": {"adapter": "colours", "of": "image"}}
    with Collection.open(config(), registry=colours) as opened:
        assert opened.apply(Config.model_validate(config(slots=other))).outcome == "cut over"


def test_a_file_that_was_moved_is_read_where_it_is_now(
    collection: Collection, config: Made, pictures: Path, documents: list[Document]
) -> None:
    (pictures / "red.png").rename(pictures / "rouge.png")
    moved = [replace(own, media={"image": "rouge.png"}) if own.id == "red" else own for own in documents]
    report = collection.populate(moved)
    assert (report.changed, report.unchanged) == (1, len(documents) - 1)
    assert apply(collection.handle, Config.model_validate(config(slots=FINER))).outcome == "cut over"
    assert best(collection, "rouge.png") == "red"


def test_the_gate_says_that_no_query_reached_a_slot_of_pictures_alone(
    collection: Collection, config: Made, documents: list[Document]
) -> None:
    plain = {"adapter": "pictures-alone", "of": "image"}
    sighted = Config.model_validate(config(slots={"lexical": {"adapter": "bm25"}, "picture": plain}))
    report = apply(collection.handle, sighted)
    gate = report.gate
    assert gate is not None
    assert gate.untested == ("picture",)
    assert "no query reaches slot 'picture': its encoder was not tested; judge queries with image" in str(gate.remarks)
    assert gate.sentence.endswith("; no query reached slot 'picture'")
    assert str(gate.display()).startswith(f"gate: {gate.sentence}")


def test_judged_pictures_reach_a_slot_of_pictures_alone(
    collection: Collection, config: Made, documents: list[Document]
) -> None:
    slots = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "pictures-alone", "of": "image"}}
    asked = {f"{name} {n}": name for name in COLOURS for n in range(10)}  # again and again, as few decide nothing
    qrels = Qrels({query: {name: 1} for query, name in asked.items()})
    judged = Judged([Query(id=query, media={"image": f"{name}.png"}) for query, name in asked.items()], qrels)
    gate = apply(collection.handle, Config.model_validate(config(slots=slots)), ApplyOptions(judged=judged)).gate
    assert gate is not None
    assert (gate.outcome, gate.untested) == ("passed", ())
