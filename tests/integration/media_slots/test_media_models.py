"""Slots of existing models' encoders: a tiny CLIP of random weights, from populate to a second opening."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document, Query, Registry
from diptych.errors import ConfigError, FingerprintMismatch
from diptych.search import Retrieve
from tiny_media_models import saved

Made = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("clip", tmp_path_factory.mktemp("models") / "clip")


def slots(model: Path, **more: Any) -> dict[str, Any]:
    return {
        "picture": {
            "adapter": "transformers-media",
            "modality": "image-text",
            "of": "image",
            "model": str(model),
            **more,
        }
    }


def test_pictures_are_found_by_pictures_texts_and_both(
    config: Made, documents: list[Document], colours: Registry, clip: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(clip, tmp_path / "model")
    made = config(slots=slots(model))
    with Collection.open(made, registry=colours) as opened:
        opened.populate([document for document in documents if document.media])
        assert opened.search(Query(media={"image": "half.png"}), limit=1)[0].id == "half"
        by_text = [hit.id for hit in opened.search("half.png", limit=5)]
        assert sorted(by_text) == sorted(hit.id for hit in opened.search("word1", limit=5))
        assert len(opened.search(Query("word1", media={"image": "half.png"}), pipeline=Retrieve("picture"))) == 5
    with Collection.open(made, registry=colours) as again:
        assert again.populate([document for document in documents if document.media]).unchanged == 5
        red = np.full((24, 16, 3), (220, 30, 30), np.uint8)
        assert again.search(Query(media={"image": red}), limit=1)[0].id == "red"
    saved("clip", model, seed=1)
    with Collection.open(made, registry=colours) as other, pytest.raises(FingerprintMismatch, match="weights"):
        other.search("word1")


def test_a_slot_of_texts_with_an_encoder_of_pictures_alone_is_refused_when_it_is_opened(
    config: Made, colours: Registry
) -> None:
    wrong = {"picture": {"adapter": "transformers-media", "modality": "image", "model": "not-loaded"}}
    with pytest.raises(ConfigError, match=r"(?s)'transformers-media' does not read.*slots\.picture.*write of: image"):
        Collection.open(config(slots=wrong), registry=colours)


def test_a_collection_that_holds_an_adapters_old_name_takes_the_new_one_and_the_same_vectors(
    config: Made, documents: list[Document], colours: Registry, clip: Path
) -> None:
    now = slots(clip)
    before = {"picture": {"adapter": "transformers-image-text", "of": "image", "model": str(clip)}}
    pictures = [document for document in documents if document.media]
    with Collection.open(config(slots=before), registry=colours) as old:
        with pytest.warns(FutureWarning, match="write `adapter: transformers-media, modality: image-text`"):
            old.populate(pictures)
        stored = old.handle.read().live.slots["picture"]
        assert (stored.adapter, stored.options) == ("transformers-image-text", {"model": str(clip)})
        hits = [(hit.id, hit.score) for hit in old.search("word1")]
    with Collection.open(config(slots=now), registry=colours) as renamed:
        assert not renamed.handle.slot("picture").changed
        assert renamed.populate(pictures).unchanged == len(pictures)
        assert [(hit.id, hit.score) for hit in renamed.search("word1")] == hits
