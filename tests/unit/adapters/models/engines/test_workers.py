"""Several processes: the same answers in the same order, errors as they are, and a process that dies is begun again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych import Registry
from diptych.errors import AdapterFactoryError, DiptychError
from diptych.protocols import DenseEncoder, Reranker
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.engines.workers import Spread, Worker, shares
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

TEXTS = [f"{'music ' * (n % 9)}audio files {n}" for n in range(150)]


@pytest.fixture
def alone(tiny: Callable[[str], Path]) -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu")


@pytest.fixture(scope="module", params=[{"processes": 2}, {"device": ["cpu", "cpu"]}], ids=["processes", "devices"])
def several(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Iterator[Any]:
    made: Any = Registry.default().create("sentence-transformers", {"model": str(tiny("mean")), **request.param})
    yield made
    made.close()


@pytest.mark.slow
def test_processes_share_documents_out_and_give_the_same_vectors_in_order(
    several: Any, alone: SentenceTransformerEncoder
) -> None:
    assert isinstance(several, Spread)
    assert isinstance(several, DenseEncoder)
    assert several.fingerprint == alone.fingerprint
    np.testing.assert_allclose(several.encode_document(TEXTS), alone.encode_document(TEXTS), atol=1e-5)
    np.testing.assert_allclose(several.encode_query(TEXTS[:3]), alone.encode_query(TEXTS[:3]), atol=1e-5)


@pytest.mark.slow
def test_processes_stay_between_calls_and_one_that_is_killed_is_begun_again(
    several: Any, alone: SentenceTransformerEncoder
) -> None:
    several.encode_document(TEXTS)
    before = [worker._process.pid for worker in several._workers]
    several.encode_document(TEXTS)
    assert [worker._process.pid for worker in several._workers] == before
    os.kill(before[0], signal.SIGKILL)
    np.testing.assert_allclose(several.encode_document(TEXTS), alone.encode_document(TEXTS), atol=1e-5)
    assert several._workers[0]._process.pid != before[0]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_processes_that_share_the_cpu_keep_to_cores_of_their_own(several: Any) -> None:
    several.encode_document(TEXTS)
    bound = [sorted(os.sched_getaffinity(worker._process.pid)) for worker in several._workers]
    assert bound == (list(map(sorted, shares(2))) if len(bound) == 2 else [sorted(os.sched_getaffinity(0))])


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_cores_are_shared_out_each_once_and_processes_beyond_them_share() -> None:
    cores = sorted(os.sched_getaffinity(0))
    for processes in range(1, 2 * len(cores) + 1):
        found = shares(processes)
        assert len(found) == processes
        assert {core for own in found for core in own} == {*cores}
        assert processes > len(cores) or sum(map(len, found)) == len(cores)


def test_an_error_of_a_worker_arrives_as_it_is(tmp_path: Path) -> None:
    worker = Worker(
        "diptych_adapters.sentence_transformers:SentenceTransformerEncoder", {"model": str(tmp_path / "none")}, [0]
    )
    with pytest.raises(DiptychError, match="there is no such model folder"):
        worker.call("encode_document", ["a"])
    worker.close()


@pytest.mark.slow
def test_a_worker_that_cannot_live_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying.py").write_text("import os\nclass Dying:\n    of = staticmethod(lambda: os._exit(3))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    worker = Worker("dying:Dying", {}, None)
    with pytest.raises(AdapterFactoryError, match=r"(?s)a worker process ended.*exit status 3"):
        worker.call("encode_document", ["a"])


@pytest.mark.slow
def test_a_worker_that_dies_twice_is_an_error_and_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mortal.py").write_text(
        "import os\nclass Mortal:\n    of = classmethod(lambda cls: cls())\n"
        "    def encode_document(self, texts):\n        texts == ['poison'] and os._exit(3)\n        return texts\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    worker = Worker("mortal:Mortal", {}, None)
    with pytest.raises(AdapterFactoryError, match=r"(?s)a worker process ended.*exit status 3"):
        worker.call("encode_document", ["poison"])
    assert worker.call("encode_document", ["a"]) == ["a"]
    worker.close()


@pytest.mark.slow
def test_a_script_without_a_main_guard_may_use_several_processes(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        "from diptych_adapters.sentence_transformers import SentenceTransformerEncoder\n"
        f"made = SentenceTransformerEncoder.of(model={str(tiny('mean'))!r}, device='cpu', processes=2)\n"
        "print(made.encode_document(['audio files'] * 40).shape)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "(40, 16)"), done.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"processes": 2, "device": ["cpu", "cpu"]}, "processes go with one device"),
        ({"backend": "openvino", "device": ["cpu", "cpu"]}, "several devices go with backend: torch"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", **options)


@pytest.mark.slow
def test_a_reranker_in_several_processes_is_a_reranker_by_attributes_of_its_own(tiny: Callable[[str], Path]) -> None:
    made: Any = CrossEncoderReranker.of(model=str(tiny("reranker")), processes=2)
    assert {"predict", "max_length", "independent"} <= vars(made).keys()
    is_one: bool = isinstance(made, Reranker)
    assert is_one
    alone = CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu")
    pairs = [("audio", text) for text in TEXTS]
    np.testing.assert_allclose(made.predict(pairs), alone.predict(pairs), atol=1e-5)
    made.close()


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_leaves_the_processes_to_the_one_that_began_them(several: Any) -> None:
    several.encode_document(TEXTS)
    before = [worker._process.pid for worker in several._workers]
    for pid in before:
        os.kill(pid, signal.SIGINT)
    several.encode_document(TEXTS)
    assert [worker._process.pid for worker in several._workers] == before
