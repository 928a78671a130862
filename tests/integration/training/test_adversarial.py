"""AR2 played by tiny real models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.errors import ContractError
from diptych_experimental.ar2 import AR2, GameOptions, RoundsTraining, mine
from tiny_models import WORDS, cross_encoder, encoder

QUERIES = [f"{WORDS[n]} {WORDS[n + 1]}" for n in range(12)]
DOCUMENTS = [f"{WORDS[n % 12]} {WORDS[(n + 1) % 12 + 12 * (n // 12 % 2)]} {WORDS[20 + n % 20]}" for n in range(48)]
RELEVANT = {n: [n, n + 24] for n in range(11)} | {11: []}
GAME = GameOptions(rounds=2, ranker_steps=3, retriever_steps=3, warm_ranker_steps=3, ranker_rate=1e-3)
TRAINING = RoundsTraining(batch_size=8, learning_rate=1e-3, warmup=0)
FOUR: dict[str, Any] = {"game": GAME, "training": TRAINING, "negatives": 4}


@pytest.fixture
def played(tmp_path: Path) -> AR2:
    models = encoder(tmp_path / "retriever"), cross_encoder(tmp_path / "ranker", seed=1)
    return AR2(*models, QUERIES, DOCUMENTS, RELEVANT, **FOUR)


def weights(model: Any) -> torch.Tensor:
    return torch.cat([own.detach().flatten().clone() for own in model.parameters()])


def test_the_mined_are_the_most_similar_documents_that_are_not_judged_relevant(played: AR2) -> None:
    mined = mine(played.retriever, QUERIES, DOCUMENTS, played.relevant, 4)
    vectors = played.retriever.encode(DOCUMENTS, normalize_embeddings=True)
    for query, own in mined.items():
        scores = vectors @ played.retriever.encode(QUERIES[query], normalize_embeddings=True)
        others = sorted((n for n in range(48) if n not in RELEVANT[query]), key=lambda n: -scores[n])
        assert scores[own] == pytest.approx(scores[others[:4]], abs=1e-6)
        assert not set(own) & set(RELEVANT[query])
    assert list(mined) == list(range(11))


def test_a_copy_of_a_relevant_document_is_not_mined(played: AR2) -> None:
    copied = [*DOCUMENTS, *DOCUMENTS[:3] * 5]
    mined = mine(played.retriever, QUERIES, copied, played.relevant, 4)
    for query, own in mined.items():
        assert len(own) == 4
        assert not {copied[place] for place in own} & {copied[place] for place in RELEVANT[query]}


def test_each_side_leaves_the_other_alone_and_learns(played: AR2) -> None:
    mined = mine(played.retriever, QUERIES, DOCUMENTS, played.relevant, 4)
    before = weights(played.retriever), weights(played.ranker)
    assert played.train_ranker(mined, 3, seed=0) > 0
    middle = weights(played.retriever), weights(played.ranker)
    assert torch.equal(before[0], middle[0])
    assert not torch.equal(before[1], middle[1])
    played.train_retriever(mined, 3, seed=0)
    assert torch.equal(middle[1], weights(played.ranker))
    assert not torch.equal(middle[0], weights(played.retriever))


@pytest.mark.slow
def test_every_round_mines_anew_and_reports_what_it_saw(played: AR2) -> None:
    rounds = list(played.rounds())
    assert [one.number for one in rounds] == [1, 2]
    assert all(0 < one.hardness < 1 and 0 < one.fooled < 1 for one in rounds)
    assert rounds[0].hardness != rounds[1].hardness


@pytest.mark.slow
def test_a_state_stays_as_it_is_while_games_play_on(played: AR2) -> None:
    played.warm()
    kept = played.state()
    before = copy.deepcopy(kept)
    played.play(1)
    played.load_state(kept)
    played.play(1)
    for side in ("ranker.0", "retriever.0"):
        assert kept[side]["state"].keys() == before[side]["state"].keys()
        for parameter, state in before[side]["state"].items():
            assert torch.equal(kept[side]["state"][parameter]["exp_avg"], state["exp_avg"])


@pytest.mark.slow
def test_no_row_that_either_is_trained_on_has_a_judged_document_for_a_negative(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Rows(TrainerCallback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            for row in given["train_dataloader"].dataset:
                given_to[self.name].append((row["query"], row.get("documents") or [row[name] for name in documents]))

    documents = ["positive", *(f"negative_{n}" for n in range(1, 5))]
    given_to: dict[str, list[tuple[str, list[str]]]] = {"ranker": [], "retriever": []}
    models = encoder(tmp_path / "retriever"), cross_encoder(tmp_path / "ranker", seed=1)
    game = GAME.model_copy(update={"rounds": 1})
    list(
        AR2(
            *models, QUERIES, DOCUMENTS, RELEVANT, **{**FOUR, "game": game}, watched=lambda name, _: [Rows(name)]
        ).rounds()
    )
    judged = {QUERIES[query]: {DOCUMENTS[own] for own in places} for query, places in RELEVANT.items()}
    assert {name: len(rows) for name, rows in given_to.items()} == {"ranker": 44, "retriever": 22}
    for query, texts in [*given_to["ranker"], *given_to["retriever"]]:
        assert [text in judged[query] for text in texts] == [True, False, False, False, False]


@pytest.mark.slow
def test_the_same_seed_plays_the_same_game(tmp_path: Path) -> None:
    games = []
    for name in ("one", "other"):
        models = encoder(tmp_path / name), cross_encoder(tmp_path / f"{name}-ranker", seed=1)
        games.append(list(AR2(*models, QUERIES, DOCUMENTS, RELEVANT, **FOUR, seed=3).rounds()))
    assert games[0] == games[1]


@pytest.mark.slow
def test_rates_rise_and_fall_over_all_rounds_and_gradients_are_clipped(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Rates(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            grads = [own.grad.norm() for own in given["model"].parameters() if own.grad is not None]
            lengths.append(float(torch.stack(grads).norm()))
            seen.append(given["optimizer"].param_groups[0]["lr"])

    seen: list[float] = []
    lengths: list[float] = []
    behind: list[tuple[str, int]] = []

    def watched(name: str, steps: int) -> list[Any]:
        behind.append((name, steps))
        return [Rates()] if name == "retriever" else []

    changes = {"warmup": 0.5, "schedule": "constant", "max_grad_norm": 0.01}
    four = {**FOUR, "training": TRAINING.model_copy(update=changes)}
    models = encoder(tmp_path / "retriever"), cross_encoder(tmp_path / "ranker", seed=1)
    list(AR2(*models, QUERIES, DOCUMENTS, RELEVANT, **four, watched=watched).rounds())
    assert seen == pytest.approx([0, 1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 1e-3])
    assert max(lengths) <= 0.01 + 1e-5
    assert behind == [("ranker", 0), ("ranker", 3), ("retriever", 0), ("ranker", 6), ("retriever", 3)]


@pytest.mark.slow
def test_the_ranker_learns_to_prefer_what_is_relevant(played: AR2) -> None:
    mined = mine(played.retriever, QUERIES, DOCUMENTS, played.relevant, 4)
    before = played.preference(played.ranker, mined)
    for seed in range(12):
        played.train_ranker(mined, 1, seed=seed)
    assert played.preference(played.ranker, mined) < before


def test_too_few_documents_to_mine_from_are_refused(played: AR2) -> None:
    with pytest.raises(ContractError, match=r"too little data for AR2\n  where: AR2\n  got: 11 queries.*, 5 documents"):
        AR2(played.retriever, played.ranker, QUERIES, DOCUMENTS[:5], {n: [n % 5] for n in range(11)}, **FOUR)
    with pytest.raises(ContractError, match=r"got: 1 queries.*, 26 documents, 21 of them"):
        AR2(
            played.retriever,
            played.ranker,
            QUERIES,
            DOCUMENTS[:6] + DOCUMENTS[:1] * 20,
            {0: [0]},
            **{**FOUR, "negatives": 15},
        )
    with pytest.raises(ContractError, match=r"not there\n  where: AR2\n  got: 48\n  expected: places below 48"):
        AR2(played.retriever, played.ranker, QUERIES, DOCUMENTS, {0: [48]}, **FOUR)
    with pytest.raises(ContractError, match=r"got: 0 queries"):
        AR2(played.retriever, played.ranker, QUERIES, DOCUMENTS, {0: []}, **FOUR)
