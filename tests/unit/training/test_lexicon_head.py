"""The head that keeps no logits gives the weights and gradients of the one that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diptych_training.recipes.splade import blockwise, lexicon, max_logits
from given_embeddings import drawn
from tiny_lexicon import WORDS, tiny_masked_model

TEXTS = [WORDS[1], " ".join(WORDS[3:14]), f"{WORDS[20]} {WORDS[21]}"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks also in a small lexicon: two numbers of the module, none of its code."""
    monkeypatch.setattr("diptych_training.recipes.splade.BLOCK", 7)
    monkeypatch.setattr("diptych_training.recipes.splade.TOKENS", 12)


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return lexicon(tiny_masked_model(tmp_path / "bert")).eval()


def parts(seed: int) -> tuple[Tensor, torch.nn.Linear, Tensor]:
    """Vectors of three texts of up to five tokens, a decoder to twenty words, and which tokens are text."""
    torch.manual_seed(seed)
    decoder = torch.nn.Linear(4, 20).double()
    lengths = torch.randint(1, 6, (3,))
    mask = torch.arange(5)[None] < lengths[:, None]
    return drawn(seed, 3, 5, 4).double().requires_grad_(), decoder, mask


def dense(vectors: Tensor, decoder: torch.nn.Linear, mask: Tensor) -> Tensor:
    """As the formula has it."""
    logits: Tensor = decoder(vectors)
    return logits.masked_fill(~mask[:, :, None], -torch.inf).amax(1)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_maxima_and_gradients_are_those_of_all_logits(seed: int) -> None:
    vectors, decoder, mask = parts(seed)
    found = []
    for of in (dense, max_logits):
        asked = [vectors, decoder.weight, decoder.bias]
        value = of(vectors, decoder, mask)
        found.append((value, *torch.autograd.grad(value.relu().log1p().square().sum(), asked)))
    for theirs, ours in zip(*found, strict=True):
        assert torch.allclose(theirs, ours, atol=1e-9)


def test_under_autocast_the_maxima_are_those_that_float32_finds_among_the_rounded_logits() -> None:
    """And what follows them, bias first, is float32: nothing is rounded twice."""
    vectors, _, mask = parts(4)
    decoder = torch.nn.Linear(4, 20, bias=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = max_logits(vectors.float(), decoder, mask)
        logits = decoder(vectors.float())
    assert logits.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.equal(found, logits.float().masked_fill(~mask[:, :, None], -torch.inf).amax(1))
    decoder.bias = torch.nn.Parameter(drawn(5, 20) / 1000)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(max_logits(vectors.float(), decoder, mask), found + decoder.bias)


def gradients(model: Any) -> list[Tensor]:
    model.train()
    features = model.preprocess(TEXTS)
    model.zero_grad()
    weights = model(features)["sentence_embedding"]
    (weights @ weights.T).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_a_sparse_encoder_trains_as_it_would_without(model: Any) -> None:
    wanted = gradients(model)
    with blockwise(model) as works:
        assert works
        found = gradients(model)
    again = gradients(model)
    assert len(wanted) == len(found) > 10
    scale = max(float(theirs.abs().max()) for theirs in wanted)
    for theirs, ours, after in zip(wanted, found, again, strict=True):
        assert torch.allclose(theirs, ours, rtol=1e-4, atol=1e-6 * scale)
        assert torch.equal(theirs, after)


def test_what_is_saved_within_is_the_whole_model(model: Any, tmp_path: Path) -> None:
    wanted = model.encode(TEXTS, convert_to_sparse_tensor=False)
    with blockwise(model):
        assert torch.allclose(model.encode(TEXTS, convert_to_sparse_tensor=False), wanted, atol=1e-5)
        model.save_pretrained(str(tmp_path / "saved"))
    saved = lexicon(tmp_path / "saved").eval()
    assert torch.allclose(saved.encode(TEXTS, convert_to_sparse_tensor=False), wanted, atol=1e-6)


def test_a_model_that_does_more_after_its_decoder_is_left_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = model[0].auto_model
    own = network.forward

    def capped(*inputs: Any, **more: Any) -> Any:
        output = own(*inputs, **more)
        output.logits = 2 * (output.logits / 2).tanh()
        return output

    monkeypatch.setattr(network, "forward", capped)
    wanted = gradients(model)
    with blockwise(model) as works:
        assert not works
        found = gradients(model)
    assert all(torch.equal(theirs, ours) for theirs, ours in zip(wanted, found, strict=True))


def test_a_route_is_looked_into(model: Any, tmp_path: Path) -> None:
    routed = lexicon(tmp_path / "bert", queries="bag").eval()
    wanted = routed.encode_document(TEXTS, convert_to_sparse_tensor=False)
    with blockwise(routed) as works:
        assert works
        assert torch.allclose(routed.encode_document(TEXTS, convert_to_sparse_tensor=False), wanted, atol=1e-5)
