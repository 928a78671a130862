"""Every option of a recipe's `training` section gets to where it acts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diptych_training.corpus import TrainingData
from diptych_training.options import TrainingOptions
from diptych_training.running.families import computed_in, family
from diptych_training.running.run import arguments, search_evaluator
from tiny_encoders import tiny_encoder

FOLDER: Any = SimpleNamespace(checkpoints=Path("run/checkpoints"))


def made(options: dict[str, Any], **given: Any) -> Any:
    """The trainer's arguments for 50 batches an epoch."""
    defaults: dict[str, Any] = {"batches": 50, "seed": 7, "metric": None, "more": {}}
    chosen = TrainingOptions(**{"device": "cpu", **options})
    return arguments(family("dense"), chosen, FOLDER, **{**defaults, **given})


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"epochs": 1.5}, "num_train_epochs", 1.5),
        ({"batch_size": 6}, "per_device_train_batch_size", 6),
        ({"learning_rate": 3e-4}, "learning_rate", 3e-4),
        ({"schedule": "cosine"}, "lr_scheduler_type", "cosine"),
        ({"schedule": "constant"}, "lr_scheduler_type", "constant_with_warmup"),
        ({"epochs": 2, "warmup": 0.25}, "warmup_steps", 25),
        ({"weight_decay": 0.2}, "weight_decay", 0.2),
        ({"max_grad_norm": 0.5}, "max_grad_norm", 0.5),
        ({"precision": "bfloat16"}, "bf16", True),
        ({"precision": "float32"}, "bf16", False),
        ({"evaluate_every": 9}, "save_steps", 9),
        ({"epochs": 2}, "save_steps", 10),
        ({"keep": 3}, "save_total_limit", 4),
        ({}, "seed", 7),
        ({}, "data_seed", 7),
        ({}, "logging_nan_inf_filter", False),
        ({}, "output_dir", "run/checkpoints"),
    ],
)
def test_an_option_is_the_trainers_argument(options: dict[str, Any], name: str, value: object) -> None:
    assert getattr(made(options), name) == value


def test_what_is_held_out_is_evaluated_when_a_checkpoint_is_written_and_chooses_the_best() -> None:
    asked = made({"evaluate_every": 9}, metric="eval_nDCG@10")
    assert (asked.eval_strategy, asked.eval_steps, asked.save_steps) == ("steps", 9, 9)
    assert (asked.metric_for_best_model, asked.greater_is_better, asked.load_best_model_at_end) == (
        "eval_nDCG@10",
        True,
        True,
    )
    assert made({}).eval_strategy == "no"


def test_a_model_is_loaded_with_the_options_length_and_dropout(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "bert", layers=1).save_pretrained(str(tmp_path / "dense"), create_model_card=False)
    folder, dense = str(tmp_path / "dense"), family("dense")
    options = TrainingOptions(max_length=9, attention_dropout=0.3, device="cpu")
    short, plain = dense.load(folder, options), dense.load(folder, TrainingOptions(device="cpu"))
    assert short.max_seq_length == 9
    assert short[0].auto_model.config.attention_probs_dropout_prob == 0.3
    assert plain.max_seq_length != 9
    assert plain[0].auto_model.config.attention_probs_dropout_prob == 0.0
    own = dense.load(folder, TrainingOptions(attention_dropout=None, device="cpu"))
    assert own[0].auto_model.config.attention_probs_dropout_prob == 0.1


def test_an_evaluation_searches_the_judged_documents_and_others_up_to_so_many() -> None:
    texts = {f"d{n}": f"text {n}" for n in range(20)}
    judged = TrainingData({"a": "one", "b": "two"}, texts, {"a": {"d3": 1.0}, "b": {"d7": 1.0, "d9": 0.0}})
    few, all_judged = (search_evaluator(judged, "dense", documents=count, seed=1) for count in (8, 2))
    assert few is not None
    assert all_judged is not None
    assert {"d3", "d7", "d9"} <= {*few.inner.corpus_ids}
    assert len(few.inner.corpus_ids) == 8
    assert {*all_judged.inner.corpus_ids} == {"d3", "d7", "d9"}


def test_an_encoder_computes_in_bfloat16_and_returns_float32(tmp_path: Path) -> None:
    model, texts, types = tiny_encoder(tmp_path), ["a heart valve", "lift and drag"], list[torch.dtype]()
    exact, linear = model.encode(texts), next(own for own in model.modules() if isinstance(own, torch.nn.Linear))
    linear.register_forward_hook(lambda *told: types.append(told[2].dtype))
    with computed_in(model, "bfloat16"):
        found = model.encode(texts)
    assert found.dtype == np.float32
    assert set(types) == {torch.bfloat16}
    assert np.sum(found * exact, axis=1) == pytest.approx(1, abs=0.01)
    assert np.array_equal(model.encode(texts), exact)
