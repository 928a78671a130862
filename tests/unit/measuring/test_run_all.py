"""Running the benchmarks one after another."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import bench_gpu
from machine import arithmetic, facts
from peers.talking import PeerError, loaded
from peers.vectors import WORDS, passages
from run_all import Step, chosen, collected, is_current, measured, parsed
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


@pytest.mark.parametrize(
    ("flags", "name"),
    [("avx2 avx512f amx_bf16", "AMX"), ("avx2 avx512f", "AVX-512"), ("avx2", "AVX2"), ("not known", "M4")],
)
def test_results_are_told_apart_by_the_widest_arithmetic(flags: str, name: str) -> None:
    assert arithmetic({"cpu": "M4", "arithmetic": flags}) == name


def test_a_step_that_fails_is_noted_with_its_exit_code_and_its_words_are_kept(tmp_path: Path) -> None:
    assert not measured(step(tmp_path, "print('too bad'); sys.exit(3)"), tmp_path, parsed([]))
    assert json.loads((tmp_path / "encode.json").read_text())["failed"] == 3
    assert (tmp_path / "encode.log").read_text() == "too bad\n"


def test_a_result_is_current_for_its_own_command_and_commit_alone(tmp_path: Path) -> None:
    file = tmp_path / "encode.json"
    assert not is_current(file, "bench.py", "abc")
    file.write_text(json.dumps({"command": "bench.py", "machine": {"commit": "abc"}}))
    assert is_current(file, "bench.py", "abc")
    assert not any(
        is_current(file, command, code)
        for command, code in [("bench.py", "abd"), ("bench.py 2", "abc"), ("bench.py", "")]
    )
    file.write_text(json.dumps({"command": "bench.py", "machine": {"commit": "abc+"}}))
    assert not is_current(file, "bench.py", "abc+")


def test_steps_are_picked_by_name_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    assert [one.name for one in chosen(parsed(["--only", "query,encode"]))] == ["encode", "query"]
    assert "gpu" not in [one.name for one in chosen(parsed(["--skip", "gpu"]))]
    with pytest.raises(SystemExit, match="no step 'gpus'; there are start, encode, "):
        chosen(parsed(["--only", "gpus"]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_gpu_benchmark_says_so_and_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_gpu.main(["--json", str(tmp_path / "gpu.json")])
    assert capsys.readouterr().out == "no CUDA device here: nothing was measured\n"
    data = json.loads((tmp_path / "gpu.json").read_text())
    assert (data["figures"], data["notes"]) == ([], ["No CUDA device here: nothing was measured."])


def test_batches_for_graphs_are_always_as_high_and_their_width_is_rounded_up() -> None:
    ids, mask = bench_gpu.filled([[7] * 33, [8] * 2], bench_gpu.STEP)
    assert ids.shape == mask.shape == (bench_gpu.ROWS, 64)
    assert mask.sum() == 33 + 2 * (bench_gpu.ROWS - 1)
    assert (ids[1:, :2] == 8).all()


def test_a_collection_that_is_too_small_is_cut_into_passages() -> None:
    folder = Path(__file__).parents[3] / "examples" / "debian"
    whole = passages([folder], 50)
    cut = passages([folder], 4_100)
    assert len(whole) == 50
    assert len(set(cut)) == len(cut) == 4_100
    assert max(len(text.split()) for text in cut) == WORDS


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


@pytest.mark.parametrize("named", ["DIPTYCH_TEST_SERVER_BINARY", "DIPTYCH_TEST_SERVER"])
def test_the_server_is_measured_whenever_one_is_named(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.delenv("DIPTYCH_TEST_SERVER_BINARY", raising=False)
    monkeypatch.delenv("DIPTYCH_TEST_SERVER", raising=False)
    assert "server" not in [step.name for step in chosen(parsed([]))]
    with pytest.raises(SystemExit, match="step 'server' needs DIPTYCH_TEST_SERVER_BINARY or DIPTYCH_TEST_SERVER"):
        chosen(parsed(["--only", "server"]))
    monkeypatch.setenv(named, "here")
    assert "server" in [step.name for step in chosen(parsed([]))]
    assert [step.name for step in chosen(parsed(["--only", "server"]))] == ["server"]
