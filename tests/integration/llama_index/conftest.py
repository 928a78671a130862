"""Collections of both stores that need no server, a small corpus of nodes, and a count of what is encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from diptych import Collection, Registry, hookimpl
from diptych.config import parse_config
from diptych.reports import PopulateReport
from diptych.testing import fakes_plugin
from named_server import STORE, placed

SLOTS = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
SECTIONS = ("sound", "graphics", "net")
Open: TypeAlias = Callable[..., Collection]


class Reports:
    """A plugin that keeps what each populate reported."""

    def __init__(self) -> None:
        self.all: list[PopulateReport] = []

    @hookimpl
    def diptych_after_populate(self, report: PopulateReport) -> None:
        self.all.append(report)

    @property
    def encoded(self) -> list[int]:
        """Vectors that each populate had its encoders make."""
        return [sum(report.encoded.values()) for report in self.all]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def registry(reports: Reports) -> Registry:
    return Registry(fakes_plugin, reports)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a config says of the store."""
    with placed(STORE, tmp_path / "qdrant", "things") as settings:
        yield settings


@pytest.fixture
def opened(place: dict[str, Any], registry: Registry) -> Iterator[Open]:
    """Opens a collection; closed in the end."""
    with ExitStack() as stack:

        def make(slots: Mapping[str, Any] = SLOTS, **sections: Any) -> Collection:
            config = {**place, "collection": "things", "slots": slots, "cache": {"enabled": False}, **sections}
            return stack.enter_context(Collection.open(parse_config(config), registry=registry))

        yield make


def corpus(size: int = 30) -> list[TextNode]:
    """Nodes with metadata of every kind, some of it missing, null or empty, split from three documents."""
    return [_node(n) for n in range(size)]


def _node(n: int) -> TextNode:
    metadata: dict[str, Any] = {
        "section": SECTIONS[n % 3],
        "title": f"Title {n % 7}",
        "year": 1990 + n,
        "rating": n / 4,
        "day": f"2024-01-{n % 28 + 1:02d}",
        "tags": [f"t{n % 4}", f"u{n % 5}"],
        "nested": {"level": n % 3},
        "note": ["", None, [], "Loud Words here"][n % 4],
    }
    if n % 6 == 5:
        metadata = {"section": metadata["section"]}
    source = RelatedNodeInfo(node_id=f"source-{n % 3}", metadata={"file": f"{n % 3}.txt"}, hash="0")
    return TextNode(
        id_=f"node-{n}",
        text=" ".join(f"word{n * k % 41}" for k in range(1, 5 + n % 4)) + f" only{n}",
        metadata=metadata,
        excluded_embed_metadata_keys=["year", "rating", "day", "tags", "nested", "note"],
        excluded_llm_metadata_keys=["rating"],
        relationships={
            NodeRelationship.SOURCE: source,
            NodeRelationship.NEXT: RelatedNodeInfo(node_id=f"node-{n + 1}"),
        },
    )


@pytest.fixture
def nodes() -> list[TextNode]:
    return corpus()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of set-aside documents are written into the working folder."""
    monkeypatch.chdir(tmp_path)
