"""Lexicons to train keep what an inverted index needs of them: weights of at least 0 that pads do not change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sparse_encoder.losses import FlopsLoss

from diptych.errors import ContractError
from diptych_adapters.sparse_encoders import LearnedSparseEncoder, SpladeEncoder
from diptych_training.recipes.splade import Flops, flops, inverse_frequencies, lexicon, static_weights
from diptych_training.running.families import routes_of
from given_embeddings import Given, drawn
from tiny_lexicon import WORDS, tiny_masked_model

TEXT = st.lists(st.sampled_from(WORDS), min_size=0, max_size=25).map(" ".join)
LONG = " ".join(WORDS[:25])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_masked_model(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="module", params=["encoder", "bag", "static"])
def model(request: pytest.FixtureRequest, folder: Path) -> Any:
    return lexicon(folder, queries=request.param).eval()


def rows(model: Any, side: str, texts: list[str]) -> Any:
    return getattr(model, f"encode_{side}")(texts, convert_to_sparse_tensor=False)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT)
def test_weights_are_at_least_zero_and_pads_change_nothing(model: Any, text: str) -> None:
    for side in ("query", "document"):
        alone, beside = rows(model, side, [text])[0], rows(model, side, [text, LONG])[0]
        assert (alone >= 0).all()
        assert torch.allclose(alone, beside, atol=1e-5)


def test_the_query_of_a_bag_is_its_tokens_without_special_ones(folder: Path) -> None:
    model = lexicon(folder, queries="bag")
    (row,) = rows(model, "query", [f"{WORDS[3]} {WORDS[7]} {WORDS[3]} unheard"])
    tokens = model.tokenizer.convert_ids_to_tokens(row.nonzero()[:, 0].tolist())
    assert sorted(tokens) == sorted([WORDS[3], WORDS[7]])
    assert set(row[row > 0].tolist()) == {1.0}
    assert not static_weights(model)


def test_static_queries_start_from_inverse_document_frequencies(folder: Path) -> None:
    tokenizer = lexicon(folder).tokenizer
    texts = [f"{WORDS[0]} {WORDS[1]} {WORDS[1]}", WORDS[0], f"{WORDS[0]} {WORDS[2]}"]
    idf = inverse_frequencies(texts, tokenizer)
    model = lexicon(folder, queries="static", idf=idf)
    (row,) = rows(model, "query", [f"{WORDS[0]} {WORDS[1]}"])
    found = [float(row[tokenizer.convert_tokens_to_ids(word)]) for word in WORDS[:2]]
    assert found == pytest.approx([math.log(1 + 0.5 / 3.5), math.log(1 + 2.5 / 1.5)], abs=1e-6)
    assert len(static_weights(model)) == 1


@pytest.mark.parametrize("queries", ["encoder", "bag", "static"])
@pytest.mark.parametrize("normalize", [False, True])
def test_what_is_saved_is_served_by_the_adapters_as_it_was_trained(
    queries: Any, normalize: bool, folder: Path, tmp_path: Path
) -> None:
    model = lexicon(folder, queries=queries).eval()
    if normalize:  # as LexLIP's lexicons are, which earlier versions trained
        model = SparseEncoder(modules=[*model.children(), Normalize()], similarity_fn_name="dot", device="cpu").eval()
    model.save_pretrained(str(tmp_path))
    served: Any = (SpladeEncoder if queries == "encoder" else LearnedSparseEncoder).of(
        model=str(tmp_path), device="cpu"
    )
    for side in ("query", "document"):
        wanted = rows(model, side, [LONG, WORDS[5]])
        for row, vector in zip(wanted, getattr(served, f"encode_{side}")([LONG, WORDS[5]]), strict=True):
            found = torch.zeros(65)
            found[torch.tensor(vector.indices.astype("int64"))] = torch.tensor(vector.values)
            assert torch.allclose(found, row, atol=1e-4)


def test_a_saved_lexicon_is_trained_further_on_its_routes(folder: Path, tmp_path: Path) -> None:
    lexicon(folder, queries="bag").save_pretrained(str(tmp_path))
    again = lexicon(tmp_path, queries="bag")
    assert routes_of(again, ["query", "positive", "label"]) == {"query": "query", "positive": "document"}
    assert routes_of(lexicon(folder), ["query"]) == {}


def test_a_model_without_a_masked_language_model_is_refused(folder: Path, tmp_path: Path) -> None:
    from transformers import BertModel

    tiny_masked_model(tmp_path)
    BertModel.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(ContractError, match="no masked-language-model head"):
        lexicon(tmp_path)


def weights(seed: int, rows: int = 5, words: int = 12) -> torch.Tensor:
    """Term weights, about half of them 0."""
    return drawn(seed, rows, words).relu()


def test_it_is_that_of_sentence_transformers() -> None:
    model: Any = Given()
    wanted = FlopsLoss(model).compute_loss_from_embeddings(weights(3))
    assert flops(weights(3)).item() == pytest.approx(wanted.item())
    assert Flops().compute_loss_from_embeddings(weights(3)).item() == pytest.approx(wanted.item())


def test_terms_are_counted_between_two_looks() -> None:
    penalty = Flops()
    penalty.compute_loss_from_embeddings(torch.tensor([[1.0, 0, 2.0], [0, 0, 1.0]]))
    penalty.compute_loss_from_embeddings(torch.tensor([[1.0, 1.0, 1.0]]).to_sparse())
    assert penalty.pop_mean() == pytest.approx(2.0)
    assert penalty.pop_mean() is None
