"""The listwise loss against its formula and against the library's ListNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.errors import ContractError
from diptych_training.losses import ListwiseLoss
from diptych_training.losses.listwise import listwise
from given_embeddings import drawn
from tiny_models import cross_encoder

QUERIES = ["word1 word2", "word3", "word4 word5"]
DOCUMENTS = [["word1 word9", "word2", "word7 word8"], ["word3 word4", "word5"], ["word4", "word5 word6", "word0"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cross_encoder(tmp_path_factory.mktemp("model")).eval()


def labels(*rows: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(row) for row in rows]


def test_with_one_relevant_document_a_row_it_is_the_cross_entropy_of_that_document() -> None:
    scores, places = drawn(1, 5, 4), torch.tensor([0, 2, 1, 3, 0])
    target = torch.nn.functional.one_hot(places, 4).float()
    assert listwise(scores, target).item() == pytest.approx(torch.nn.functional.cross_entropy(scores, places).item())


def test_its_gradient_is_that_of_finite_differences() -> None:
    scores, target = drawn(2, 3, 4).double().requires_grad_(), drawn(3, 3, 4).double().softmax(1)
    assert torch.autograd.gradcheck(lambda given: listwise(given, target), (scores,))


def test_a_score_that_all_documents_of_a_row_gain_changes_nothing() -> None:
    scores, target = drawn(4, 3, 4), drawn(5, 3, 4).softmax(1)
    assert torch.allclose(listwise(scores + drawn(6, 3, 1), target), listwise(scores, target))


def test_rows_of_different_lengths_count_as_each_alone(model: Any) -> None:
    given = labels([1, 0, 0], [0, 1], [1, 0, 1])
    whole = ListwiseLoss(model)([QUERIES, DOCUMENTS], given)
    alone = [ListwiseLoss(model)([[q], [d]], [g]) for q, d, g in zip(QUERIES, DOCUMENTS, given, strict=True)]
    assert whole.item() == pytest.approx(torch.stack(alone).mean().item(), abs=1e-5)


def test_a_row_without_a_relevant_document_does_not_count(model: Any) -> None:
    some = ListwiseLoss(model)([QUERIES, DOCUMENTS], labels([1, 0, 0], [0, 0], [1, 0, 1]))
    without = ListwiseLoss(model)([QUERIES[::2], DOCUMENTS[::2]], labels([1, 0, 0], [1, 0, 1]))
    assert some.item() == pytest.approx(without.item(), abs=1e-5)
    assert ListwiseLoss(model)([QUERIES[:1], DOCUMENTS[:1]], labels([0, 0, 0])).item() == 0


@pytest.fixture
def decided(tmp_path: Path) -> Any:
    """A model whose scores of the documents of a row are far apart."""
    found = cross_encoder(tmp_path).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
        found[0].auto_model.classifier.weight.mul_(150.0)
    return found


def test_with_scores_it_is_the_cross_entropy_with_their_softmax_at_the_temperature(decided: Any) -> None:
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    given = labels([2.0, 0.5, -1.0], [0.0, 3.0], [1.0, 1.5, -2.0])
    scores = [
        np.array([decided.predict([(query, text)])[0] for text in own], np.float64)
        for query, own in zip(QUERIES, DOCUMENTS, strict=True)
    ]
    assert max(np.ptp(own) for own in scores) > 1
    for temperature in (1.0, 0.5, 4.0):
        rows = []
        for own, teacher in zip(scores, given, strict=True):
            wanted = np.exp(teacher.double().numpy() / temperature)
            rows.append(-float(wanted / wanted.sum() @ np.log(np.exp(own) / np.exp(own).sum())))
        loss = ListwiseLoss(decided, target="scores", temperature=temperature)
        found = loss([QUERIES, DOCUMENTS], given).item()
        assert found == pytest.approx(np.mean(rows), rel=1e-4)
        if temperature == 1:
            assert found == pytest.approx(ListNetLoss(decided)([QUERIES, DOCUMENTS], given).item(), rel=1e-5)


def test_pairs_read_two_at_a_time_give_the_same_gradient(model: Any) -> None:
    gradients = []
    for size in (None, 2):
        model.zero_grad()
        loss = ListwiseLoss(model, mini_batch_size=size)
        loss([QUERIES, DOCUMENTS], labels([1, 0, 0], [0, 1], [1, 0, 1])).backward()
        gradients.append(model[0].auto_model.classifier.weight.grad.clone())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("inputs", "given"),
    [
        ([QUERIES, DOCUMENTS], labels([1, 0], [0, 1], [1, 0, 1])),
        ([QUERIES, QUERIES], labels([1], [0], [1])),
        ([QUERIES, DOCUMENTS, DOCUMENTS], labels([1, 0, 0], [0, 1], [1, 0, 1])),
    ],
)
def test_rows_that_do_not_fit_are_refused(model: Any, inputs: Any, given: Any) -> None:
    with pytest.raises(ContractError, match=r"the rows must hold queries, documents and labels\n  where: ListwiseLoss"):
        ListwiseLoss(model)(inputs, given)


def test_an_unknown_target_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"unknown target\n  where: ListwiseLoss\n  got: ranks"):
        ListwiseLoss(model, target="ranks")  # type: ignore[arg-type]
