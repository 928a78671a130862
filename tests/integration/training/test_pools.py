"""Pools within sentence-transformers' own trainer: both recipes' parts learn, and a training goes on after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from transformers import TrainerCallback

from diptych_training.label_pool import ClusterSampler, LabelPool, PoolCollator, PoolRefresh
from diptych_training.losses import CachedLoss, ContrastiveLoss, PSLLoss, SoftTopKLoss
from diptych_training.models.unidec import HEADS, TABLE, table_of, with_classifier
from tiny_models import WORDS, bert

QUERIES = [f"{WORDS[n]} {WORDS[(n + 1) % 16]}" for n in range(16)]
LABELS = [f"{WORDS[n]} {WORDS[20 + n]}" for n in range(16)]
POSITIVES = {n: [n, (n + 1) % 16] for n in range(16)}


def arguments(folder: Path, **more: Any) -> SentenceTransformerTrainingArguments:
    given: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 12,
        "learning_rate": 5e-3,
        "logging_steps": 1,
    }
    given |= {"save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True}
    return SentenceTransformerTrainingArguments(output_dir=str(folder), **{**given, **more})


def trainer(model: Any, loss: Any, pool: LabelPool, args: Any, callbacks: Any = ()) -> SentenceTransformerTrainer:
    rows = datasets.Dataset.from_dict({"query": QUERIES, "label": list(range(16))})
    collate: Any = PoolCollator(model.preprocess, pool, LABELS)
    return SentenceTransformerTrainer(
        model=model, args=args, train_dataset=rows, loss=loss, data_collator=collate, callbacks=[*callbacks]
    )


def losses(run: SentenceTransformerTrainer) -> list[float]:
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("make", [ContrastiveLoss, SoftTopKLoss])
def test_a_dense_encoder_learns_against_all_documents(make: Any, cached: bool, tmp_path: Path) -> None:
    model = SentenceTransformer(str(bert(tmp_path / "bert")), device="cpu")
    pool = LabelPool(POSITIVES, documents=16)
    loss = make(model, relevance=pool.relevance, sample_positives=1)
    run = trainer(model, CachedLoss(loss, mini_batch_size=4) if cached else loss, pool, arguments(tmp_path / "out"))
    run.train()
    assert sum(losses(run)[-4:]) < 0.7 * sum(losses(run)[:4])


def unidec(folder: Path, bare: Path, **more: Any) -> tuple[Any, SentenceTransformerTrainer]:
    """A training of both heads with clusters and hard negatives from the second epoch on."""
    torch.manual_seed(0)
    model = with_classifier(SentenceTransformer(str(bare), device="cpu"), 16)
    pool = LabelPool(POSITIVES, documents=16, size=12, num_pos=1, num_neg=2)
    batches = ClusterSampler()
    refresh = PoolRefresh(
        model,
        QUERIES,
        LABELS,
        pool,
        batches,
        every=2,
        mine_from=1,
        cluster_from=1,
        cluster_size=4,
        folder=folder / "data",
    )
    rates = {HEADS: 1e-2, TABLE: 2e-2}
    args = arguments(folder, batch_sampler=batches, learning_rate_mapping=rates, **more)
    return model, trainer(model, PSLLoss(model, relevance=pool.relevance), pool, args, [refresh])


def test_both_heads_learn_with_pools_clusters_and_hard_negatives(tmp_path: Path) -> None:
    model, run = unidec(tmp_path / "out", bert(tmp_path / "bert"))
    before = table_of(model).weight.detach().clone()
    run.train()
    assert sum(losses(run)[-4:]) < 0.8 * sum(losses(run)[:4])
    assert (table_of(model).weight.detach() != before).any(1).all()
    groups: Any = run.optimizer.param_groups if run.optimizer else []
    assert [len(group["params"]) for group in groups if group["initial_lr"] == 2e-2] == [1]


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    bare = bert(tmp_path / "bert")
    saving = {"save_strategy": "steps", "save_steps": 5}  # in the middle of an epoch of two steps
    whole, run = unidec(tmp_path / "whole", bare, **saving)
    run.train()
    first, half = unidec(tmp_path / "killed", bare, **saving)
    half.add_callback(Killed())
    half.train()
    again, rest = unidec(tmp_path / "killed", bare, **saving)
    rest.train(resume_from_checkpoint=True)
    assert rest.state.global_step == run.state.global_step
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(again.state_dict()[name].numpy(), value.numpy(), atol=1e-5, err_msg=name)
    assert (table_of(first).weight != table_of(whole).weight).any()


class Killed(TrainerCallback):
    """Ends a training after seven steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        control.should_training_stop = state.global_step >= 7
