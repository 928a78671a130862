"""Prototype tuning: what trains, what stays, and what is served of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.errors import ContractError
from diptych_training.recipes.prototype_tuning import (
    PrototypeLoss,
    Prototypes,
    class_numbers,
    export_prompted,
    export_prototypes,
    prompt_of,
    prototype_model,
)
from given_embeddings import drawn
from tiny_encoders import features_of, tiny_encoder

TEXTS = ["word1 word2 word3", "word4", "word5 word6"]
CLASSES = ["first class", "Second", "third"]


def tuned(folder: Path, **given: Any) -> Any:
    """A model with prototypes that differ from each other."""
    made: Any = prototype_model(tiny_encoder(folder / "bert", layers=2), CLASSES, **given)
    vectors = torch.as_tensor(made.encode([prompt_of(made[-1].tokens) + text for text in TEXTS]))
    made[-1].start_at(vectors, torch.arange(3))
    return made


def step(model: Any) -> float:
    """One step of training; the loss before it."""
    loss = PrototypeLoss(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02, weight_decay=0.1)
    texts = [prompt_of(model[-1].tokens) + text for text in TEXTS]
    value = loss([features_of(model, *texts)], torch.tensor([1, 2, 0]))
    value.backward()
    optimizer.step()
    return float(value.item())


def test_the_prompt_and_the_prototypes_train_and_nothing_else(tmp_path: Path) -> None:
    model = tuned(tmp_path, tokens=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"rows", "vectors"}
    assert [step(model) for _ in range(12)][-1] < step(tuned(tmp_path, tokens=4))


def test_the_prompt_changes_vectors_as_its_tokens_rows_do(tmp_path: Path) -> None:
    model = tuned(tmp_path, tokens=4)
    texts = [prompt_of(4) + text for text in TEXTS]
    before = model.encode(texts)
    assert [len(ids) for ids in features_of(model, *texts[1:2])["input_ids"]] == [4 + 3]
    with torch.no_grad():
        model[-1].rows.add_(drawn(3, 4, 32))
    after = model.encode(texts)
    assert not np.allclose(before, after, atol=1e-3)
    assert np.allclose(model.encode(TEXTS), tuned(tmp_path, tokens=4).encode(TEXTS), atol=1e-6)


def test_a_saved_model_answers_as_it_did_in_training(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = tuned(tmp_path, tokens=4)
    step(model)
    wanted = model.encode([prompt_of(4) + text for text in TEXTS])
    served = SentenceTransformer(str(export_prompted(model, tmp_path / "prompted")), device="cpu")
    assert np.allclose(served.encode_query(TEXTS), wanted, atol=1e-6)
    assert np.allclose(served.encode_document(TEXTS), wanted, atol=1e-6)
    router = SentenceTransformer(str(export_prototypes(model, tmp_path / "classes")), device="cpu")
    assert np.allclose(router.encode_query(TEXTS), wanted, atol=1e-6)
    vectors = torch.nn.functional.normalize(model[-1].vectors.detach(), dim=-1)
    assert np.allclose(router.encode_document([*CLASSES, " third "]), vectors[[0, 1, 2, 2]].numpy(), atol=1e-6)
    assert not router.encode_document(["no class"]).any()


def test_without_a_prompt_prototypes_alone_train(tmp_path: Path) -> None:
    plain = tiny_encoder(tmp_path / "bert", layers=2)
    wanted = plain.encode(TEXTS)
    model = tuned(tmp_path, tokens=0)
    step(model)
    assert np.allclose(model.encode(TEXTS), wanted, atol=1e-6)
    assert not model.prompts["query"]


def test_prototypes_start_at_the_means_of_their_classes() -> None:
    vectors, classes = drawn(1, 6, 8), torch.tensor([0, 0, 1, 1, 1, 0])
    made = Prototypes(CLASSES, 8)
    made.start_at(vectors, classes)
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    wanted = torch.nn.functional.normalize(torch.stack([unit[classes == k].mean(0) for k in (0, 1)]), dim=-1)
    assert torch.allclose(made.vectors[:2], wanted, atol=1e-6)
    assert not made.vectors[2].any()


def test_the_loss_is_the_cross_entropy_of_cosines(tmp_path: Path) -> None:
    model = tuned(tmp_path, tokens=2)
    vectors, classes = drawn(2, 4, 32), torch.tensor([0, 2, 1, 1])
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], model[-1].vectors[None], dim=-1)
    wanted = -(cosines / 0.1).log_softmax(1)[torch.arange(4), classes].mean()
    found = PrototypeLoss(model, tau=0.1).compute_loss_from_embeddings([vectors], classes)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = tuned(tmp_path, tokens=2)
    with pytest.raises(ContractError, match="the batch is not texts with classes"):
        PrototypeLoss(model).compute_loss_from_embeddings([drawn(1, 2, 32)], torch.tensor([0.0, 1.0]))
    with pytest.raises(ContractError, match="unusable classes"):
        Prototypes(["same", "same"], 8)
    with pytest.raises(ContractError, match=r"(?s)some names are not classes.*other"):
        class_numbers(["third", "other"], CLASSES)
    assert class_numbers(["third", "first class"], CLASSES) == [2, 0]
