"""The example package, installed as an outside author's would be: into a venv of its own, through its entry point."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_adapter"


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One command of that venv, without this run's pytest settings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a fresh venv that sees this one's packages and has the example installed from its wheel."""
    home = tmp_path_factory.mktemp("outside") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    paths = {"base": str(home), "platbase": str(home)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    ours = sysconfig.get_path("purelib")
    (site_packages / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    installed = run(python, "-m", "pip", "install", *options, str(EXAMPLE), cwd=home)
    assert installed.returncode == 0, installed.stderr
    return python


def test_the_example_is_built_and_installed_as_a_wheel(outside: Path, tmp_path: Path) -> None:
    code = "import diptych_example_wordhash as w; print(w.__file__)"
    assert str(outside.parents[1]) in run(outside, "-c", code, cwd=tmp_path).stdout
    assert importlib.util.find_spec("diptych_example_wordhash") is None, "this venv must not have it"


def test_its_own_conformance_tests_pass(outside: Path) -> None:
    done = run(outside, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error", cwd=EXAMPLE)
    assert done.returncode == 0, done.stdout + done.stderr
    for test in ("TestWordHash::test_contract[order]", "test_an_installed_package_brings_its_adapter"):
        assert f"{test} PASSED" in done.stdout


def test_it_is_found_through_its_entry_point_beside_the_built_in_adapters(outside: Path, tmp_path: Path) -> None:
    code = """
from diptych import Registry
registry = Registry()
print(registry.source("wordhash"), len(registry.specs()) > 1, registry.create("wordhash").encode_query([""]).shape)
"""
    done = run(outside, "-c", code, cwd=tmp_path)
    assert done.stdout == "diptych-example-wordhash:wordhash True (1, 256)\n", done.stderr


def test_diptych_adapters_lists_it(outside: Path, tmp_path: Path) -> None:
    done = run(outside, "-m", "diptych", "adapters", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {adapter["name"]: adapter["source"] for adapter in json.loads(done.stdout)["adapters"]}
    assert found["wordhash"] == "diptych-example-wordhash:wordhash"
    assert found["bm25"] == "diptych:builtin"


def test_it_is_not_known_where_it_is_not_installed(tmp_path: Path) -> None:
    code = "from diptych import Registry; print('wordhash' in {spec.name for spec in Registry().specs()})"
    assert run(Path(sys.executable), "-c", code, cwd=tmp_path).stdout == "False\n"
