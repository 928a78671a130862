"""The losses and samplers within sentence-transformers' own trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from diptych_experimental.mw import FocalBCELoss, MannWhitneyLoss
from diptych_experimental.tas_balanced import PairedViews
from diptych_training.losses import (
    ContrastiveLoss,
    CPRDLoss,
    Groups,
    HybridNCELoss,
    KLDistillation,
    ListwiseLoss,
    SoftTopKLoss,
)
from diptych_training.relevance import Relevance
from diptych_training.rows import NoDuplicates
from tiny_models import cross_encoder

WORDS = [f"word{n}" for n in range(40)]


@pytest.fixture
def transformer(tmp_path: Path) -> Any:
    """A BERT of one layer over forty words."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    model = BertForMaskedLM(BertConfig(vocab_size=45, max_position_embeddings=32, **shape))
    model.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def rows() -> list[dict[str, Any]]:
    """Sixteen queries of one word, their documents of that word and others, one negative each; ids as labels."""
    return [
        {
            "query": WORDS[n],
            "positive": f"{WORDS[n]} {WORDS[20 + n]}",
            "negative": f"{WORDS[(n + 5) % 16]} {WORDS[25]}",
            "label": [n, n, 100 + n],
        }
        for n in range(16)
    ]


def trained(
    model: Any, trainer: Any, arguments: Any, loss: Any, folder: Path, data: list[dict[str, Any]], **more: Any
) -> list[float]:
    """The losses of a training, step by step."""
    given = {"per_device_train_batch_size": 8, "num_train_epochs": 12, "learning_rate": 5e-3, "logging_steps": 1}
    made = arguments(output_dir=str(folder), save_strategy="no", report_to="none", use_cpu=True, **given, **more)
    import datasets

    run = trainer(model=model, args=made, train_dataset=datasets.Dataset.from_list(data), loss=loss)
    run.train()
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


def sampler(name: str) -> Any:
    """Of the batches of `rows()`: pairs of rows together, or no document of a row relevant to another."""
    return (
        PairedViews([n // 2 for n in range(16)]) if name == "pairs" else NoDuplicates([row["label"] for row in rows()])
    )


def hybrid(model: Any, relevance: Relevance) -> HybridNCELoss:
    """With the documents of two queries each in one group."""
    return HybridNCELoss(model, relevance=relevance, groups=Groups({n: [n // 2] for n in range(16)}), symmetric=True)


def focal(model: Any, relevance: Relevance) -> FocalBCELoss:
    """With three drawn negatives a positive, and a threshold at a cosine of 0.5."""
    return FocalBCELoss(model, relevance=relevance, negatives=3, tau=0.2, bias=-2.5)


@pytest.mark.parametrize("make", [ContrastiveLoss, MannWhitneyLoss, SoftTopKLoss, hybrid, focal])
def test_a_dense_encoder_learns_by_each_loss_with_ids(make: Any, transformer: Path, tmp_path: Path) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )

    model = SentenceTransformer(str(transformer), device="cpu")
    loss = make(model, relevance=Relevance([(0, 1)]))
    losses = trained(
        model,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        loss,
        tmp_path / "out",
        rows(),
        batch_sampler=sampler("pairs"),
    )
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


def test_a_dense_encoder_learns_from_batches_without_duplicates(transformer: Path, tmp_path: Path) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )

    model = SentenceTransformer(str(transformer), device="cpu")
    losses = trained(
        model,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        ContrastiveLoss(model),
        tmp_path / "out",
        rows(),
        batch_sampler=sampler("distinct"),
    )
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


@pytest.mark.parametrize("name", ["pairs", "distinct"])
def test_a_cross_encoder_learns_from_the_batches_of_each_sampler(name: str, tmp_path: Path) -> None:
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments

    model = cross_encoder(tmp_path / "bert")
    data = [{"query": row["query"], "documents": [row["positive"], row["negative"]], "label": [1, 0]} for row in rows()]
    losses = trained(
        model,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        ListwiseLoss(model),
        tmp_path / "out",
        data,
        batch_sampler=sampler(name),
    )
    assert len(losses) >= 24
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_a_dense_encoder_learns_from_a_teachers_scores(transformer: Path, tmp_path: Path) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )

    model = SentenceTransformer(str(transformer), device="cpu")
    data = [{**row, "label": [3.0, -1.0]} for row in rows()]
    losses = trained(
        model, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, CPRDLoss(model), tmp_path / "out", data
    )
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pairs", "distinct"])
def test_a_lexicon_learns_with_the_loss_inside_of_splades(name: str, transformer: Path, tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments
    from sentence_transformers.sparse_encoder.losses import SpladeLoss

    model = SparseEncoder(str(transformer), device="cpu")
    inner = ContrastiveLoss(model, similarity="dot", tau=1.0, relevance=Relevance([(0, 1)]))
    loss = SpladeLoss(model, inner, document_regularizer_weight=1e-3, query_regularizer_weight=1e-3)
    losses = trained(
        model,
        SparseEncoderTrainer,
        SparseEncoderTrainingArguments,
        loss,
        tmp_path / "out",
        rows(),
        batch_sampler=sampler(name),
    )
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


@pytest.mark.parametrize(("taught", "name"), [(False, "distinct"), (True, "pairs")])
def test_late_interaction_learns_by_ids_and_by_a_teacher(
    taught: bool, name: str, transformer: Path, tmp_path: Path
) -> None:
    from sentence_transformers import (
        MultiVectorEncoder,
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
    )

    model = MultiVectorEncoder(str(transformer), device="cpu")
    loss: Any = ContrastiveLoss(model, similarity="maxsim", relevance=Relevance([(0, 1)]))
    data = rows()
    if taught:
        loss, data = KLDistillation(model, similarity="maxsim"), [{**row, "label": [3.0, -1.0]} for row in data]
    losses = trained(
        model,
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
        loss,
        tmp_path / "out",
        data,
        batch_sampler=sampler(name),
    )
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
