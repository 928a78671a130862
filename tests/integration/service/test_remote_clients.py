"""diptych's own remote adapters as clients of the service: what they give is what the encoders behind it give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diptych import Collection, Registry
from serving import ANIMALS

TEXTS = list(ANIMALS.values())
SIDES = {"query_fields": {"input_type": "query"}, "document_fields": {"input_type": "document"}}


@pytest.fixture(scope="module")
def installed() -> Registry:
    return Registry.default()


@pytest.mark.parametrize("format", [None, "float", "base64"])
def test_the_openai_adapter_gives_both_sides_of_the_slot(
    url: str, collection: Collection, installed: Registry, format: str | None
) -> None:
    options = {"base_url": f"{url}/v1", "model": "dense", "encoding_format": format, "batch_size": 2, **SIDES}
    remote: Any = installed.create("remote", {"api": "openai", **options})
    encoder = collection.encoders["dense"]
    assert remote.dimension == 64
    assert np.array_equal(remote.encode_query(TEXTS), np.stack(encoder.encode_query(TEXTS)))  # type: ignore[arg-type]
    assert np.array_equal(remote.encode_document(TEXTS), np.stack(encoder.encode_document(TEXTS)))  # type: ignore[arg-type]


def test_the_rerank_adapter_gives_the_rerankers_scores(url: str, fakes: Registry, installed: Registry) -> None:
    remote: Any = installed.create(
        "remote-reranker", {"api": "cohere", "base_url": url, "model": "fake-reranker", "batch_size": 3}
    )
    local: Any = fakes.create("fake-reranker")
    pairs = [(query, text) for query in ("the cat", "night mice") for text in TEXTS]
    assert np.allclose(remote.predict(pairs), local.predict(pairs), atol=1e-7)
