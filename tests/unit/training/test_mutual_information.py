"""cMIM: the parts of its loss beside their formulas, and what is left of its model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.errors import ContractError
from diptych_experimental.cmim import CMIMLoss, Decoder, encoder_of, informative, log_normal, with_decoder, words_of
from given_embeddings import drawn
from tiny_encoders import features_of, tiny_encoder

TEXTS = ["word1 word2 word3", "word4", "word5 word6 word7 word8"]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return with_decoder(tiny_encoder(tmp_path / "bert", layers=1), heads=2)


@pytest.mark.parametrize("size", [2, 16, 256])
def test_the_contrastive_factor_of_equals_is_ln_2_at_any_batch_size(size: int, model: Any) -> None:
    same = drawn(1, 1, 32).expand(size, 32)
    assert CMIMLoss(model).factor(same, same).item() == pytest.approx(math.log(2), abs=1e-5)


def test_the_contrastive_factor_is_that_of_the_formula(model: Any) -> None:
    code, mean = drawn(1, 5, 32), drawn(2, 5, 32)
    cosines = torch.nn.functional.cosine_similarity(code[:, None], mean[None], dim=-1) / 0.2
    own = cosines.diagonal()
    others = torch.stack([torch.cat([cosines[i, :i], cosines[i, i + 1 :]]).exp().mean() for i in range(5)])
    wanted = -(own - (own.exp() + others).log()).mean()
    assert CMIMLoss(model, tau=0.2).factor(code, mean).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_more_copies_of_the_same_negatives_change_no_gradient(model: Any) -> None:
    """The mean over negatives: what a batch pushes away weighs the same however many there are."""
    gradients = []
    for copies in (1, 8):
        code = drawn(1, 1, 32).clone().requires_grad_(True)
        mean = torch.cat([drawn(2, 1, 32), drawn(3, 2, 32).repeat(copies, 1)])
        codes = torch.cat([code, drawn(4, 2 * copies, 32)])
        value: Any = CMIMLoss(model).factor(codes, mean) * len(mean)
        value.backward()
        assert code.grad is not None
        gradients.append(code.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_the_contrastive_factor_falls_with_its_own_likeness_and_rises_with_others(model: Any) -> None:
    loss = CMIMLoss(model, tau=0.5)
    code, mean = (drawn(seed, 4, 32).double().requires_grad_(True) for seed in (1, 2))
    assert torch.autograd.gradcheck(loss.factor, (code, mean))
    base = loss.factor(code, mean)
    assert loss.factor(mean, mean) < base
    assert loss.factor(mean.roll(1, 0), mean) > base


def test_densities_are_those_of_torch() -> None:
    value, mean, sigma = drawn(1, 4, 8), drawn(2, 4, 8), drawn(3, 4, 8).exp()
    normal: Any = torch.distributions.Normal
    wanted = normal(mean, sigma).log_prob(value).sum(-1)
    assert torch.allclose(log_normal(value, mean, sigma), wanted, atol=1e-5)


def test_the_spread_of_codes_stays_above_its_floor() -> None:
    decoder = Decoder(8, heads=2, sigma_floor=0.05)
    with torch.no_grad():
        decoder.spread.bias.fill_(-100.0)
    assert (decoder.sigma(drawn(1, 3, 8)) >= 0.05).all()
    with pytest.raises(ContractError, match="unusable decoder"):
        Decoder(8, heads=2, sigma_floor=0.0)


def test_a_word_is_read_from_the_code_and_the_words_before_it(model: Any) -> None:
    decoder, words = model[-1], words_of(model)
    features = features_of(model, *TEXTS)
    ids, mask, code = features["input_ids"], features["attention_mask"], drawn(1, 3, 32)
    states = decoder.states(code, ids, mask, words)
    changed = ids.clone()
    changed[:, 2] = 20
    found = decoder.states(code, changed, mask, words)
    assert torch.allclose(found[:, :3], states[:, :3], atol=1e-6)
    assert not torch.allclose(found[0, 3], states[0, 3], atol=1e-4)
    assert not torch.allclose(decoder.states(code + 1, ids, mask, words)[:, 0], states[:, 0], atol=1e-4)


def test_padding_changes_no_likelihood(model: Any) -> None:
    decoder, words, code = model[-1], words_of(model), drawn(1, 3, 32)
    together = features_of(model, *TEXTS)
    wanted = decoder.log_likelihood(code, together["input_ids"], together["attention_mask"], words)
    for row, text in enumerate(TEXTS):
        own = features_of(model, text)
        alone = decoder.log_likelihood(code[row : row + 1], own["input_ids"], own["attention_mask"], words)
        assert alone.item() == pytest.approx(wanted[row].item(), rel=1e-4)


def test_the_parts_add_up_to_the_formula(model: Any) -> None:
    features = features_of(model, *TEXTS)
    torch.manual_seed(3)
    found = CMIMLoss(model)([features])
    with torch.no_grad():
        mean = model({**features})["sentence_embedding"]
        sigma = model[-1].sigma(mean)
        torch.manual_seed(3)
        code = mean + sigma * torch.randn_like(mean)
        normal: Any = torch.distributions.Normal
        entropy = (normal(mean, sigma).log_prob(code) + normal(0.0, 1.0).log_prob(code)).sum(-1) / 2
        likely = model[-1].log_likelihood(code, features["input_ids"], features["attention_mask"], words_of(model))
    assert found["code"].item() == pytest.approx(-entropy.mean().item(), rel=1e-4)
    assert found["reconstruction"].item() == pytest.approx(-likely.mean().item(), rel=1e-4)
    assert set(CMIMLoss(model, mim_weight=0)([features])) == {"contrastive"}


def test_training_makes_texts_likelier(model: Any) -> None:
    features, loss = features_of(model, *TEXTS), CMIMLoss(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    torch.manual_seed(0)
    values = []
    for _ in range(30):
        parts = loss([features])
        optimizer.zero_grad()
        whole: Any = torch.stack(list(parts.values())).sum()
        whole.backward()
        optimizer.step()
        values.append(parts["reconstruction"].item())
    assert values[-1] < 0.7 * values[0]


def test_what_serves_is_the_encoder_alone(model: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from diptych_training.trained_module import saved

    wanted = torch.nn.functional.normalize(torch.as_tensor(model.encode(TEXTS)), dim=-1).numpy()
    folder = saved(encoder_of(model), tmp_path / "served")
    assert np.allclose(SentenceTransformer(str(folder), device="cpu").encode(TEXTS), wanted, atol=1e-6)
    assert not list(folder.glob("*Decoder*"))


def test_informative_embeddings_are_the_mean_of_the_decoders_states(model: Any) -> None:
    found = informative(model, TEXTS, batch_size=2)
    features = features_of(model, TEXTS[0])
    with torch.no_grad():
        code = model({**features})["sentence_embedding"]
        states = model[-1].states(code, features["input_ids"], features["attention_mask"], words_of(model))
    assert torch.allclose(found[0], states[0].mean(0), atol=1e-5)
    assert informative(model, []).shape == (0, 32)
