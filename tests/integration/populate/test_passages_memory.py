"""A document of 100 MB is cut, encoded and stored in memory that is a multiple of its text, or rejected by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Document, Registry
from diptych.config import parse_config
from diptych.testing import fakes_plugin

PROGRAM = Path(__file__).parents[2] / "benchmarks/bench_long_document.py"


def filled(*options: object) -> dict[str, Any]:
    """What the program says that populates in a process of its own."""
    command = [sys.executable, str(PROGRAM), *map(str, options)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(answer)
    return found


@pytest.mark.long
def test_a_document_of_100_megabytes_is_stored_whole_within_a_multiple_of_its_text() -> None:
    found = filled()
    assert (found["new"], found["whole"], found["rejected"]) == (2, True, [])
    assert found["vectors"] > 100_000
    assert found["times"] < 25  # what a tokenizer says of all of it at once takes 42


def test_a_document_of_too_many_passages_is_rejected_by_name_with_both_numbers() -> None:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 2**13, "passages": {"tokens": 16, "overlap": 0}}}
    config = parse_config({"store": "memory:", "collection": "c", "slots": slots})
    text = "One two three four five six seven eight. " * 300
    with Collection.open(config, registry=Registry(fakes_plugin)) as collection:
        report = collection.populate([Document("a", "one"), Document("long", text), Document("b", "two")])
        assert (report.new, [example.id for example in report.examples]) == (2, ["long"])
        assert "too many passages for one point (got 150 passages) (expected at most 127)" in report.examples[0].reason
        assert {document.id for document in collection.documents()} == {"a", "b"}
