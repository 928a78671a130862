"""Encoders with two heads: whose gradient goes where, and what is served of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.errors import ContractError
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from diptych_experimental.dual_head_models import (
    DualHead,
    DualHeadLoss,
    best_mix,
    dual_head,
    export_dual_head,
    mixed,
    mixed_model,
    ndcg,
)
from diptych_training.teacher_scores import labels_of
from given_embeddings import drawn
from tiny_encoders import features_of, tiny_encoder

TEXTS = ["word1 word2 word3", "word4", "word5 word6 word7 word8 word9"]
LABELS = torch.tensor([labels_of([0, 0, 7], [2.0, -1.0]), labels_of([-1, -1, -1], [0.5, 1.5])])


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """An encoder with two heads that differ."""
    made = dual_head(tiny_encoder(tmp_path / "bert", layers=1))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made[-1].parameters():
            parameter.add_(torch.randn_like(parameter) / 4)
    return made


def batch(model: Any) -> list[dict[str, Any]]:
    return [
        features_of(model, *pair) for pair in (("word1", "word2"), ("word1 word3", "word2"), ("word4", "word5 word6"))
    ]


def heads(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        found = model(features_of(model, *TEXTS))
    return found["head_a"], found["head_b"]


def test_no_head_gets_the_others_gradient(model: Any) -> None:
    for name, moved, still in (("supervised", "head_a", "head_b"), ("distill", "head_b", "head_a")):
        model.zero_grad()
        labels = torch.tensor([labels_of([0, 0, 7], [2.0, -1.0]), labels_of([1, 1, 8], [0.5, 1.5])])
        DualHeadLoss(model)(batch(model), labels)[name].backward()
        assert getattr(model[-1], moved).weight.grad.any()
        assert getattr(model[-1], still).weight.grad is None
        assert next(model[0].parameters()).grad.any()


def test_unlabelled_rows_have_no_part_in_the_loss_of_relevance(model: Any) -> None:
    features = batch(model)
    both = DualHeadLoss(model)(features, LABELS)
    first = [{name: part[:1] for name, part in column.items() if isinstance(part, torch.Tensor)} for column in features]
    alone = DualHeadLoss(model)(first, LABELS[:1])
    assert both["supervised"].item() == pytest.approx(alone["supervised"].item(), abs=1e-5)
    assert both["distill"].item() != pytest.approx(alone["distill"].item(), abs=1e-4)
    none = DualHeadLoss(model)(features, torch.stack([LABELS[1], LABELS[1]]))["supervised"]
    none.backward()
    assert none.item() == 0


def test_unless_told_the_second_head_is_distilled_at_temperature_2_with_weight_1(model: Any) -> None:
    """`T^2 KL` over a row, by dot products over 0.05; its weight multiplies it."""
    head_a, head_b = ([drawn(10 * head + column, 2, 8) for column in range(3)] for head in (1, 2))
    labels = torch.tensor([labels_of([0, 0, 7], [2.0, -1.0]), labels_of([1, 1, 8], [0.5, 1.5])])
    divergences = []
    for row, teacher in enumerate(([2.0, -1.0], [0.5, 1.5])):
        student = [float(head_b[0][row] @ column[row]) / 0.05 for column in head_b[1:]]
        wanted, found = (
            np.exp(np.array(scores) / 2) / np.exp(np.array(scores) / 2).sum() for scores in (teacher, student)
        )
        divergences.append(4 * float((wanted * np.log(wanted / found)).sum()))
    for weight, loss in ((1.0, DualHeadLoss(model)), (0.25, DualHeadLoss(model, distill_weight=0.25))):
        parts = loss.compute_losses_from_embeddings(head_a, head_b, labels)
        assert parts["distill"].item() == pytest.approx(weight * np.mean(divergences), rel=1e-4)


def test_the_means_of_labelled_and_of_unlabelled_rows_are_added(model: Any) -> None:
    head_a, head_b = ([drawn(10 * head + column, 3, 8) for column in range(3)] for head in (1, 2))
    rows = [labels_of([0, 0, 7], [2.0, -1.0]), labels_of([-1] * 3, [0.5, 1.5]), labels_of([-1] * 3, [3.0, 0.0])]

    def distilled(*places: int) -> float:
        a, b = ([column[[*places]] for column in head] for head in (head_a, head_b))
        labels = torch.tensor([rows[place] for place in places])
        return DualHeadLoss(model).compute_losses_from_embeddings(a, b, labels)["distill"].item()

    assert distilled(0, 1, 2) == pytest.approx(distilled(0) + (distilled(1) + distilled(2)) / 2, rel=1e-5)
    assert distilled(1, 2) == pytest.approx((distilled(1) + distilled(2)) / 2, rel=1e-5)


def test_a_dot_product_of_mixed_vectors_is_the_mix_of_both_scores() -> None:
    a, b, c, d = (drawn(seed, 5, 16).double() for seed in range(4))
    found = mixed(a, b, 0.3) @ mixed(c, d, 0.3).T
    assert torch.allclose(found, 0.3 * a @ c.T + 0.7 * b @ d.T, atol=1e-12)


@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
def test_a_saved_mix_scores_as_its_heads_do(mix: float, model: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    a, b = heads(model)
    served = SentenceTransformer(str(export_dual_head(model, tmp_path / "served", mix=mix)), device="cpu")
    vectors = served.encode(TEXTS)
    assert served.similarity_fn_name == "dot"
    options = {"model": str(tmp_path / "served"), "backend": "torch"}
    blocks = dict(SentenceTransformerEncoder.of(**options).blocks)
    assert blocks == ({"head_a": a.shape[1], "head_b": b.shape[1]} if 0 < mix < 1 else {})
    assert not SentenceTransformerEncoder.of(**options, truncate_dim=4).blocks
    assert np.allclose(vectors @ vectors.T, (mix * a @ a.T + (1 - mix) * b @ b.T).numpy(), atol=1e-5)


@pytest.mark.parametrize(("mix", "head"), [(1.0, 0), (0.0, 1)])
def test_at_the_ends_the_mix_is_one_head_alone(mix: float, head: int, model: Any) -> None:
    assert np.allclose(mixed_model(model, mix=mix).encode(TEXTS), heads(model)[head].numpy(), atol=1e-6)


def test_a_weight_of_queries_alone_changes_no_document(model: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    a, b = heads(model)
    for mix in (0.0, 0.25, 1.0):
        folder = export_dual_head(model, tmp_path / str(mix), mix=mix, sides="query")
        served = SentenceTransformer(str(folder), device="cpu")
        documents = served.encode_document(TEXTS)
        assert np.allclose(documents, torch.cat([a, b], 1).numpy(), atol=1e-6)
        wanted = mix * a @ a.T + (1 - mix) * b @ b.T
        assert np.allclose(served.encode_query(TEXTS) @ documents.T, wanted.numpy(), atol=1e-5)


def test_untrained_heads_compare_as_the_encoder_does(tmp_path: Path) -> None:
    plain = tiny_encoder(tmp_path / "bert", layers=1)
    wanted = plain.encode(TEXTS)
    found = dual_head(plain, mix=0.3).encode(TEXTS)
    assert np.allclose(found @ found.T, wanted @ wanted.T, atol=1e-6)


def test_labels_of_another_form_are_refused(model: Any) -> None:
    with pytest.raises(ContractError, match=r"(?s)labels are not ids and scores.*\[2, 3\].*\[2, 5\].*labels_of"):
        DualHeadLoss(model)(batch(model), torch.zeros(2, 3))
    with pytest.raises(ContractError, match="ids and scores are of different rows"):
        labels_of([1, 2], [0.5, 0.5])
    with pytest.raises(ContractError, match="an id is too large for a label"):
        labels_of([1, 2**24 + 1], [0.5])


def test_a_model_in_training_is_not_saved_as_one_that_serves(model: Any, tmp_path: Path) -> None:
    from diptych_training.trained_module import saved

    with pytest.raises(ContractError, match=r"(?s)a model in training.*DualHead"):
        saved(model, tmp_path)
    with pytest.raises(ContractError, match="unusable mix"):
        mixed_model(model, mix=1.5)
    assert DualHead(8, dimension=4).get_embedding_dimension() == 8


def test_the_best_mix_is_found_from_scores() -> None:
    random = np.random.default_rng(0)
    gains = (random.random((40, 30)) < 0.1).astype(np.float32)
    good, noise = gains + random.normal(size=gains.shape) / 4, random.normal(size=gains.shape)
    best, curve = best_mix(good, noise, gains)
    assert best.mix > 0.8
    assert best.ndcg == max(curve.values())
    assert len(curve) == 21
    assert best_mix(gains, gains, gains)[0].mix == 0.5
    assert best_mix(noise, good, gains)[0].mix < 0.2


def test_ndcg_is_that_of_the_formula() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    gains = np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    wanted = (2 / np.log2(3) + 1 / np.log2(4)) / (2 + 1 / np.log2(3))
    assert ndcg(scores, gains).tolist() == pytest.approx([wanted, 0.0])
    assert ndcg(scores, gains, k=1).tolist() == [0.0, 0.0]
