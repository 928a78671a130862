"""Pairs of models and settings of equal dimension: every change is seen, and what only adds noise raises no alarm.

The pairs and the figures they give stand in tests/benchmarks/compare_fingerprints.py.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
pytest.importorskip("fastembed", reason="needs diptych[fastembed]")

from diptych.errors import FingerprintMismatch
from diptych.slots import guard

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "compare_fingerprints.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_fingerprints", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SCRIPTED: Any = _script()
CHANGED = {name: pair for name, pair in SCRIPTED.PAIRS.items() if pair.seen == "both"}
ALIKE = {name: pair for name, pair in SCRIPTED.PAIRS.items() if pair.seen == "fingerprint"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return SCRIPTED.Bench(tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_a_change_is_seen_by_the_fingerprint_and_by_canaries_alone(name: str, bench: Any) -> None:
    found = bench.compare(CHANGED[name].then, CHANGED[name].now)
    with pytest.raises(FingerprintMismatch, match="another encoder made the vectors") as caught:
        guard.check(None, found.now, found.generation, where="slot 'x'")
    assert found.now.space in str(caught.value)
    assert found.then.space in str(caught.value)
    forged = found.generation.model_copy(update={"space": found.now.space})
    with pytest.raises(FingerprintMismatch, match=r"no longer makes the vectors it made \(canary cosine"):
        guard.require_alike(found.likeness, found.now, forged, where="slot 'x'")


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIKE)
def test_weights_that_hardly_moved_are_seen_by_the_fingerprint_alone(name: str, bench: Any) -> None:
    found = bench.compare(ALIKE[name].then, ALIKE[name].now)
    with pytest.raises(FingerprintMismatch, match="another encoder made the vectors"):
        guard.check(None, found.now, found.generation, where="slot 'x'")
    assert found.limit <= found.likeness.lowest < 0.99999


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTED.NOISE)
def test_what_only_adds_noise_raises_no_alarm(name: str, bench: Any) -> None:
    then, now = SCRIPTED.NOISE[name]
    found = bench.compare(then, now)
    assert found.now.space == found.then.space
    guard.require_alike(found.likeness, found.now, found.generation, where="slot 'x'")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTED.TOO_COARSE)
def test_a_precision_as_coarse_as_another_prompt_is_refused(name: str, bench: Any) -> None:
    then, now = SCRIPTED.TOO_COARSE[name]
    found = bench.compare(then, now)
    with pytest.raises(FingerprintMismatch, match=r"below 0\.95"):
        guard.require_alike(found.likeness, found.now, found.generation, where="slot 'x'")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a query prompt", "queries alone"),
        ("a document prompt", "documents alone"),
        ("length: 512 for 256 tokens", "only in texts of"),
        ("one layer removed", r"queries and documents \(below"),
    ],
)
def test_the_error_says_which_texts_moved(name: str, words: str, bench: Any) -> None:
    found = bench.compare(SCRIPTED.PAIRS[name].then, SCRIPTED.PAIRS[name].now)
    forged = found.generation.model_copy(update={"space": found.now.space})
    with pytest.raises(FingerprintMismatch, match=f"changed: .*{words}"):
        guard.require_alike(found.likeness, found.now, forged, where="slot 'x'")


@pytest.mark.slow
def test_a_query_prompt_leaves_the_documents_of_the_fingerprint_and_a_document_prompt_does_not(bench: Any) -> None:
    asked, told = (
        bench.compare(pair.then, pair.now) for pair in (CHANGED["a query prompt"], CHANGED["a document prompt"])
    )
    assert asked.now.documents == asked.then.documents != ""
    assert asked.likeness.of("document") > 0.99999
    assert told.now.documents != told.then.documents
