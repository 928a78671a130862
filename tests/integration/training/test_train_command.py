"""`diptych train` on a tiny BERT: it learns, goes on after a kill, and its folder serves a collection."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych import Registry
from diptych.errors import ConfigError
from diptych.training import RecipeFile, TrainReport, load_recipe
from diptych_training.running.run import HeldOutEvaluator
from tiny_training import Stopping, Told

WORDS = [f"word{n}" for n in range(200)]
RECIPE = """\
recipe: contrastive
model: ./bert
output: ./run
data: {corpus: corpus.jsonl, queries: queries.jsonl, qrels: qrels.tsv, dev: {share: 0.2}}
negatives: {per_query: 2, relative: null}
training: {epochs: 4, batch_size: 16, learning_rate: 0.003, device: cpu}
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer, 150 documents of five words, a query of two of them for each."""
    folder = tmp_path_factory.mktemp("training")
    bert(folder)
    draw, documents, queries = random.Random(1), [], []
    for number in range(150):
        words = draw.sample(WORDS, 5)
        documents.append({"_id": f"d{number}", "text": " ".join(words)})
        queries.append({"_id": f"q{number}", "text": " ".join(draw.sample(words, 2))})
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(150)))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizer

    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=205, max_position_embeddings=32, intermediate_size=64, **shape))
    model.save_pretrained(folder / "bert")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")


def recipe(folder: Path, **changes: Any) -> RecipeFile:
    return load_recipe(folder / "recipe.yaml", Registry.default(), changes=changes)


def trained(folder: Path, output: Path, **changes: Any) -> TrainReport:
    return recipe(folder, output=str(output), **changes).make(Told()).train()


@pytest.fixture(scope="module")
def whole(prepared: Path) -> TrainReport:
    """A training from start to end."""
    return trained(prepared, prepared / "whole")


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(Path(folder) / "model.safetensors")


def test_training_makes_the_held_out_queries_better_and_says_so(whole: TrainReport) -> None:
    assert whole.measured["after"]["nDCG@10"] > whole.measured["before"]["nDCG@10"] + 0.05
    card = (Path(whole.folder) / "README.md").read_text()
    assert f"| nDCG@10 | {whole.measured['before']['nDCG@10']:.4f} | {whole.measured['after']['nDCG@10']:.4f} |" in card
    assert "recipe: contrastive" in card
    assert str(Path(whole.folder).parent) not in card


def test_nothing_in_the_folder_is_pickled_and_checkpoints_are_gone(whole: TrainReport) -> None:
    names = {path.name for path in Path(whole.folder).rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert {"model.safetensors", "modules.json", "recipe.json", "report.json", "log.jsonl", "README.md"} <= names
    assert [name for name in names if name.startswith("events.out.tfevents")]


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    prepared: Path, whole: TrainReport, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "diptych", "train", str(prepared / "recipe.yaml"), "--set", f"output={tmp_path}/x"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tmp_path.glob("x/checkpoints/checkpoint-*/trainer_state.json")):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert 0 < report["resumed_at"] < report["steps"] == whole.steps
    for name, value in weights(whole.folder).items():
        torch.testing.assert_close(weights(tmp_path / "x")[name], value, rtol=1e-4, atol=1e-5)


def test_what_is_trained_is_not_trained_again(prepared: Path, whole: TrainReport) -> None:
    told = Told()
    again = recipe(prepared, output=str(prepared / "whole")).make(told).train()
    assert again == whole
    assert told.done == 0


def test_a_folder_with_other_files_is_not_touched(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty and holds no training"):
        recipe(prepared, output=str(tmp_path)).make(Told())


def test_a_share_of_the_untrained_weights_can_be_kept(prepared: Path, whole: TrainReport, tmp_path: Path) -> None:
    report = trained(prepared, tmp_path / "mixed", **{"training.untrained_share": 0.25})
    before, after, mixed = (weights(folder) for folder in (prepared / "bert", whole.folder, report.folder))
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.25 * before[name] + 0.75 * after[name], rtol=1e-4, atol=1e-5)


def test_a_training_stops_early_and_keeps_the_best(prepared: Path, tmp_path: Path) -> None:
    changes = {"training.epochs": 30, "training.patience": 2, "training.evaluate_every": 5}
    report = trained(prepared, tmp_path / "early", **changes)
    log = [json.loads(line) for line in (tmp_path / "early/log.jsonl").read_text().splitlines()]
    seen = [entry["eval_nDCG@10"] for entry in log if "eval_nDCG@10" in entry]
    assert report.steps < 30 * 8
    assert report.measured["after"]["nDCG@10"] == pytest.approx(max(seen), abs=1e-6)
    assert seen[-1] < max(seen)


@pytest.mark.slow
def test_patience_that_has_begun_goes_on_where_a_training_goes_on(prepared: Path, tmp_path: Path) -> None:
    changes = {"training.epochs": 30, "training.patience": 2, "training.evaluate_every": 5}
    undisturbed = trained(prepared, tmp_path / "whole", **changes)
    again = recipe(prepared, output=str(tmp_path / "again"), **changes)
    with pytest.raises(InterruptedError):
        again.make(Stopping(undisturbed.steps - 2)).train()
    report = again.make(Told()).train()
    assert (report.resumed_at, report.steps) == (undisturbed.steps - 5, undisturbed.steps)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_held_out_queries_that_tell_nothing_leave_what_was_learned_last(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldOutEvaluator, "measured", lambda self, model: {"nDCG@10": 1.0})
    report = trained(prepared, tmp_path / "run", **{"training.evaluate_every": 2})
    blind = trained(prepared, tmp_path / "blind", **{"data.dev.share": 0.0})
    last = report.steps - report.steps % 2
    assert report.remarks == (
        f"Kept are the weights of step {last} of {report.steps}, by nDCG@10.",
        "nDCG@10 is 1.0000 before and after: the held-out queries do not tell what was learned.",
    )
    before, after = weights(prepared / "bert"), weights(report.folder)
    assert any(not torch.equal(value, after[name]) for name, value in before.items() if name in after)
    assert blind.remarks == ()
