"""All benchmarks, one after another, into docs/research/performance.json and performance.md: what `make bench` runs.

    python tests/benchmarks/run_all.py                          what this commit has not measured yet
    python tests/benchmarks/run_all.py --only encode,populate   these, whether measured or not
    python tests/benchmarks/run_all.py --million                the growth to 1,000,000 points too
    python tests/benchmarks/run_all.py --quick                  a try with few documents; leaves docs/ alone
    python tests/benchmarks/run_all.py --render                 writes the page again from its JSON

Every step is a process of its own and writes `build/bench/STEP.json` (its form: figures.py). A run that was cut off
goes on with the steps that have no such file of this command and commit; with code that is not committed it measures
all. So does `--again`. A step that fails does not end the run, and is named in the report. Run it on a machine that
does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import arithmetic, commit, facts
from peers.venvs import ROOT
from reporting import write_page

HERE = Path(__file__).parent
DOCS, RESULTS = ROOT / "docs" / "research", ROOT / "build" / "bench"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One script with its arguments; `quick` are added for a try, `million` for the longest growth.

    It runs only where one of the environment variables `needs` is set; without any, always.
    """

    name: str
    command: str
    quick: str = ""
    million: str = ""
    needs: tuple[str, ...] = ()

    def words(self, options: argparse.Namespace) -> list[str]:
        more = (self.quick if options.quick else "", self.million if options.million else "")
        return shlex.split(" ".join([self.command, *more]))


FEW = "--documents 40 --rounds 2"
STEPS = (
    Step("start", "bench_start.py --rounds 5", "--documents 40 --rounds 2"),
    Step("encode", "bench_peers.py encode --documents 200 --rounds 5", FEW),
    Step("queries-alone", "bench_encode.py --documents 100 --rounds 3", FEW),
    Step("profile", "bench_profile.py --documents 200 --rounds 5", FEW),
    Step("quality", "bench_encode.py --quality cranfield,med,cisi,scifact --ways openvino-int8", "--quality cranfield"),
    Step("populate", "bench_peers.py populate --documents 400 --rounds 3", FEW),
    Step("media", "bench_media.py --rounds 3", "--documents 40 --rounds 1", needs=("DIPTYCH_DATA",)),
    Step("query", "bench_peers.py query --points 1400 --queries 35 --rounds 5", "--points 100 --queries 5 --rounds 2"),
    Step(
        "query-large",
        "bench_peers.py query --points 100000 --corpus debian-synopsis --queries 30 --rounds 3",
        "--points 1000 --queries 5 --rounds 2",
    ),
    Step(
        "concurrency",
        "bench_query.py --points 1400 --rounds 5",
        "--points 200 --rounds 1",
    ),
    Step(
        "two-lines",
        "bench_two_lines.py --documents 200 --queries 30 --rounds 3",
        "--documents 20 --queries 5 --rounds 1",
    ),
    Step("sparse", "bench_peers.py sparse --documents 60 --rounds 3", FEW),
    Step("pairs", "bench_peers.py pairs --documents 200 --rounds 3", FEW),
    Step("overhead", "bench_search_overhead.py --points 100000", "--points 2000 --queries 200"),
    Step("fusion", "bench_fusion.py --queries 300 --rounds 5", "--queries 5 --rounds 1"),
    Step(
        "service",
        "bench_service.py --points 20000 --queries 500 --rounds 5",
        "--points 200 --queries 20 --rounds 1",
    ),
    Step("edge", "bench_edge.py --points 100000", "--points 2000 --queries 200"),
    Step(
        "share",
        "bench_populate.py --rounds 3",
        "--documents 40 --rounds 1",
    ),
    Step(
        "growth",
        "bench_growth.py --sizes 1000,10000,100000 --rounds 3",
        "--sizes 1000,3000 --rounds 1",
        "--sizes 1000,10000,100000,1000000 --quantization",
    ),
    Step(
        "server",
        "bench_server.py --documents 20000 --rounds 3 --searched 60000 --longest 900",
        "--documents 1000 --rounds 1 --searched 2000 --quiet 2 --points 500",
        needs=("DIPTYCH_TEST_SERVER_BINARY", "DIPTYCH_TEST_SERVER"),
    ),
    Step("gpu", "bench_gpu.py --documents 5000 --rounds 5", FEW),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all that was to be measured is."""
    options = parsed(arguments)
    results, docs = (RESULTS / "quick", RESULTS / "quick") if options.quick else (RESULTS, DOCS)
    results.mkdir(parents=True, exist_ok=True)
    failed = [] if options.render else [step.name for step in chosen(options) if not measured(step, results, options)]
    found = collected(results, docs / "performance.json", options)
    write_page(found, docs)
    print(f"\nThe report is in {docs / 'performance.md'}")
    if failed:
        print(f"Failed: {', '.join(failed)}; their words are in {results}/*.log")
    return 1 if failed else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"steps with commas, of {', '.join(step.name for step in STEPS)}")
    parser.add_argument("--skip", default="", help="steps to leave out")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--million", action="store_true", default=bool(os.environ.get("DIPTYCH_BENCH_MILLION")))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Step]:
    """The steps to run.

    Raises:
        SystemExit: naming one that is not there, or what a step lacks that was asked for.
    """
    only, skip = ([name for name in names.split(",") if name] for names in (options.only, options.skip))
    known = [step.name for step in STEPS]
    if unknown := [name for name in only + skip if name not in known]:
        raise SystemExit(f"no step {unknown[0]!r}; there are {', '.join(known)}")
    wanted = [step for step in STEPS if step.name in (only or known) and step.name not in skip]
    lacking = [step for step in wanted if step.needs and not any(map(os.environ.get, step.needs))]
    if only and lacking:
        raise SystemExit(f"step {lacking[0].name!r} needs {' or '.join(lacking[0].needs)}")
    return [step for step in wanted if step not in lacking]


def measured(step: Step, results: Path, options: argparse.Namespace) -> bool:
    """Whether the step's result is there, after running it when it was not."""
    words, file = step.words(options), results / f"{step.name}.json"
    if not (options.again or options.only) and is_current(file, shlex.join(words), commit()):
        print(f"== {step.name}: measured already")
        return True
    print(f"\n== {step.name}: {' '.join(words)}", flush=True)
    begin = time.monotonic()
    code = _run([sys.executable, str(HERE / words[0]), *words[1:], "--json", str(file)], file.with_suffix(".log"))
    print(f"== {step.name}: {'done' if code == 0 else f'FAILED, exit code {code}'} in {time.monotonic() - begin:.0f} s")
    if code != 0:
        file.write_text(json.dumps({FAILED: code, "command": shlex.join(words), "commit": commit()}), encoding="utf-8")
    return code == 0


def is_current(file: Path, command: str, code: str) -> bool:
    """Whether this file tells what the command gives on this code, which must be a commit as it is."""
    if not file.exists() or not code or code.endswith("+"):
        return False
    data = json.loads(file.read_text(encoding="utf-8"))
    return FAILED not in data and (data["command"], data["machine"]["commit"]) == (command, code)


def _run(command: Sequence[str], log: Path) -> int:
    """The exit code; what it says goes to the terminal and the log as it comes."""
    roots = [str(ROOT / "plugin"), str(ROOT / "adapters"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots)), "PYTHONUNBUFFERED": "1"}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            print(line, end="", flush=True)
    return process.returncode


def collected(results: Path, kept: Path, options: argparse.Namespace) -> Mapping[str, Any]:
    """All results, the new ones over those of the same step and arithmetic that were kept before; written to `kept`."""
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for step in [] if options.render else STEPS:
        file = results / f"{step.name}.json"
        if file.exists():
            data = json.loads(file.read_text(encoding="utf-8"))
            found[f"{step.name}, {arithmetic(data.get('machine') or facts())}"] = data
    order = [step.name for step in STEPS]
    found = {key: found[key] for key in sorted(found, key=lambda key: (order.index(key.partition(", ")[0]), key))}
    if found:
        kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    sys.exit(main())
