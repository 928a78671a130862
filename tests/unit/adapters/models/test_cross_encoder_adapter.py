from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

import torch

from diptych.protocols import Reranker
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.models import ModelError

PAIRS = [
    ("audio", "play music"),
    ("audio", ""),
    ("", ""),
    ("convert audio files", "video " * 300),
    ("video " * 300, "audio"),
    ("Übersicht 漢字", "tool"),
]


@pytest.fixture(scope="module")
def reranker(tiny: Callable[[str], Path]) -> CrossEncoderReranker:
    return CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu", batch_size=2, activation="identity")


def test_scores_are_the_logits_in_the_order_of_the_pairs(
    reranker: CrossEncoderReranker, tiny: Callable[[str], Path]
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    assert isinstance(reranker, Reranker)
    assert (reranker.max_length, reranker.independent) == (64, True)
    folder = tiny("reranker")
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
    )
    with torch.inference_mode():
        tokens = [tokenizer([q], [d], truncation=True, max_length=64, return_tensors="pt") for q, d in PAIRS]
        expected = [model(**pair).logits[0, 0].item() for pair in tokens]
    scores = reranker.predict(PAIRS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(scores) > 0.1


def test_the_fingerprint_tells_what_changes_the_scores(
    reranker: CrossEncoderReranker, tiny: Callable[[str], Path]
) -> None:
    folder = str(tiny("reranker"))
    same = CrossEncoderReranker.of(model=folder, device="cpu", batch_size=1, activation="identity")
    others = [
        CrossEncoderReranker.of(model=folder, device="cpu", **{"activation": "identity", **options})
        for options in ({"activation": "sigmoid"}, {"prompt": "rank: "}, {"max_length": 32})
    ]
    assert same.fingerprint == reranker.fingerprint
    assert len({own.fingerprint.space for own in (reranker, *others)}) == 4


def test_sigmoid_maps_the_raw_scores_and_is_the_default(
    reranker: CrossEncoderReranker, tiny: Callable[[str], Path]
) -> None:
    raw = reranker.predict(PAIRS)
    for activation in ("sigmoid", None):
        mapped = CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu", activation=activation)
        np.testing.assert_allclose(mapped.predict(PAIRS), 1 / (1 + np.exp(-raw)), atol=1e-4)


def test_a_prompt_is_put_before_each_pair(reranker: CrossEncoderReranker, tiny: Callable[[str], Path]) -> None:
    prompted = CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu", activation="identity", prompt="tool ")
    expected = reranker.predict([("tool audio", "video")])
    np.testing.assert_allclose(prompted.predict([("audio", "video")]), expected, atol=1e-4)


def test_max_length_cuts_the_longer_text(tiny: Callable[[str], Path]) -> None:
    short = CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu", max_length=8, activation="identity")
    cut, exact = short.predict([("audio", "video " * 50), ("audio", "video " * 4)])
    assert cut == pytest.approx(exact, abs=1e-5)


def test_a_classifier_with_several_labels_is_refused(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"(?s)classifier, not a reranker.*got: 3 labels.*1 label"):
        CrossEncoderReranker.of(model=str(tiny("classifier")), device="cpu")


@pytest.mark.parametrize("name", ["bare", "mean", "masked"])
def test_a_model_without_a_trained_head_is_refused(tiny: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ModelError, match="not a trained CrossEncoder"):
        CrossEncoderReranker.of(model=str(tiny(name)), device="cpu")


def test_lower_precision_scores_are_float32_and_near(
    reranker: CrossEncoderReranker, tiny: Callable[[str], Path]
) -> None:
    lower = CrossEncoderReranker.of(
        model=str(tiny("reranker")), device="cpu", precision="bfloat16", activation="identity"
    )
    scores = lower.predict(PAIRS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reranker.predict(PAIRS), atol=0.2)
