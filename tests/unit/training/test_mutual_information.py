"""cMIM: the parts of its loss beside their formulas, and what is left of its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych_experimental.cmim import CMIMLoss, encoder_of, with_decoder, words_of
from given_embeddings import drawn
from tiny_encoders import features_of, tiny_encoder

TEXTS = ["word1 word2 word3", "word4", "word5 word6 word7 word8"]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return with_decoder(tiny_encoder(tmp_path / "bert", layers=1), heads=2)


def test_the_contrastive_factor_is_that_of_the_formula(model: Any) -> None:
    code, mean = drawn(1, 5, 32), drawn(2, 5, 32)
    cosines = torch.nn.functional.cosine_similarity(code[:, None], mean[None], dim=-1) / 0.2
    own = cosines.diagonal()
    others = torch.stack([torch.cat([cosines[i, :i], cosines[i, i + 1 :]]).exp().mean() for i in range(5)])
    wanted = -(own - (own.exp() + others).log()).mean()
    assert CMIMLoss(model, tau=0.2).factor(code, mean).item() == pytest.approx(wanted.item(), rel=1e-5)


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


def test_what_serves_is_the_encoder_alone(model: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from diptych_training.trained_module import saved

    wanted = torch.nn.functional.normalize(torch.as_tensor(model.encode(TEXTS)), dim=-1).numpy()
    folder = saved(encoder_of(model), tmp_path / "served")
    assert np.allclose(SentenceTransformer(str(folder), device="cpu").encode(TEXTS), wanted, atol=1e-6)
    assert not list(folder.glob("*Decoder*"))
