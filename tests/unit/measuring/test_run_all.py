"""Running the benchmarks one after another."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

import bench_gpu
from machine import arithmetic, facts
from peers.talking import PeerError, loaded
from run_all import Step, chosen, collected, measured, parsed
from variants import MINILM

GOOD = """
import sys
from pathlib import Path
from figures import Figure, Result
Result("Toy", [Figure("speed", "a", "x", [2.0])]).write(Path(sys.argv[-1]))
"""


def step(folder: Path, body: str) -> Step:
    script = folder / "toy.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(Path(bench_gpu.__file__).parent)!r})\n{body}")
    return Step("encode", str(script))  # a name that is known, so that it is collected


def test_a_step_leaves_its_result_and_it_is_collected_over_what_was_kept_before(tmp_path: Path) -> None:
    options, kept = parsed([]), tmp_path / "performance.json"
    here = arithmetic(facts())
    before = {name: {"title": "before"} for name in (f"gpu, {here}", f"encode, {here}", "encode, another")}
    kept.write_text(json.dumps(before))
    assert measured(step(tmp_path, GOOD), tmp_path, options)
    found = collected(tmp_path, kept, options)
    titles = {name: result["title"] for name, result in found.items()}
    assert titles == {f"encode, {here}": "Toy", "encode, another": "before", f"gpu, {here}": "before"}
    assert list(found)[-1] == f"gpu, {here}"
    assert json.loads(kept.read_text()) == found


def test_a_step_that_fails_is_noted_with_its_exit_code_and_its_words_are_kept(tmp_path: Path) -> None:
    assert not measured(step(tmp_path, "print('too bad'); sys.exit(3)"), tmp_path, parsed([]))
    assert json.loads((tmp_path / "encode.json").read_text())["failed"] == 3
    assert (tmp_path / "encode.log").read_text() == "too bad\n"


def test_steps_are_picked_by_name_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    assert [one.name for one in chosen(parsed(["--only", "query,encode"]))] == ["encode", "query"]
    assert "gpu" not in [one.name for one in chosen(parsed(["--skip", "gpu"]))]
    with pytest.raises(SystemExit, match="no step 'gpus'; there are start, encode, "):
        chosen(parsed(["--only", "gpus"]))


@pytest.mark.slow
def test_a_peer_works_in_a_process_of_its_own_and_tells_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_BENCH_VENVS", str(tmp_path))
    with loaded("diptych", 1, {"ours": {}}, model=MINILM, kind="dense") as worker:
        assert worker.versions["torch"] == version("torch")  # torch itself adds how it was built
        assert worker.ask("encode", way="ours", inputs=["a", "b c"]) > 0
        assert worker.ask("populate", way="ours", texts=["about ships", "about bread"]) > 0
        assert worker.ask("query", way="ours", queries=["vessels", "loaf"], limit=1)["found"] == [[0], [1]]
        with pytest.raises(PeerError, match=r"diptych could not encode: KeyError: 'theirs'; see .*diptych\.log"):
            worker.ask("encode", way="theirs", inputs=[])
