"""The contrastive family: its members are one another where their papers say so, and keep their promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from diptych.errors import ContractError
from diptych_training.losses.contrastive import ContrastiveLoss, contrastive
from diptych_training.relevance import Relevance
from given_embeddings import Given, columns, drawn

SEEDS = st.integers(0, 10_000)


def masks(rows: int, width: int, positives: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random masks with this many positives a row; one column of each row does not count."""
    order = torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order < positives, (order >= positives) & (order < width - 1)


def infonce(scores: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """By torch's own cross-entropy, one positive a row."""
    counted = scores.masked_fill(~(positive | negative), -torch.inf)
    return cross_entropy(counted, positive.int().argmax(1))


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_with_one_positive_every_reduction_is_infonce(seed: int) -> None:
    scores, (positive, negative) = drawn(seed, 6, 9), masks(6, 9, 1, seed)
    wanted = infonce(scores, positive, negative)
    for reduction in ("decoupled", "supcon", "balanced"):
        assert contrastive(scores, positive, negative, reduction=reduction).item() == pytest.approx(
            wanted.item(), abs=1e-5
        )


def test_supcon_is_its_formula() -> None:
    scores, (positive, negative) = drawn(1, 5, 8).double(), masks(5, 8, 3)
    rows = []
    for i in range(5):
        whole = scores[i][positive[i] | negative[i]].logsumexp(0)
        rows.append((whole - scores[i][positive[i]]).mean())
    found = contrastive(scores, positive, negative, reduction="supcon")
    assert found.item() == pytest.approx(torch.stack(rows).mean().item())


def test_balanced_weighs_positives_by_their_number() -> None:
    scores, (positive, negative) = drawn(2, 4, 8).double(), masks(4, 8, 3)
    rows = []
    for i in range(4):
        whole = (scores[i][negative[i]].exp().sum() + scores[i][positive[i]].exp().mean()).log()
        rows.append((whole - scores[i][positive[i]]).mean())
    found = contrastive(scores, positive, negative, reduction="balanced")
    assert found.item() == pytest.approx(torch.stack(rows).mean().item())


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_decoupled_pulls_every_positive_up_and_supcon_pushes_a_dominant_one_down(seed: int) -> None:
    scores, (positive, negative) = drawn(seed, 3, 10).double(), masks(3, 10, 4, seed)
    first = positive.int().argmax(1)
    scores[torch.arange(3), first] += 8  # far above the other positives
    for reduction, down in (("decoupled", False), ("supcon", True)):
        asked = scores.clone().requires_grad_()
        contrastive(asked, positive, negative, reduction=reduction).backward()  # type: ignore[arg-type]
        assert asked.grad is not None
        assert (asked.grad[positive] > 0).any().item() is down
        assert (asked.grad[~(positive | negative)] == 0).all()


def test_a_decoupled_term_does_not_know_the_other_positives() -> None:
    positive = torch.tensor([[True, True, False, False]])
    alone, negative = torch.tensor([[True, False, False, False]]), torch.tensor([[False, False, True, True]])
    scores = torch.tensor([[1.0, 2.0, 0.3, -0.5]])
    changed = torch.tensor([[1.0, -5.0, 0.3, -0.5]])
    term = contrastive(scores, alone, negative)
    assert torch.equal(term, contrastive(changed, alone, negative))
    assert contrastive(scores, positive, negative) != contrastive(changed, positive, negative)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_a_further_negative_never_lowers_the_sum(seed: int) -> None:
    scores, (positive, negative) = drawn(seed, 4, 9), masks(4, 9, 2, seed)
    wider = ~positive
    for reduction in ("decoupled", "supcon", "balanced"):
        less = contrastive(scores, positive, negative, reduction=reduction)
        assert contrastive(scores, positive, wider, reduction=reduction) >= less - 1e-6


def test_smoothing_is_a_cross_entropy_with_a_smoothed_target() -> None:
    scores, positive = drawn(4, 5, 6), torch.eye(5, 6, dtype=torch.bool)
    target = torch.where(positive, 0.9, 0.1 / 5)
    wanted = -(target * scores.log_softmax(1)).sum(1).mean()
    found = contrastive(scores, positive, ~positive, label_smoothing=0.1)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)


def test_rows_without_a_positive_or_a_negative_do_not_count_and_break_nothing() -> None:
    scores = drawn(5, 3, 4).requires_grad_()
    positive = torch.tensor([[True, False, False, False], [False] * 4, [True] * 4])
    negative = torch.tensor([[False, True, True, False], [True] * 4, [False] * 4])
    for reduction in ("decoupled", "supcon", "balanced"):
        loss = contrastive(scores, positive, negative, reduction=reduction)
        assert loss.item() == pytest.approx(
            contrastive(scores[:1], positive[:1], negative[:1], reduction=reduction).item()
        )
        scores.grad = None
        loss.backward()
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()
        assert (scores.grad[1:] == 0).all()


@pytest.mark.parametrize("reduction", ["decoupled", "supcon", "balanced"])
def test_gradients_are_those_of_finite_differences(reduction: Any) -> None:
    scores, (positive, negative) = drawn(6, 3, 7).double().requires_grad_(), masks(3, 7, 2)
    options = {"reduction": reduction, "label_smoothing": 0.1}
    assert torch.autograd.gradcheck(lambda s: contrastive(s, positive, negative, **options), scores)


def test_the_module_is_multiple_negatives_ranking_by_default() -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    embeddings = [drawn(seed, 6, 16) for seed in (1, 2, 3)]
    model: Any = Given()
    theirs = MultipleNegativesRankingLoss(model, scale=20.0).compute_loss_from_embeddings(embeddings, torch.empty(0))
    ours = ContrastiveLoss(Given(), tau=0.05)(columns(*embeddings))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_transposing_leaves_the_symmetric_loss_as_it_is() -> None:
    queries, documents = drawn(1, 5, 8), drawn(2, 5, 8)
    loss = ContrastiveLoss(Given(), symmetric=True)
    assert loss(columns(queries, documents)).item() == pytest.approx(loss(columns(documents, queries)).item(), abs=1e-5)
    assert loss(columns(queries, documents)).item() != pytest.approx(
        ContrastiveLoss(Given())(columns(queries, documents)).item()
    )


def test_ids_keep_a_relevant_document_of_another_row_from_being_pushed_away() -> None:
    queries, documents = drawn(1, 3, 8), drawn(2, 3, 8).requires_grad_()
    labels = torch.tensor([[0, 0], [1, 1], [2, 2]])
    blind, knowing = ContrastiveLoss(Given()), ContrastiveLoss(Given(), relevance=Relevance([(0, 1)]))
    knows = knowing(columns(queries, documents), labels)
    assert knows < blind(columns(queries, documents), labels)


def test_blocks_add_the_pairs_of_other_rows() -> None:
    queries, documents = normalize(drawn(1, 4, 8)), normalize(drawn(2, 4, 8))
    others = ~torch.eye(4, dtype=torch.bool)
    parts = [(queries @ documents.T, others), (queries @ queries.T, others), (documents @ queries.T, others)]
    scores, negative = (torch.cat(own, 1) for own in zip(*parts, strict=True))
    positive = torch.zeros_like(negative)
    positive[:, :4] = ~others
    wanted = contrastive(scores / 0.07, positive, negative)
    loss = ContrastiveLoss(Given(), tau=0.07, blocks=["qd", "qq", "dq"])
    assert loss(columns(queries, documents)).item() == pytest.approx(wanted.item(), abs=1e-4)
    endless = ContrastiveLoss(Given(), tau=0.07, blocks=["qd", "qq", "dq"], margin=math.inf)
    assert endless(columns(queries, documents)).item() == pytest.approx(wanted.item(), abs=1e-4)


BLOCKS: list[list[str]] = [["qd"], ["qd", "qq"], ["qd", "dd"], ["qd", "dq"], ["qq"], ["qd", "qq", "dd", "dq"]]


def multi_block(columns: list[Tensor], relevant: set[tuple[int, int]], blocks: list[str], margin: float) -> float:
    """Query-as-Anchor's loss pair by pair, at a temperature of 0.1; the hard negatives are of the block qd."""
    queries, own, hard = (normalize(column.double()) for column in columns)
    losses = []
    for i, query in enumerate(queries):
        bar, negatives = float(query @ own[i]) + margin, []
        for j in range(len(queries)):
            is_mine, is_its = (i, j) in relevant, (j, i) in relevant
            near = float(query @ own[j]) > bar or (blocks != ["qd"] and float(query @ queries[j]) > bar)
            if j != i and not near:
                pairs = {"qq": (query, queries[j]), "dd": (own[i], own[j]), "dq": (own[i], queries[j])}
                negatives += [a @ b for block, (a, b) in pairs.items() if block in blocks and not (is_mine or is_its)]
                negatives += [query @ own[j]] if "qd" in blocks and not is_mine else []
            negatives += [query @ hard[j]] if "qd" in blocks and float(query @ hard[j]) <= bar else []
        positives = [query @ own[j] for j in range(len(queries)) if j == i or (i, j) in relevant]
        if negatives:  # a row without any does not count
            low = (torch.stack(negatives) / 0.1).exp().sum()
            losses.append(torch.stack([(low + (s / 0.1).exp()).log() - s / 0.1 for s in positives]).mean())
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
@pytest.mark.parametrize("margin", [None, 0.1])
def test_several_blocks_have_one_mask_of_what_is_relevant_or_too_near(blocks: Any, margin: float | None) -> None:
    """Row 2's document is near query 0 and far from it the other way round; query 4 is near query 3, its document not.

    The document of row 1 is relevant to query 0, and not the other way round.
    """
    queries, documents, hard = drawn(1, 6, 8), drawn(2, 6, 8), drawn(3, 6, 8)
    documents[2], queries[4] = queries[0] + 0.1 * documents[2], queries[3] + 0.1 * queries[4]
    labels = torch.tensor([[n, n, 10 + n] for n in range(6)])
    loss = ContrastiveLoss(Given(), tau=0.1, blocks=blocks, margin=margin, relevance=Relevance([(0, 1)]))
    wanted = multi_block([queries, documents, hard], {(0, 1)}, blocks, math.inf if margin is None else margin)
    found = loss(columns(queries, documents, hard), labels).item()
    assert found == pytest.approx(wanted, rel=1e-5)


def test_documents_that_ask_leave_out_the_same_pairs_by_the_margin() -> None:
    queries, documents = drawn(1, 6, 8), drawn(2, 6, 8)
    similarity = normalize(queries) @ normalize(documents).T
    kept = similarity <= similarity.diagonal()[:, None] + 0.1
    assert (~kept).sum() > 3
    scores = (similarity / 0.05).masked_fill(~kept, -torch.inf)
    wanted = 0.0
    for way in (scores, scores.T):
        counted = (~way.isinf()).sum(1) > 1  # what has a negative left
        wanted += cross_entropy(way[counted], torch.arange(6)[counted]).item() / 2
    loss = ContrastiveLoss(Given(), symmetric=True, margin=0.1)
    assert loss(columns(queries, documents)).item() == pytest.approx(wanted, rel=1e-5)


def test_a_planted_duplicate_of_the_positive_is_not_pushed_away() -> None:
    query, positive, other = drawn(1, 1, 8), drawn(2, 1, 8), drawn(3, 1, 8)
    duplicate = (0.99 * positive).requires_grad_()
    ContrastiveLoss(Given(), margin=-0.001)(columns(query, positive, duplicate, other)).backward()
    assert duplicate.grad is not None
    assert (duplicate.grad == 0).all()
    ContrastiveLoss(Given())(columns(query, positive, duplicate, other)).backward()
    assert (duplicate.grad != 0).any()


def test_a_learned_temperature_has_a_gradient_and_a_limit() -> None:
    loss = ContrastiveLoss(Given(), tau=1.0, learn_tau=True)
    loss(columns(drawn(1, 4, 8), drawn(2, 4, 8))).backward()
    assert loss.log_scale.grad is not None
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    assert loss.scale.item() == 100.0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tau": 0}, "tau"),
        ({"reduction": "sum"}, "reduction"),
        ({"label_smoothing": 1.0}, "smoothing"),
        ({"blocks": ["xy"]}, "blocks"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError, match=f"unusable .*{text}"):
        ContrastiveLoss(Given(), **options)


def test_the_model_card_gets_every_option() -> None:
    card = ContrastiveLoss(Given(), tau=0.1, margin=0.2).get_config_dict()
    assert card["tau"] == pytest.approx(0.1)
    assert card["margin"] == 0.2


def test_the_best_temperature_of_separable_pairs_is_finite_with_smoothing_alone() -> None:
    similarity = torch.eye(6).double() * 0.6 + 0.2  # every positive is above every negative
    positive, scales = torch.eye(6) > 0, torch.arange(1.0, 201.0).double()

    def best(smoothing: float) -> float:
        losses = [float(contrastive(similarity * s, positive, ~positive, label_smoothing=smoothing)) for s in scales]
        return float(scales[torch.tensor(losses).argmin()])

    assert 2 < best(0.1) < 20
    assert float(contrastive(similarity * 100, positive, ~positive)) < float(
        contrastive(similarity * 20, positive, ~positive)
    )
    learned = {smoothing: trained_scale(smoothing) for smoothing in (0.0, 0.1)}
    assert learned[0.1] == pytest.approx(best(0.1), abs=0.6)
    assert learned[0.0] > 2 * learned[0.1]


def trained_scale(smoothing: float) -> float:
    """1 / tau after many steps on separable pairs, of which nothing else is trained."""
    queries, documents = torch.eye(6), torch.eye(6) * 0.6 + 0.2
    loss = ContrastiveLoss(Given(), tau=1.0, learn_tau=True, label_smoothing=smoothing, similarity="dot")
    adam = torch.optim.Adam([loss.log_scale], lr=0.05)
    for _ in range(400):
        adam.zero_grad()
        loss(columns(queries, documents)).backward()
        adam.step()
    return loss.scale.item()


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_without_a_limit_a_margin_leaves_out_nothing_and_a_lower_one_never_less(seed: int) -> None:
    queries, documents = drawn(seed, 6, 8), drawn(seed + 1, 6, 8)
    plain = ContrastiveLoss(Given())(columns(queries, documents)).item()
    losses = [ContrastiveLoss(Given(), margin=m)(columns(queries, documents)).item() for m in (math.inf, 0.5, 0.1, 0.0)]
    assert losses[0] == pytest.approx(plain)
    assert losses == sorted(losses, reverse=True)
