"""`diptych demo` needs no checkout: the data comes with the wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import diptych_adapters.hooks
from diptych import Registry
from diptych.cli import app
from diptych.cli.init import FILES
from diptych.cli.run_command import Session

ROOT = Path(__file__).parents[3]


def test_the_demo_fills_asks_and_measures_and_costs_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = Session(Registry(diptych_adapters.hooks, installed=False))
    first = CliRunner().invoke(app, ["demo"], obj=session)
    assert first.exit_code == 0, first.stderr
    assert "2,000 read: 2,000 new" in first.stdout
    assert "Perl Audio Converter" in first.stdout
    assert "300 queries, each with a judged answer: nDCG@10 0.8" in first.stdout
    assert "licences of the packages" in (tmp_path / "diptych-demo" / "README.md").read_text()
    again = CliRunner().invoke(app, ["demo"], obj=session)
    assert "2,000 unchanged" in again.stdout
    told = json.loads(CliRunner().invoke(app, ["demo", "--json"], obj=session).stdout)
    assert told["populate"]["unchanged"] == 2000
    assert told["answers"]["convert audio files between formats"][0]["id"]
    assert told["measures"]["nDCG@10"] > 0.7
    other = CliRunner().invoke(app, ["demo", "--dense"], obj=session)
    assert (other.exit_code, "the folder has another config" in other.stderr) == (1, True)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    answer = CliRunner().invoke(app, ["demo", str(tmp_path)], obj=Session(Registry(installed=False)))
    assert (answer.exit_code, "the folder holds something else" in answer.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_wheel_has_the_data_and_studios_page_and_stays_small(tmp_path: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", tmp_path, ROOT], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {f"diptych/demo_data/{name}" for name in FILES} <= names
        assert {f"diptych_serve/studio/{name}" for name in ("guide.html", "page/index.html", "page/studio.js")} <= names
        assert not [name for name in names if "studio_page" in name or "node_modules" in name]
        assert sum(archive.getinfo(f"diptych/demo_data/{name}").compress_size for name in FILES) < 400_000
