"""The core works, and passes its own tests, where the folder of any one guest is gone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection
from configparser import ConfigParser
from importlib.metadata import distribution
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {path.name: path for home in ("plugin", "adapters") for path in (ROOT / home).glob("diptych*")}
GUESTS = sorted(PACKAGES.keys() - {"diptych"})
CORE_TESTS = ("core", "passages")  # folders of tests/unit; not all need the store

USE = """\
import sys
import diptych
from diptych.cli import main
from diptych.testing import fakes_plugin
from diptych.swap import ApplyOptions

gone = sys.argv[1]
registry = diptych.Registry(fakes_plugin)
text = "collection: c\\nslots:\\n  dense: {adapter: fake-dense, seed: SEED}\\n  lexical: {adapter: fake-sparse}\\n"
texts = ["the cat sleeps", "the dog barks", "the owl hunts"]
for seed in (0, 1):
    open(f"{seed}.yaml", "w").write(("store: 'memory:'\\n" + text).replace("SEED", str(seed)))
with diptych.Collection.open("0.yaml", registry=registry) as animals:
    assert animals.populate([{"id": str(n), "text": text} for n, text in enumerate(texts)]).new == 3
    assert animals.search("the owl hunts")[0].id == "2"
    assert animals.apply("1.yaml", ApplyOptions(gate=False)).outcome == "cut over"
    assert animals.search("the dog barks")[0].id == "1"
    animals.search("the dog barks")[0]._repr_html_()
    assert animals.finish().outcome == "finished"
assert gone not in {name.partition(".")[0] for name in sys.modules}
main(["--help"])
"""


def without(gone: Collection[str], folder: Path) -> dict[str, str]:
    """The environment of a Python that has all packages of diptych but these, as if they had never been installed."""
    home, only = folder / "site", folder / "only"
    info = home / "diptych-0.dist-info"
    info.mkdir(parents=True)
    for name in PACKAGES.keys() - gone:
        (home / name).symlink_to(PACKAGES[name])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diptych\nVersion: 0\n")
    kept = ConfigParser()
    kept.read_dict(
        {
            group: {entry.name: entry.value for entry in entries if entry.module.partition(".")[0] not in gone}
            for group, entries in groupby(distribution("diptych").entry_points, attrgetter("group"))
        }
    )
    with (info / "entry_points.txt").open("w") as file:
        kept.write(file)
    only.mkdir()
    (only / "sitecustomize.py").write_text(
        "import glob, sys\n"
        "others = [path for path in sys.path if not glob.glob(f'{path}/diptych*/__init__.py')]\n"
        f"sys.path[:] = [{str(home)!r}, *others]\n"
    )
    return {**os.environ, "PYTHONPATH": str(only)}


@pytest.mark.parametrize("gone", GUESTS)
def test_a_collection_is_filled_searched_and_swapped_without(gone: str, tmp_path: Path) -> None:
    done = run(["-c", USE, gone], without([gone], tmp_path), tmp_path)
    assert "Measure" in done


@pytest.mark.slow
@pytest.mark.parametrize("gone", [["diptych_edge"], [name for name in GUESTS if name != "diptych_edge"]], ids=len)
def test_the_tests_of_the_core_pass_without(gone: list[str], tmp_path: Path) -> None:
    folders = [ROOT / "tests" / "unit" / name for name in CORE_TESTS]
    tests = [path for folder in folders for path in sorted(folder.glob("test_*.py")) if not needs_a_guest(path)]
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", f"--rootdir={ROOT}"]
    told = run(["-m", "pytest", *options, *map(str, tests)], without(gone, tmp_path), ROOT)
    assert " passed" in told


def needs_a_guest(path: Path) -> bool:
    return re.search(rf"\b(from|import) ({'|'.join(GUESTS)})\b", path.read_text()) is not None


def run(words: list[str], env: dict[str, str], folder: Path) -> str:
    done = subprocess.run([sys.executable, *words], env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout
