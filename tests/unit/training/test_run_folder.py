"""A folder belongs to one training, whichever version began it."""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.errors import ConfigError
from diptych.training import load_recipe
from diptych_training.running import Fitted
from diptych_training.running.families import WEIGHTS, with_own_checkpoints
from diptych_training.running.folder import Lock, RunFolder
from every_recipe import REGISTRY
from given_embeddings import Scaled

DATA = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels.tsv"}
NEW = ("hybrid", "prompts", "loss.blocks", "training.lora", "training.keep", "data.dev.documents", "loss")


def options_of(folder: Path, recipe: str = "contrastive", **more: Any) -> Any:
    given = {"recipe": recipe, "model": "a-model", "output": str(folder), "data": DATA}
    return load_recipe({**given, **more}, REGISTRY).options


def begun_without(name: str, folder: Path, recipe: str = "contrastive") -> None:
    """A folder as a version began it that had no such option."""
    RunFolder(recipe, options_of(folder, recipe)).store("negatives", [])
    asked = json.loads((folder / "recipe.json").read_text())
    *above, last = name.split(".")
    section = asked
    for key in above:
        section = section[key]
    del section[last]
    (folder / "recipe.json").write_text(json.dumps(asked))


@pytest.mark.parametrize("name", NEW)
def test_an_option_that_came_later_is_at_its_default(name: str, tmp_path: Path) -> None:
    begun_without(name, tmp_path / "run")
    before = json.loads((tmp_path / "run" / "recipe.json").read_text())
    RunFolder("contrastive", options_of(tmp_path / "run"))
    after = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert after != before
    RunFolder("contrastive", options_of(tmp_path / "run"))


def test_an_option_that_is_gone_is_another_training(tmp_path: Path) -> None:
    begun_without("hybrid", tmp_path / "run")
    path = tmp_path / "run" / "recipe.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "old": 3}))
    with pytest.raises(ConfigError, match=r"holds another training(?s:.*)old: 3 there, None asked"):
        RunFolder("contrastive", options_of(tmp_path / "run"))


def test_a_folder_in_which_nothing_was_made_binds_nobody(tmp_path: Path) -> None:
    RunFolder("contrastive", options_of(tmp_path / "run"))
    RunFolder("dexml", options_of(tmp_path / "run", "dexml", seed=2)).store("negatives", [])
    with pytest.raises(ConfigError, match=r"holds another training(?s:.*)recipe: dexml there, contrastive asked"):
        RunFolder("contrastive", options_of(tmp_path / "run"))


LATER = {"epochs": 9, "batch_size": 3, "learning_rate": 1e-3, "patience": 2, "keep": 5, "untrained_share": 0.5}


def test_what_was_prepared_outlives_options_of_the_training_alone(tmp_path: Path) -> None:
    RunFolder("contrastive", options_of(tmp_path / "run")).store("negatives", [{"query": "q"}])
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1}\n')
    changed = options_of(tmp_path / "run", training=LATER, loss={"tau": 0.5})
    assert RunFolder("contrastive", changed).stored("negatives") == [{"query": "q"}]
    asked = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (asked["training"]["epochs"], asked["loss"]["tau"]) == (9, 0.5)
    assert not (tmp_path / "run" / "log.jsonl").exists(), "it is of other options"


@pytest.mark.parametrize("begun", ["checkpoints/checkpoint-3", "checkpoints/round-0", "report.json"])
def test_what_was_trained_outlives_no_change(begun: str, tmp_path: Path) -> None:
    RunFolder("contrastive", options_of(tmp_path / "run")).store("negatives", [])
    (tmp_path / "run" / begun).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds another training(?s:.*)training.epochs: 2.0 there, 9.0 asked"):
        RunFolder("contrastive", options_of(tmp_path / "run", training=LATER))


CHANGES: dict[str, dict[str, Any]] = {
    "model": {"model": "another"},
    "seed": {"seed": 2},
    "prompts.query": {"prompts": {"query": "query: "}},
    "negatives.per_query": {"negatives": {"per_query": 3}},
    "data.dev.share": {"data": {**DATA, "dev": {"share": 0.2}}},
    "training.max_length": {"training": {"max_length": 16}},
    "training.precision": {"training": {"precision": "bfloat16"}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_options_that_the_data_steps_read_are_another_training_once_data_is_prepared(name: str, tmp_path: Path) -> None:
    RunFolder("contrastive", options_of(tmp_path / "run")).store("negatives", [])
    with pytest.raises(ConfigError, match=rf"holds another training(?s:.*)got: {re.escape(name)}: "):
        RunFolder("contrastive", options_of(tmp_path / "run", **CHANGES[name]))


def hold(folder: Path, told: Connection) -> None:
    lock = Lock.on(folder)
    told.send("held")
    signal.pause()
    del lock


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    options = options_of(tmp_path / "run")
    options.output.mkdir()
    fork = multiprocessing.get_context("fork")  # a process of its own would import PyTorch for six seconds
    heard, told = fork.Pipe(duplex=False)
    other = fork.Process(target=hold, args=(options.output, told))
    other.start()
    assert heard.poll(60)
    assert heard.recv() == "held"
    with pytest.raises(ConfigError, match="another process trains in this folder"):
        RunFolder("contrastive", options)
    other.kill()
    other.join()
    assert RunFolder("contrastive", options).path == options.output


class Bare:
    """As much of a trainer as checkpoints ask for."""

    def __init__(self) -> None:
        self.model = Scaled()
        self.loss = torch.nn.Identity()
        self.state = SimpleNamespace(global_step=1)


Trainer = with_own_checkpoints(Bare)


def test_a_checkpoint_of_another_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    first = Trainer()
    first._save(str(tmp_path))
    save_file({**load_file(tmp_path / WEIGHTS), "model.other": torch.ones(1)}, tmp_path / WEIGHTS)
    with pytest.raises(ConfigError, match=r"other weights.*\n  where: .*\n  got: model.other\n  do: delete the folder"):
        Trainer()._load_from_checkpoint(str(tmp_path))


def test_a_model_that_is_worse_than_the_untrained_one_is_remarked_on() -> None:
    kept = ("Kept are the weights of step 6 of 28, by nDCG@10.",)
    worse = Fitted(28, 0, {"nDCG@10": 0.4024}, {"nDCG@10": 0.3930}, kept)
    assert worse.remarks[0] == kept[0]
    assert worse.remarks[1].startswith(
        "Not better than the untrained model: nDCG@10 is 0.3930 after training and 0.4024 before."
    )
    assert replace(worse, after={"nDCG@10": 0.5}).remarks == kept
    assert replace(worse, before={}, after={}).remarks == kept
    assert replace(worse, chosen_by="pooled AUC").remarks == kept
