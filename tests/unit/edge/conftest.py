"""Small embedded stores, and processes that use one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import models

from diptych_edge import EdgeClient

DIM = 32
TEMPORARY = Path(tempfile.gettempdir())
EARLY = models.OptimizersConfigDiff(indexing_threshold=50)  # kB, so that small collections get an index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "edge"


@pytest.fixture
def client(folder: Path) -> Iterator[EdgeClient]:
    with EdgeClient(folder) as made:
        yield made


@pytest.fixture
def docs(client: EdgeClient) -> EdgeClient:
    """A client with a collection `docs`: 4 points; a dense, a sparse and a multi-vector, of size 4."""
    return with_docs(client)


@pytest.fixture(scope="module")
def shared_docs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeClient]:
    """The same, for all the tests of a module that change nothing."""
    with EdgeClient(tmp_path_factory.mktemp("edge")) as made:
        yield with_docs(made)


def with_docs(client: EdgeClient) -> EdgeClient:
    maxsim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        "docs",
        {
            "dense": models.VectorParams(size=4, distance=models.Distance.COSINE),
            "tokens": models.VectorParams(size=4, distance=models.Distance.COSINE, multivector_config=maxsim),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    points = [models.PointStruct(id=i, vector={"dense": [1.0, float(i), 0.0, 0.0]}, payload={}) for i in range(4)]
    client.upsert("docs", points)
    return client


@pytest.fixture
def many(client: EdgeClient) -> EdgeClient:
    """A client with a collection `many` of 2,000 points that has no index yet."""
    client.create_collection(
        "many", {"d": models.VectorParams(size=DIM, distance=models.Distance.DOT)}, optimizers_config=EARLY
    )
    vectors = np.random.default_rng(0).normal(size=(2000, DIM)).astype(np.float32)
    client.upload_collection("many", {"d": vectors}, [{"i": i} for i in range(2000)], ids=range(2000))
    return client


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process that runs code, with `folder`, `EdgeClient` and what `head` imports; killed at the end."""
    started: list[subprocess.Popen[str]] = []
    head = f"""
        import os, signal, sys, threading
        import numpy as np
        from qdrant_client import models
        from diptych_edge import EdgeClient
        folder = {str(folder)!r}
        """

    def launch(code: str) -> subprocess.Popen[str]:
        program = textwrap.dedent(head) + textwrap.dedent(code)
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def let_others_in() -> Callable[[Path], None]:
    """Opens a folder, and those that pytest made around it, to every user of the machine."""

    def open_up(folder: Path) -> None:
        for each in (folder, *folder.parents):
            if each.is_relative_to(TEMPORARY) and each != TEMPORARY:
                each.chmod(0o755)

    return open_up
