"""Other backends and precisions of a model: the collection stays, int8 is measured on its texts, plan says the loss."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
pytest.importorskip("openvino", reason="needs diptych[openvino]")

from diptych import Collection
from diptych.config import Config
from diptych.slots.encode import CollectionTexts
from diptych.types import Document

DEBIAN = Path(__file__).parents[3] / "examples" / "debian"
MINILM = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"}
EXACT: dict[str, Any] = {**MINILM, "device": "cpu"}
INT8: dict[str, Any] = {**MINILM, "backend": "openvino", "precision": "int8"}
JUDGED = {"queries": str(DEBIAN / "queries.jsonl.gz"), "qrels": str(DEBIAN / "qrels" / "test.tsv")}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DIPTYCH_CACHE", "off")


def config(path: Path, slot: dict[str, Any], **sections: Any) -> Config:
    return Config.model_validate(
        {"store": f"edge:{path}", "collection": "c", "slots": {"dense": slot}, "evaluate": JUDGED, **sections}
    )


def documents(count: int) -> list[Document]:
    with gzip.open(DEBIAN / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [Document.from_mapping(json.loads(line)) for line, _ in zip(lines, range(count), strict=False)]


@pytest.mark.slow
def test_int8_is_measured_on_the_first_documents_of_a_new_collection_and_later_on_those_it_holds(
    tmp_path: Path,
) -> None:
    wanted = config(tmp_path / "store", INT8)
    with Collection.open(wanted) as made:
        made.populate(documents(60))
        assert made.handle.metadata is not None
        assert made.handle.metadata.live.slots["dense"].numerics == "openvino int8 cpu"
        first = [hit.document.id for hit in made.search("convert audio files")]
    with Collection.open(wanted) as again:
        assert again.search("convert audio files")
        assert again.handle.slots["dense"].encoder.numerics == "openvino int8 cpu"
    with Collection.open(config(tmp_path / "store", EXACT)) as exact:
        found = [hit.document.id for hit in exact.search("convert audio files")]
    assert len({*first} & {*found}) >= 8


@pytest.mark.slow
def test_plan_tells_what_another_precision_costs_in_cosine_and_apply_encodes_nothing(tmp_path: Path) -> None:
    with Collection.open(config(tmp_path / "store", EXACT)) as made:
        made.populate(documents(200))
        (step,) = made.plan(config(tmp_path / "store", INT8)).steps
        assert (step.action, step.encode) == ("numerics", 0)
        assert step.likeness is not None
        assert 0.97 < step.likeness < 0.9999
        report = made.apply(config(tmp_path / "store", INT8))
        assert report.encoded == {}
        assert made.plan(config(tmp_path / "store", INT8)).pending is False


def test_texts_of_a_collection_are_those_its_encoders_read(tmp_path: Path) -> None:
    plain = {"adapter": "bm25"}
    with Collection.open(config(tmp_path / "store", plain)) as made:
        texts = CollectionTexts(made.client, "c")
        reading = made.handle.view.reading
        assert texts(5, reading) == []
        made.populate([Document("1", "the text", title="the title"), Document("2", "alone")])
        assert sorted(texts(5, reading)) == ["alone", "the title the text"]
        assert len(texts(1, reading)) == 1
