"""What a command imports: a search by a converted model neither torch nor the libraries that bring it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("torch", "sentence_transformers", "transformers", "sklearn", "scipy", "pandas", "datasets", "fastembed")
HOST = ("diptych.swap", "diptych.adopt", "diptych.evaluate", "diptych_lab.tune", "diptych.copying")
RUN = """
import json, sys
from diptych.cli import main
code = 0
try:
    main(sys.argv[2:])
except SystemExit as end:
    code = end.code or 0
names = {*sys.modules, *(name.split(".")[0] for name in sys.modules)}
print(json.dumps([code, sorted(names & {*sys.argv[1].split(",")})]), file=sys.stderr)
"""


def imported(folder: Path, *words: str) -> list[str]:
    """Which of the packages a command imports that ends well."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "DIPTYCH_CACHE": str(folder / "vectors")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, ",".join((*HEAVY, *HOST)), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return list(names)


def collection(folder: Path, **options: Any) -> None:
    slots = {
        "lexical": {"adapter": "bm25", "language": "english"},
        "dense": {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2", **options},
    }
    (folder / "diptych.yaml").write_text(json.dumps({"store": "edge:./store", "collection": "c", "slots": slots}))
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "convert audio files"}\n')
    imported(folder, "populate", "corpus.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_a_search_by_a_converted_model_imports_neither_torch_nor_transformers(tmp_path: Path, backend: str) -> None:
    for package in ("sentence_transformers", "openvino", "onnxruntime"):
        pytest.importorskip(package)
    collection(tmp_path, backend=backend)
    assert imported(tmp_path, "search", "audio") == []
    assert imported(tmp_path, "search", "audio", "--only", "dense") == []


@pytest.mark.slow(first=True)
def test_a_search_by_torch_imports_no_library_of_models_once_it_is_known(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    collection(tmp_path, backend="torch", device="cpu")
    imported(tmp_path, "search", "audio")
    assert imported(tmp_path, "search", "audio") == ["torch"]


@pytest.mark.slow
def test_a_lexical_search_imports_no_model_library_whatever_the_config_names(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    collection(tmp_path)
    assert imported(tmp_path, "search", "audio", "--only", "lexical") == []


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["adapters"], ["train", "--list"]])
def test_commands_that_open_nothing_import_not_even_the_client(words: list[str], tmp_path: Path) -> None:
    code = RUN.replace('{*sys.argv[1].split(",")}', "{*sys.argv[1].split(\",\"), 'qdrant_client'}")
    done = subprocess.run([sys.executable, "-c", code, ",".join(HEAVY), *words], capture_output=True, text=True)
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]
