"""The recipe `elastic`: every exit, cut or not, searches the documents of the whole encoder, and plan knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection
from diptych.config import load_config
from diptych.encoders import Encoders
from diptych.errors import FollowWarning, SwapError
from diptych.training import register
from diptych_lab.tune import choices_of
from every_recipe import REGISTRY, made, options_of
from tiny_encoders import WIDTH
from tiny_training import Told

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(world: Path) -> tuple[Path, Any]:
    """The folder of a training, and its report."""
    output = world / "run"
    given = options_of("elastic", world, output, epochs=30, learning_rate=1e-2)
    given["data"] = {"corpus": given["data"]["corpus"]}
    return output, made(given, Told()).train()


def vectors(folder: Path, side: str, texts: list[str], width: int | None = None) -> Any:
    encoder = Encoders.open(None).with_options("sentence-transformers", {"model": str(folder), "truncate_dim": width})
    return np.stack(getattr(encoder, f"encode_{side}")(texts))


def test_the_deepest_exit_keeps_the_angles_of_the_model(world: Path, run: tuple[Path, Any]) -> None:
    texts = ["word1 word2", "word7", "word11 word12 word13", "word2 word3"]
    before, after = (vectors(folder, "document", texts) for folder in (world / "dense", run[0]))
    assert np.abs(before @ before.T - after @ after.T).max() < 0.2
    assert np.abs(before - after).max() > 0.2, "the vectors are turned"


@pytest.mark.parametrize("width", [None, 8])
def test_an_exits_queries_find_what_the_whole_encoder_finds(run: tuple[Path, Any], width: int | None) -> None:
    texts = [f"word{n} word{n + 1}" for n in range(1, 16)]
    documents = vectors(run[0], "document", texts, width)
    assert documents.shape[1] == (width or WIDTH)
    found = (vectors(run[0] / "exit_1", "query", texts, width) @ documents.T).argmax(axis=1)
    assert (found == np.arange(len(texts))).mean() > 0.8


def test_every_exit_and_width_is_measured(run: tuple[Path, Any]) -> None:
    report = run[1]
    names = [f"exit_{layer}, {width} numbers" for layer in (1, 2) for width in (WIDTH, 8)]
    assert set(report.measured) == {"before", "after", *names}
    mean = np.mean([report.measured[name]["nDCG@10"] for name in names])
    assert report.measured["after"]["nDCG@10"] == pytest.approx(mean)
    assert [(own.name, own.queries) for own in report.models] == [("", False), ("exit_1", True)]


def test_plan_takes_an_exit_for_the_queries_of_the_whole_encoder_alone(
    world: Path, run: tuple[Path, Any], tmp_path: Path
) -> None:
    config = tmp_path / "diptych.yaml"
    for extra in ("", ", truncate_dim: 8"):
        store = f"store: edge:./store{len(extra)}\ncollection: c\nslots:\n"
        config.write_text(f"{store}  dense: {{adapter: sentence-transformers, model: {run[0]}{extra}}}\n")
        with Collection.open(config) as collection:
            collection.populate({"id": str(n), "text": f"word{n} word{n + 1}"} for n in range(1, 9))
            assert [choice.name for choice in choices_of(collection.handle.now().slot("dense"))] == ["exit_1"]
        assert register(config, run[1].models[1], REGISTRY) == "slots.dense.query"
        if extra:
            student = f"{{student: {run[0] / 'exit_1'}{extra}}}"
            dense = f"{{adapter: sentence-transformers, model: {run[0]}{extra}, query: {student}}}"
            config.write_text(f"{store}  dense: {dense}\n")
        with pytest.warns(FollowWarning, match="until diptych apply admits"):
            opened = Collection.open(config)
        with opened as collection:
            (step,) = collection.plan(load_config(config)).steps
            assert step.action == "re-prompt"
    config.write_text(
        "store: edge:./other\ncollection: c\nslots:\n"
        f"  dense: {{adapter: sentence-transformers, model: {world / 'dense'}}}\n"
    )
    with Collection.open(config) as collection:
        collection.populate([{"id": "a", "text": "word1"}])
        register(config, run[1].models[1], REGISTRY)
        with pytest.raises(SwapError, match="the student's queries do not fit"):
            collection.plan(load_config(config))


def test_an_exit_names_the_spaces_that_it_was_trained_for(run: tuple[Path, Any]) -> None:
    record = json.loads((run[0] / "exit_1" / "teacher.json").read_text())
    assert len(set(record["documents"])) == 2
    assert not (run[0] / "teacher.json").exists()
