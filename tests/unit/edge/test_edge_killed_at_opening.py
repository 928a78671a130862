"""A process that is killed while it opens a store leaves one that opens: Edge changes files before we can say so."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from qdrant_client import models

from diptych_edge import EdgeClient

KILLED = """
    import os, signal, sys
    from pathlib import Path
    from diptych_edge import EdgeClient
    from diptych_edge.engine import collection

    def killed(place, *_):
        segment = next(path for path in (place / "segments").iterdir() if path.is_dir())
        (segment / "as_edge_makes_some").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    collection.begin = killed
    EdgeClient(sys.argv[1]).get_collection("c")
    """


@pytest.mark.skipif(os.name == "nt", reason="the process kills itself by a signal")
def test_a_kill_between_edges_opening_and_ours_is_no_damage(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "store") as client:
        client.create_collection("c", {"d": models.VectorParams(size=4, distance=models.Distance.DOT)})
        client.upsert("c", [models.PointStruct(id=1, vector={"d": [1.0, 0.0, 0.0, 0.0]}, payload={"text": "one"})])
    program = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "store")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == -9, done.stderr
    with EdgeClient(tmp_path / "store") as client:
        assert client.count("c").count == 1
        assert client.retrieve("c", [1])[0].payload == {"text": "one"}
