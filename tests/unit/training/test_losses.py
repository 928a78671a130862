"""Every loss is its published formula, written out row by row, and refuses what it cannot take."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from diptych.errors import ContractError
from diptych_experimental.ar2 import AR2RetrieverLoss
from diptych_experimental.unidec import LabelTable, PSLLoss
from diptych_training.losses import CachedLoss, ContrastiveLoss, CPRDLoss, HybridNCELoss, KLDistillation
from diptych_training.losses.base import RetrievalLoss
from diptych_training.recipes.dexml import SoftTopKLoss, log_soft_top_k
from diptych_training.relevance import Candidates, Relevance
from given_embeddings import Given, columns, drawn

SEEDS = st.integers(0, 10_000)
ROWS, TAU = 5, 0.2
EMBEDDINGS = [drawn(seed, ROWS, 8) for seed in (1, 2, 3)]
IDS = torch.tensor([[n, n, 10 + n] for n in range(ROWS)])
KNOWN = Relevance([(0, 1), (0, 12), (3, 2)])  # beside each row's own positive
SCORES = (normalize(EMBEDDINGS[0]) @ normalize(torch.cat(EMBEDDINGS[1:])).T).double() / TAU
POSITIVE = torch.eye(ROWS, 2 * ROWS).bool()
POSITIVE[0, 1] = POSITIVE[0, 7] = POSITIVE[3, 2] = True
Row = Callable[[Tensor, Tensor], Any]  # scores of a row's positives, and of its negatives


def infonce(high: Tensor, low: Tensor) -> Tensor:
    return torch.stack([(s.exp() + low.exp().sum()).log() - s for s in high]).mean()


def smoothed(high: Tensor, low: Tensor) -> Tensor:
    gaps = torch.stack([(s.exp() + low.exp().sum()).log() - low.mean() for s in high]).mean()
    return 0.9 * infonce(high, low) + 0.1 * gaps


def hybrid(high: Tensor, low: Tensor) -> Tensor:
    hardness = (0.3 * low).exp()
    return -(high.exp().sum() / (high.exp().sum() + (hardness / hardness.mean() * low.exp()).sum())).log()


def soft_top_k(high: Tensor, low: Tensor) -> Tensor:
    logs = log_soft_top_k(torch.cat([high, low])[None], torch.tensor([3.0]).double(), 1.5)
    return -logs[0, : len(high)].mean()


def mean_of(row: Row, scores: Tensor = SCORES, positive: Tensor = POSITIVE) -> Tensor:
    rows = [row(own[mine], own[~mine]) for own, mine in zip(scores, positive, strict=True) if mine.any()]
    return torch.stack(rows).mean()


def both_ways(row: Row) -> Tensor:
    return (mean_of(row) + mean_of(row, SCORES.T, POSITIVE.T)) / 2


FORMULAS: dict[str, tuple[Callable[..., RetrievalLoss], Tensor]] = {
    "decoupled softmax": (ContrastiveLoss, mean_of(infonce)),
    "label smoothing": (lambda *a, **k: ContrastiveLoss(*a, label_smoothing=0.1, **k), mean_of(smoothed)),
    "symmetric": (lambda *a, **k: ContrastiveLoss(*a, symmetric=True, **k), both_ways(infonce)),
    "Hybrid-NCE": (lambda *a, **k: HybridNCELoss(*a, beta=0.3, **k), mean_of(hybrid)),
    "soft top-k": (lambda *a, **k: SoftTopKLoss(*a, k=3, alpha=1.5, **k), mean_of(soft_top_k)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_loss_over_the_batch_is_its_formula_with_what_is_relevant_as_no_negative(name: str) -> None:
    make, wanted = FORMULAS[name]
    found = make(Given(), tau=TAU, relevance=KNOWN)(columns(*EMBEDDINGS), IDS)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_row_without_a_negative_does_not_count_and_breaks_no_gradient(name: str) -> None:
    make, _ = FORMULAS[name]
    given_ = [column[:2].clone().requires_grad_() for column in EMBEDDINGS[:2]]
    all_relevant = Relevance([(query, document) for query in range(2) for document in range(2)])
    make(Given(), relevance=all_relevant)(columns(*given_), IDS[:2, :2]).backward()
    assert all(torch.isfinite(column.grad).all() for column in given_ if column.grad is not None)


@pytest.mark.parametrize("name", FORMULAS)
def test_one_token_a_text_is_a_vector_and_padding_changes_nothing(name: str) -> None:
    make, _ = FORMULAS[name]
    wanted = make(Given(), similarity="cosine").compute_loss_from_embeddings(EMBEDDINGS)
    loss = make(Given(), similarity="maxsim")
    single = [column[:, None] for column in EMBEDDINGS]
    torch.testing.assert_close(loss.compute_loss_from_embeddings(single), wanted)
    tokens_ = [tokens(seed, ROWS, most) for seed, most in ((1, 4), (2, 5), (3, 7))]
    longer = [torch.nn.functional.pad(column, (0, 0, 0, 3)) for column in tokens_]
    torch.testing.assert_close(
        loss.compute_loss_from_embeddings(longer), loss.compute_loss_from_embeddings(tokens_), rtol=1e-5, atol=1e-5
    )


def tokens(seed: int, rows: int, most: int, width: int = 4) -> Tensor:
    """Unit vectors of one to `most` tokens a row, zeros for the others."""
    found = normalize(drawn(seed, rows * most, width).double().reshape(rows, most, width), dim=-1)
    lengths = torch.randint(1, most + 1, (rows,), generator=torch.Generator().manual_seed(seed))
    return found * (torch.arange(most)[None] < lengths[:, None])[..., None]


BLOCKS: list[list[Any]] = [["qd"], ["qd", "qq"], ["qd", "dd"], ["qd", "dq"], ["qq"], ["qd", "qq", "dd", "dq"]]


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_blocks_add_the_pairs_of_other_rows_but_for_what_is_relevant(blocks: list[Any]) -> None:
    queries, own, hard = (normalize(column.double()) for column in EMBEDDINGS)
    rows = []
    for i in range(ROWS):
        negatives = [queries[i] @ hard[j] for j in range(ROWS) if "qd" in blocks and not POSITIVE[i, ROWS + j]]
        for j in set(range(ROWS)) - {i}:
            pairs = {"qq": (queries[i], queries[j]), "dd": (own[i], own[j]), "dq": (own[i], queries[j])}
            sister = POSITIVE[i, j] or POSITIVE[j, i]
            negatives += [a @ b for block, (a, b) in pairs.items() if block in blocks and not sister]
            negatives += [queries[i] @ own[j]] if "qd" in blocks and not POSITIVE[i, j] else []
        rows.append(infonce(SCORES[i][POSITIVE[i]], torch.stack(negatives) / TAU))
    found = ContrastiveLoss(Given(), tau=TAU, blocks=blocks, relevance=KNOWN)(columns(*EMBEDDINGS), IDS)
    assert found.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-4)


def soft(scores: Tensor, k: float, alpha: float = 2.0) -> Tensor:
    return log_soft_top_k(scores, torch.full_like(scores[:, 0], k), alpha).exp()


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, k=st.integers(1, 6), alpha=st.floats(0.5, 4), shift=st.floats(-50, 50))
def test_soft_top_k_adds_up_to_k_and_has_the_published_jacobian(seed: int, k: int, alpha: float, shift: float) -> None:
    scores = 2 * drawn(seed, 4, 8).double()
    share = soft(scores, k, alpha)
    assert torch.allclose(share.sum(1), torch.full((4,), float(k)).double(), atol=1e-9)
    assert torch.allclose(soft(scores + shift, k, alpha), share, atol=1e-9)
    jacobian: Any = torch.autograd.functional.jacobian
    found = jacobian(lambda s: soft(s[None], k, alpha)[0], scores[0])
    weight = alpha * share[0] * (1 - share[0])
    assert torch.allclose(found, weight.diag() - weight[:, None] * weight[None] / weight.sum(), atol=1e-9)


# Losses that distil a teacher.

WIDE = [drawn(seed, 4, 8) for seed in range(6)]  # four rows of a query and five documents
TEACHER = 3 * drawn(9, 4, 5)
OWN = torch.stack([(normalize(WIDE[0]) * normalize(column)).sum(1) for column in WIDE[1:]], 1).double() / TAU


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    wanted = teacher.softmax(1)
    return (wanted * (wanted.log() - student.log_softmax(1))).sum(1).mean()


def likelihood(student: Tensor, teacher: Tensor, valid: Callable[[list[float]], list[bool]]) -> Tensor:
    """Of the teacher's order of its valid negatives, place by place, as the mean over rows of minus its mean log."""
    rows = []
    for scores, wanted in zip(student, teacher.tolist(), strict=True):
        order = sorted(range(len(wanted)), key=lambda place: -wanted[place])
        kept = valid([wanted[place] for place in order])
        terms = [scores[order[j:]].logsumexp(0) - scores[order[j]] for j, is_valid in enumerate(kept) if is_valid]
        rows.append(torch.stack(terms).sum() / max(1, len(terms)) if terms else scores.sum() * 0)
    return torch.stack(rows).mean()


def likely(wanted: list[float]) -> list[bool]:
    return [1 / (1 + np.exp(-score)) >= 0.1 for score in wanted]


def centred(scores: Tensor) -> Tensor:
    return scores - scores.mean(1, keepdim=True)


NEGATIVES, TAUGHT = OWN[:, 1:], TEACHER[:, 1:].double()
WIDE_IDS = torch.tensor([[n, n, *(place + n for place in (10, 20, 30, 40))] for n in range(4)])
DISTILLED: dict[str, tuple[dict[str, Any], Tensor]] = {
    "order": ({"weight": 0.3}, 0.3 * likelihood(NEGATIVES, TAUGHT, likely)),
    "order of the best": (
        {"top": 0.5},
        likelihood(NEGATIVES, TAUGHT, lambda wanted: [place < 2 for place in range(len(wanted))]),
    ),
    "distribution": ({"kind": "distribution"}, divergence(NEGATIVES, TAUGHT)),
    "scores": (
        {"kind": "scores", "weight": 0.3},
        0.3 * (centred(NEGATIVES) - centred(TAUGHT)).square().mean(),
    ),
}


@pytest.mark.parametrize("name", DISTILLED)
def test_what_a_teacher_adds_to_contrast_is_its_formula_and_gives_the_teacher_no_gradient(name: str) -> None:
    options, wanted = DISTILLED[name]
    labels = torch.cat([WIDE_IDS.float(), TEACHER], 1).requires_grad_()
    embeddings = [column.clone().requires_grad_() for column in WIDE]
    found = CPRDLoss(Given(), tau=TAU, **options)(columns(*embeddings), labels)
    contrast = ContrastiveLoss(Given(), tau=TAU)(columns(*WIDE), WIDE_IDS)
    assert found.item() == pytest.approx((contrast + wanted).item(), rel=1e-4)
    found.backward()
    assert labels.grad is None or not labels.grad.any()
    assert embeddings[0].grad is not None


@pytest.mark.parametrize("name", ["KL", "AR2"])
def test_a_loss_of_scores_alone_is_its_formula(name: str) -> None:
    teacher = TEACHER.double()
    if name == "KL":
        loss: RetrievalLoss = KLDistillation(Given(), tau=TAU, temperature=3.0)
        wanted = 9 * divergence(OWN / 3, teacher / 3)
    else:
        loss = AR2RetrieverLoss(Given(), tau=TAU, adv_weight=0.3)
        reward = (teacher[:, :1].exp() / (teacher[:, :1].exp() + teacher.exp())).log()
        wanted = 0.3 * (NEGATIVES.softmax(1) * reward[:, 1:]).sum(1).mean()
        wanted = wanted + 0.7 * cross_entropy(OWN, teacher.softmax(1))
    assert loss(columns(*WIDE), TEACHER).item() == pytest.approx(wanted.item(), rel=1e-4)
    with pytest.raises(ContractError, match="labels are not a teacher's scores"):
        loss(columns(*WIDE), None)


def test_cprd_is_a_likelihood_over_orders_and_knows_neither_scale_nor_the_order_of_the_invalid() -> None:
    student, loss = drawn(2, 1, 6).double(), CPRDLoss(Given(), top=2 / 6)
    total = 0.0
    for first, second in permutations(range(6), 2):
        teacher = torch.full((1, 6), -9.0).double()
        teacher[0, first], teacher[0, second] = 5.0, 4.0
        total += float((-2 * loss.order(student, teacher)).exp())  # the mean of two terms
    assert total == pytest.approx(1.0)
    assert torch.allclose(loss.order(student + 4, 3 * teacher.exp() - 7), loss.order(student, teacher))
    wanted, order = torch.tensor([[3.0, 2.0, -5.0, -6.0, -7.0, -8.0]]).double(), [0, 1, 5, 3, 4, 2]
    gradients = []
    for invalid in (wanted, wanted[:, order]):
        asked = student.clone().requires_grad_()
        gradients.append(torch.autograd.grad(CPRDLoss(Given()).order(asked, invalid), asked)[0])
    assert torch.allclose(gradients[0], gradients[1])


KINDS: list[dict[str, Any]] = [{}, {"min_prob": 0.0}, {"top": 0.5}, {"kind": "distribution"}, {"kind": "scores"}]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_cprd_with_ids_contrasts_with_the_batch_and_compares_no_negative_that_is_relevant(
    options: dict[str, Any],
) -> None:
    ids, teacher = torch.tensor([[0, 0, 10, 20, 30, 40]]), [4.0, 3.0, 2.0, 1.0, -5.0]
    embeddings = [drawn(seed, 1, 8) for seed in range(6)]

    def taught(relevance: Relevance, kept: list[int], ids: Tensor) -> float:
        labels = torch.tensor([[*map(float, ids[0].tolist()), *(teacher[place - 1] for place in kept[1:])]])
        given_ = columns(*(embeddings[n] for n in kept))
        whole = CPRDLoss(Given(), relevance=relevance, **options)(given_, labels)
        return float(whole) - float(ContrastiveLoss(Given(), tau=0.07, relevance=relevance)(given_, ids))

    some, every = [0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5]
    wanted = taught(Relevance(), some, ids[:, some])
    assert taught(Relevance([(0, 20)]), every, ids) == pytest.approx(wanted, rel=1e-4)
    again = ids.clone()  # the row's own positive once more among its negatives
    again[0, 3] = 0
    assert taught(Relevance(), every, again) == pytest.approx(wanted, rel=1e-4)
    none_left = Relevance([(0, document) for document in (10, 20, 30, 40)])
    assert taught(none_left, every, ids) == pytest.approx(0.0, abs=1e-5)


# Pools, and gradient caching.


class Headed(torch.nn.Module):
    """A model that hands on what it is given for both heads, with a table of eight documents."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = LabelTable(8, 4)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["given"], "classifier_embedding": features["given"][:, :4]}


POOLED = torch.tensor([0, 1, 2, *range(6)])
POOL = Relevance([(0, 0), (0, 3), (1, 1), (2, 2), (2, 3), (2, 5)])


def test_unidecs_loss_is_both_heads_over_the_pool_and_reaches_the_rows_of_the_pool_alone() -> None:
    model, queries, documents = Headed(), drawn(1, 3, 8).requires_grad_(), drawn(2, 6, 8)
    positive = torch.tensor([[bool(POOL(torch.tensor([q]), torch.tensor([d]))) for d in range(6)] for q in range(3)])
    terms = []
    for scores in (normalize(queries) @ normalize(documents).T, queries[:, :4] @ model.table.weight[:6].T):
        forth, back = (18 * scores.double(), positive), (18 * scores.T.double(), positive.T)
        terms.append((mean_of(infonce, *forth) + mean_of(infonce, *back)) / 2)
    loss = PSLLoss(model, relevance=POOL, weight=0.3, dropout=0.0)
    found = loss([{"given": queries}, {"given": documents}], POOLED)
    assert found.item() == pytest.approx((0.3 * terms[0] + 0.7 * terms[1]).item(), rel=1e-5)
    found.backward()
    assert model.table.weight.grad is not None
    assert (model.table.weight.grad != 0).any(1).tolist() == [True] * 6 + [False] * 2
    dropped = PSLLoss(model, relevance=POOL, dropout=0.5)
    given_ = [{"given": queries}, {"given": documents}]
    assert dropped(given_, POOLED) != dropped(given_, POOLED)
    model.eval()
    assert dropped(given_, POOLED) == dropped(given_, POOLED), "dropout is for training alone"


class Projecting(torch.nn.Module):
    """A model with a weight, over features that sentence-transformers can cut."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(8, 6)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.layer(features["input_ids"])}


@pytest.mark.parametrize("size", [2, 3, 100])
def test_cached_gradients_are_those_of_the_whole_batch(size: int) -> None:
    batch = [{"input_ids": drawn(seed, 7, 8), "attention_mask": torch.ones(7, 8)} for seed in (1, 2, 3)]
    plain, cached = ContrastiveLoss(Projecting()), CachedLoss(ContrastiveLoss(Projecting()), mini_batch_size=size)
    wanted, found = plain(batch), cached(batch)
    wanted.backward()
    found.backward()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert torch.allclose(cached.model.layer.weight.grad, plain.model.layer.weight.grad, atol=1e-5)
    with torch.no_grad():
        assert cached(batch).item() == pytest.approx(wanted.item(), rel=1e-5)


THREE = columns(*(drawn(seed, 2, 4) for seed in (1, 2, 3)))
REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: ContrastiveLoss(Given(), tau=0), "ContrastiveLoss", "unusable tau"),
    (lambda: ContrastiveLoss(Given(), label_smoothing=1.0), "ContrastiveLoss", "unusable label_smoothing"),
    (lambda: ContrastiveLoss(Given(), blocks=["xy"]), "ContrastiveLoss", "unusable blocks"),  # type: ignore[list-item]
    (lambda: ContrastiveLoss(Given(), similarity="l2"), "ContrastiveLoss", "unknown similarity"),
    (lambda: ContrastiveLoss(Given())(columns(drawn(1, 2, 4))), "ContrastiveLoss", "a batch without documents"),
    (lambda: ContrastiveLoss(Given())(THREE, torch.zeros(2, 4).long()), "the label column", "not ids of the rows"),
    (
        lambda: ContrastiveLoss(Given())(columns(drawn(1, 2, 4), drawn(2, 3, 4))),
        "the label column",
        "extra documents need ids",
    ),
    (lambda: Relevance([(-1, 2)]), "Relevance", "unknown ids"),
    (lambda: CPRDLoss(Given())(THREE, torch.zeros(2, 3)), "CPRDLoss", "labels are not ids and scores"),
    (lambda: PSLLoss(torch.nn.Linear(1, 1), relevance=POOL), "diptych_experimental.unidec", "has no classifier"),
    (
        lambda: PSLLoss(Headed(), relevance=POOL)([{"given": drawn(1, 3, 8)}, {"given": drawn(2, 6, 8)}], POOLED + 3),
        "PSLLoss",
        "no row in the table",
    ),
]


@pytest.mark.parametrize(("ask", "where", "what"), REFUSED, ids=[f"{where}: {what}" for _, where, what in REFUSED])
def test_what_a_loss_cannot_take_is_refused(ask: Callable[[], Any], where: str, what: str) -> None:
    with pytest.raises(ContractError, match=what) as error:
        ask()
    assert error.value.where == where


PAIRS_OF = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30)
LABELS = st.lists(st.lists(st.integers(-1, 11), min_size=4, max_size=4), min_size=1, max_size=6)


def brute(pairs: set[tuple[int, int]], labels: list[list[int]], row: int, column: int) -> str:
    """What column `column` is to row `row`: p, n, or - where it does not count."""
    rows = len(labels)
    documents = [labels[place % rows][1 + place // rows] for place in range(3 * rows)]
    document, query = documents[column], labels[row][0]
    if document >= 0 and document in documents[:column]:
        return "-"
    asking = [row, *(other for other in range(rows) if query >= 0 and labels[other][0] == query)]
    positive = any(document == documents[other] if document >= 0 else column == other for other in asking)
    return "p" if positive or (query, document) in pairs else "n"


@settings(deadline=None)
@given(pairs=PAIRS_OF, labels=LABELS)
def test_what_is_relevant_in_a_batch_is_the_join_of_ids_and_judgements(
    pairs: set[tuple[int, int]], labels: list[list[int]]
) -> None:
    found = Candidates.of(len(labels), 3, torch.tensor(labels), Relevance(pairs))
    of_rows = found.of_rows(3)
    for row, (query, positive, *negatives) in enumerate(labels):
        wanted = [brute(pairs, labels, row, column) for column in range(3 * len(labels))]
        assert found.positive[row].tolist() == [kind == "p" for kind in wanted]
        assert found.negative[row].tolist() == [kind == "n" for kind in wanted]
        assert found.positive[row, found.own_column[row]]
        assert found.sisters[row].tolist() == [found.positive[row, own].item() for own in found.own_column]
        same = [own[1] for own in labels if own[0] == query >= 0] + [positive]
        known = [document >= 0 and (document in same or (query, document) in pairs) for document in negatives]
        assert of_rows[row].tolist() == [True, *known]
