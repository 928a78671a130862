from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych_adapters.models import ModelError
from diptych_adapters.token_vectors import LateInteractionEncoder

TEXTS = ["convert audio files", "", "漢字", "play music . " * 60]


@pytest.fixture(scope="module")
def encoder(tiny: Callable[[str], Path]) -> LateInteractionEncoder:
    return LateInteractionEncoder.of(model=str(tiny("multivector")), device="cpu", batch_size=2)


def test_a_text_of_which_no_token_is_kept_gives_one_zero_vector(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder as Library

    model = Library(str(tiny("multivector")), device="cpu")
    mask = next(module for module in model if type(module).__name__ == "MultiVectorMask")
    type(mask).__init__(mask, skiplist_words=["[CLS]", "[SEP]", "audio"])
    model.save(str(tmp_path))
    encoder = LateInteractionEncoder.of(model=str(tmp_path), device="cpu")
    [only] = encoder.encode_document(["audio"])
    np.testing.assert_array_equal(only, np.zeros((1, 128)))
    assert len(encoder.encode_document(["audio video"])[0]) == 1


def test_prompts_change_vectors_and_space(tiny: Callable[[str], Path], encoder: LateInteractionEncoder) -> None:
    prompted = LateInteractionEncoder.of(model=str(tiny("multivector")), device="cpu", query_prompt="tool ")
    np.testing.assert_allclose(prompted.encode_query(["audio"])[0], encoder.encode_query(["tool audio"])[0], atol=1e-5)
    assert prompted.fingerprint.space != encoder.fingerprint.space


@pytest.mark.parametrize("name", ["bare", "mean"])
def test_a_model_without_a_trained_projection_is_sent_to_token_vectors(tiny: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ModelError, match=r"(?s)not a trained MultiVectorEncoder.*trained_as: dense"):
        LateInteractionEncoder.of(model=str(tiny(name)))
