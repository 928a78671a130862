"""The groups of Hybrid-NCE from a recipe file: values of the documents' metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.errors import ConfigError
from diptych_training.losses import HybridNCELoss
from every_recipe import COUNT, made, options_of, write_world
from tiny_encoders import WORDS
from tiny_training import Told, lines

TAGS = {0: ["a", "b"], 1: ["b", "a"], 2: ["a"], 3: "a", 4: [], 5: ""}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    tagged = [{"_id": f"d{n}", "text": " ".join(WORDS[n : n + 3]), "tags": TAGS.get(n, "other")} for n in range(COUNT)]
    lines(folder / "corpus.jsonl", tagged)
    return folder


def recipe(world: Path, output: Path, **hybrid: Any) -> Any:
    given = options_of("contrastive", world, output, epochs=1)
    plain = {name: own for name, own in given.items() if name not in ("mixing", "queue", "queue_momentum")}
    return made({**plain, "hybrid": hybrid}, Told())


def test_documents_with_like_values_of_a_key_are_positives_of_the_weight_that_is_given(
    world: Path, tmp_path: Path
) -> None:
    training = recipe(world, tmp_path / "run", groups="tags", further=0.3, iou_min=0.5)
    loss = training.loss(training.model())
    assert isinstance(loss, HybridNCELoss)
    assert (loss.further, loss.iou_min) == (0.3, 0.5)
    assert loss.groups is not None
    numbers = torch.tensor([training.data.document_numbers[f"d{n}"] for n in range(7)])
    overlap = loss.groups(numbers, numbers)
    assert overlap[0].tolist() == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0]
    assert overlap[3].tolist() == [0.5, 0.5, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert overlap[4].tolist() == [0.0] * 7, "no group is not a group of its own"
    assert training.remarks == ["22 of 24 documents have one or more of 3 tags"]


@pytest.mark.slow
def test_a_recipe_with_groups_is_trained(world: Path, tmp_path: Path) -> None:
    assert recipe(world, tmp_path / "run", groups="tags").train().steps > 0


def test_a_key_that_no_document_has_and_weights_without_groups_are_refused(world: Path, tmp_path: Path) -> None:
    training = recipe(world, tmp_path / "run", groups="tag")
    with pytest.raises(ConfigError, match=r"(?s)no document has groups.*hybrid.groups.*got: 'tag'"):
        training.loss(training.model())
    with pytest.raises(ConfigError, match=r"hybrid.further and hybrid.iou_min: without hybrid.groups there are none"):
        recipe(world, tmp_path / "other", further=0.1, iou_min=0.5)
