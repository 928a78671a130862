"""A model that was run before runs again without its library, and every change is noticed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
pytest.importorskip("openvino", reason="needs diptych[openvino]")

from diptych.runtime import passed_checks
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.model_options import SentenceTransformersOptions
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.pipeline import state_of
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from diptych_adapters.sparse_encoders import SpladeEncoder
from diptych_adapters.token_vectors import TokenVectorEncoder

TEXTS = ["convert audio files", "", "Übersicht 漢字", "play music", "video tool " * 90, "sound"]
PAIRS = [("audio", "play music"), ("", ""), ("convert audio files", "video " * 300), ("video " * 300, "audio")]
BACKENDS = ["openvino", "onnx", "torch"]


@pytest.fixture(autouse=True)
def _memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(passed_checks.VARIABLE)
    monkeypatch.setattr(passed_checks, "SETTLED", 10**8)  # so that models need not rest for 2 s


@pytest.fixture
def settled(tiny: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a tiny model, long enough ago for its files to be told from later ones."""

    def copied(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(tiny(name), folder)
        settle()
        return folder

    return copied


def settle() -> None:
    time.sleep(passed_checks.SETTLED / 1e9 + 0.05)


def by_library_and_without(kind: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, Any]:
    """An encoder whose model was loaded by its library, and one that was not; the converted model of both is read."""
    for _ in range(2 if options["backend"] == "torch" else 1):  # torch's operators are listed at the second time
        kind.of(**options)  # the model that is converted now may differ from the same one read back by a last digit
    with monkeypatch.context() as patched:
        patched.setenv(passed_checks.VARIABLE, "off")
        by_library = kind.of(**options)
    without = kind.of(**options)
    assert loaded(by_library)
    assert not loaded(without)
    return by_library, without


def loaded(encoder: Any) -> bool:
    return encoder._model is not None


KINDS: list[tuple[Any, str, list[dict[str, Any]]]] = [
    (SentenceTransformerEncoder, "mean", [{}]),
    (SentenceTransformerEncoder, "cls", [{"truncate_dim": 5, "normalize": True}]),
    (SentenceTransformerEncoder, "prompted", [{}]),
    (TokenVectorEncoder, "mean", [{"special_tokens": True}, {"special_tokens": False}]),
    (SpladeEncoder, "masked", [{}, {"max_active_dims": 5, "pooling": "sum"}]),
    (CrossEncoderReranker, "reranker", [{"activation": own} for own in (None, "sigmoid", "identity")]),
]
FACTS = ("fingerprint", "dimension", "similarity", "normalized", "asymmetric", "max_length", "numerics")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("kind", "name", "options"), [(*row, own) for *row, several in KINDS for own in several])
def test_a_model_gives_the_very_same_without_its_library(
    settled: Callable[[str], Path],
    kind: Any,
    name: str,
    options: dict[str, Any],
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnxruntime")
    wanted = {"model": str(settled(name)), "backend": backend, **options}
    first, second = by_library_and_without(kind, monkeypatch, **wanted)
    if kind is CrossEncoderReranker:
        np.testing.assert_array_equal(first.predict(PAIRS), second.predict(PAIRS))
        exact = CrossEncoderReranker.of(**{**wanted, "backend": "torch"}).predict(PAIRS)
        np.testing.assert_allclose(second.predict(PAIRS), exact, rtol=1e-4, atol=1e-5)
    else:
        for side in ("encode_query", "encode_document"):
            for one, other in zip(getattr(first, side)(TEXTS), getattr(second, side)(TEXTS), strict=True):
                assert one == other if kind is SpladeEncoder else np.array_equal(one, other)
    assert [getattr(first, fact, "") for fact in FACTS] == [getattr(second, fact, "") for fact in FACTS]
    assert second.identity
    assert not loaded(second)
    if kind is SpladeEncoder:
        (vector,) = second.encode_query(["convert audio"])
        assert second.decode(vector) == first.decode(vector)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", None])
@pytest.mark.parametrize("kind", ["ModernBert", "Bert", "DistilBert", "MPNet", "XLMRoberta"])
def test_torch_runs_the_operators_of_many_architectures_exactly_as_their_library(
    tiny: Callable[[str], Path], tmp_path: Path, kind: str, precision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = architecture(kind, tmp_path / kind, tiny("bare"))
    settle()
    wanted = {"model": str(folder), "backend": "torch", "precision": precision, "device": "cpu"}
    first, second = by_library_and_without(SentenceTransformerEncoder, monkeypatch, **wanted)
    for texts in (TEXTS, TEXTS[:1], ["a"], ["a " * 60, "b"]):
        np.testing.assert_array_equal(first.encode_document(texts), second.encode_document(texts))
    assert first.fingerprint == second.fingerprint
    (program,) = (tmp_path / "cache" / "diptych" / "torch").glob("*/program.json")
    kept = sum(file.stat().st_size for file in program.parent.glob("*.safetensors"))
    if precision is None:  # weights are read from the model's own file
        assert kept < (folder / "model.safetensors").stat().st_size / 2


@pytest.mark.slow
def test_a_damaged_list_of_operators_is_made_again(settled: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = {"model": str(settled("mean")), "backend": "torch", "device": "cpu"}
    first, _, third = (SentenceTransformerEncoder.of(**wanted) for _ in range(3))
    assert not loaded(third)
    (program,) = (tmp_path / "cache" / "diptych" / "torch").glob("*/program.json")
    for damage in (b"", b"{}", program.read_bytes().replace(b"aten.linear.default", b"aten.nothing.default")):
        program.write_bytes(damage)
        again = SentenceTransformerEncoder.of(**wanted)
        assert loaded(again)
        np.testing.assert_array_equal(again.encode_document(TEXTS), first.encode_document(TEXTS))
        assert not loaded(SentenceTransformerEncoder.of(**wanted))


def test_a_list_of_operators_that_cannot_be_kept_is_tried_once(settled: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = {"model": str(settled("mean")), "backend": "torch", "device": "cpu"}
    first = SentenceTransformerEncoder.of(**wanted)
    (tmp_path / "cache" / "diptych" / "torch").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="is not kept"):
        SentenceTransformerEncoder.of(**wanted)
    again = SentenceTransformerEncoder.of(**wanted)
    assert loaded(again)
    np.testing.assert_array_equal(again.encode_document(TEXTS), first.encode_document(TEXTS))


def test_threads_use_a_list_of_operators_at_once(settled: Callable[[str], Path]) -> None:
    wanted = {"model": str(settled("mean")), "backend": "torch", "device": "cpu"}
    *_, made = (SentenceTransformerEncoder.of(**wanted) for _ in range(3))
    assert not loaded(made)
    alone = [made.encode_document([text]) for text in TEXTS]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            together = [*pool.map(lambda text: made.encode_document([text]), TEXTS)]
            for one, other in zip(alone, together, strict=True):
                np.testing.assert_array_equal(one, other)


def architecture(kind: str, path: Path, tokenizer: Path) -> Path:
    """A tiny pipeline of one of transformers' architectures, with weights drawn at random."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(3)
    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "DistilBert":
        sizes = {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32}
    config = getattr(transformers, f"{kind}Config")(vocab_size=64, pad_token_id=0, **sizes)
    body = path.with_name("body")
    getattr(transformers, f"{kind}Model")(config).eval().save_pretrained(body)
    for file in tokenizer.glob("*token*.json"):
        shutil.copy(file, body)
    module = Transformer(str(body), max_seq_length=40)
    SentenceTransformer(modules=[module, Pooling(16, "mean")], device="cpu").save(str(path))
    return path


@pytest.mark.slow
def test_int8_is_measured_once_for_a_model(settled: Callable[[str], Path]) -> None:
    wanted = {"model": str(settled("mean")), "backend": "openvino", "precision": "int8"}
    first, second = (SentenceTransformerEncoder.of(**wanted) for _ in range(2))
    assert (loaded(first), loaded(second)) == (True, False)
    assert first.numerics == second.numerics == "openvino int8 cpu"
    np.testing.assert_allclose(first.encode_document(TEXTS), second.encode_document(TEXTS), atol=1e-6)
    assert (first.fingerprint, first.identity) == (second.fingerprint, second.identity)
    assert not hasattr(first, "look_at")  # nothing depends on the collection


def test_auto_takes_again_what_it_took(settled: Callable[[str], Path]) -> None:
    wanted = {"model": str(settled("mean")), "backend": "auto", "device": "cpu"}
    first, second = (SentenceTransformerEncoder.of(**wanted) for _ in range(2))
    assert first.numerics == second.numerics
    assert loaded(second) == first.numerics.startswith("torch")
    np.testing.assert_allclose(first.encode_document(TEXTS), second.encode_document(TEXTS), atol=1e-6)


def test_the_librarys_model_is_loaded_when_it_is_asked_for(settled: Callable[[str], Path]) -> None:
    wanted = {"model": str(settled("mean")), "backend": "openvino"}
    first, second = (SentenceTransformerEncoder.of(**wanted) for _ in range(2))
    vectors, second.runner = first.encode_document(TEXTS), None
    np.testing.assert_allclose(second.encode_document(TEXTS), vectors, atol=1e-4)
    assert loaded(second)


def test_a_converted_model_that_is_gone_is_made_again(settled: Callable[[str], Path], tmp_path: Path) -> None:
    wanted = {"model": str(settled("mean")), "backend": "openvino"}
    first = SentenceTransformerEncoder.of(**wanted)
    shutil.rmtree(tmp_path / "cache" / "diptych" / "openvino")
    second = SentenceTransformerEncoder.of(**wanted)
    assert loaded(second)
    np.testing.assert_allclose(first.encode_document(TEXTS), second.encode_document(TEXTS), atol=1e-6)
    assert not loaded(SentenceTransformerEncoder.of(**wanted))


def test_options_have_memories_of_their_own(settled: Callable[[str], Path]) -> None:
    folder = settled("mean")
    SentenceTransformerEncoder.of(model=str(folder), backend="openvino")
    for options in ({"max_length": 8}, {"truncate_dim": 4}, {"query_prompt": "x: "}, {"precision": "bfloat16"}):
        assert loaded(SentenceTransformerEncoder.of(model=str(folder), backend="openvino", **options)), options


def changes(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each way to change a model's folder: of each file a byte, its end, and it being gone; and files that come."""
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name, content = file.relative_to(folder), file.read_bytes()
        yield f"{name}: one byte", lambda f=file, c=content: quietly(f, bytes([c[0] ^ 1]) + c[1:])  # type: ignore[misc]
        yield f"{name}: longer", lambda f=file, c=content: f.write_bytes(c + b" ")  # type: ignore[misc]
        yield f"{name}: gone", lambda f=file: f.unlink()  # type: ignore[misc]
    yield "a file more", lambda: (folder / "added_tokens.json").write_text("{}")
    yield "a module more", lambda: (folder / "1_Pooling" / "more.json").write_text("{}")
    yield "code", lambda: (folder / "modeling.py").write_text("")


def quietly(file: Path, content: bytes) -> None:
    """Write as many bytes as there were, and put the time of modification back."""
    status = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_every_change_of_a_models_folder_is_noticed(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passed_checks, "SETTLED", 0)
    folder = tmp_path / "model"
    options = SentenceTransformersOptions(model=str(folder), backend="openvino")
    names = [name for name, _ in changes(tiny("prompted"))]
    assert len(names) > 20
    unnoticed = []
    for number, name in enumerate(names):
        shutil.copytree(tiny("prompted"), folder)
        before = state_of(resolve(str(folder)), options)
        time.sleep(0.02)  # several ticks of the clock that stamps files
        [*changes(folder)][number][1]()
        try:
            after = state_of(resolve(str(folder)), options)
        except ValueError:  # a file that is no longer JSON
            after = None
        if before is None or after == before:
            unnoticed.append(name)
        shutil.rmtree(folder)
    assert unnoticed == []


def test_a_changed_model_is_loaded_anew_and_has_another_fingerprint(settled: Callable[[str], Path]) -> None:
    folder = settled("mean")
    wanted = {"model": str(folder), "backend": "openvino"}
    first = SentenceTransformerEncoder.of(**wanted)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x10
    quietly(weights, bytes(content))
    settle()
    second = SentenceTransformerEncoder.of(**wanted)
    assert loaded(second)
    assert first.fingerprint.space != second.fingerprint.space
