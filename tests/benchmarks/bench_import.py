"""What diptych adds to the import of qdrant-client: a run in a fresh process each, in turn, seconds as medians.

    python tests/benchmarks/bench_import.py [--runs 9]

Limit: `diptych.Collection` at most 0.4 s beyond qdrant-client.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

CODE = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
STATEMENTS = {
    "qdrant_client": "import qdrant_client",
    "qdrant_client, then diptych.Collection": "import qdrant_client, diptych; diptych.Collection",
    "diptych alone": "import diptych",
}
LIMIT = 0.4


def seconds(statement: str) -> float:
    """How long a fresh process takes for the statement."""
    done = subprocess.run([sys.executable, "-c", CODE.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(runs: int) -> dict[str, list[float]]:
    """Seconds of each statement, interleaved so that a drifting machine touches all alike."""
    found: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(runs):
        for name, statement in STATEMENTS.items():
            found[name].append(seconds(statement))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    found = measure(parser.parse_args().runs)
    for name, times in found.items():
        print(f"{name}: median {statistics.median(times):.3f} s, {min(times):.3f} to {max(times):.3f}")
    client, both = list(found.values())[:2]
    added = statistics.median(b - a for a, b in zip(client, both, strict=True))
    print(f"added by diptych: {added:.3f} s (limit {LIMIT})")


if __name__ == "__main__":
    main()
