"""qdrant-client runs FastEmbed's models when it is asked to, and imports FastEmbed only then."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

LOADED = "sorted({'fastembed', 'onnxruntime'} & sys.modules.keys())"


def run(program: str, *arguments: str) -> Any:
    """What a fresh Python prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("fastembed")


def test_a_store_is_opened_without_importing_fastembed() -> None:
    program = f"""
import json, sys
from diptych.stores import open_store
from qdrant_client import AsyncQdrantClient, QdrantClient, models
open_store("memory:"), QdrantClient(":memory:"), AsyncQdrantClient(":memory:")
print(json.dumps({LOADED}))
"""
    assert run(program) == []


@pytest.mark.slow
def test_qdrant_client_encodes_a_document_with_fastembed_as_it_does_without_diptych(paraphrase: dict[str, Any]) -> None:
    program = """
import json, sys
if sys.argv[2] == "with": import diptych.stores
from fastembed.common.model_description import ModelSource, PoolingType
from qdrant_client import QdrantClient, models
client = QdrantClient(":memory:")
client.create_collection("c", vectors_config=models.VectorParams(size=384, distance=models.Distance.COSINE))
from fastembed import TextEmbedding
TextEmbedding.add_custom_model(model="own", pooling=PoolingType.DISABLED, normalization=True,
    sources=ModelSource(hf="own"), dim=384, model_file="model.onnx", output_name="461")
document = lambda text: models.Document(text=text, model="own", options={"specific_model_path": sys.argv[1]})
client.upsert("c", [models.PointStruct(id=n, vector=document(text)) for n, text in enumerate(["a cat", "a car"])])
hits = client.query_points("c", query=document("kitten")).points
print(json.dumps([[hit.id, round(hit.score, 5)] for hit in hits]))
"""
    own, plain = (run(program, paraphrase["model"], how) for how in ("with", "without"))
    assert own == plain
    assert [point for point, _ in own] == [0, 1]


def test_a_fastembed_that_is_imported_already_is_used_as_it_is() -> None:
    program = """
import json, fastembed, diptych.stores
from qdrant_client import fastembed_common
print(json.dumps(fastembed_common.TextEmbedding is fastembed.TextEmbedding))
"""
    assert run(program) is True


def test_names_and_dimensions_of_fastembeds_models_are_told() -> None:
    program = f"""
import diptych.stores, json, os, sys
from qdrant_client import QdrantClient
client = QdrantClient(":memory:")
before = {LOADED}
print(json.dumps([before, client.get_embedding_size("BAAI/bge-small-en-v1.5"), {LOADED}]))
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
    assert run(program) == [[], 384, ["fastembed", "onnxruntime"]]


def test_a_program_without_fastembed_is_told_to_install_it() -> None:
    program = """
import json, sys
sys.modules["fastembed"] = None
import diptych.stores
from qdrant_client import QdrantClient, models
client = QdrantClient(":memory:")
client.create_collection("c", vectors_config=models.VectorParams(size=384, distance=models.Distance.COSINE))
try:
    client.query_points("c", query=models.Document(text="kitten", model="BAAI/bge-small-en-v1.5"))
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert "fastembed is not installed" in run(program)
