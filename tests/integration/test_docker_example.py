"""examples/docker without a daemon: the compose file, the image's recipe and the config say what this code knows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from diptych.cli import app
from diptych.config import load_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "docker"


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def is_understood(words: list[str]) -> bool:
    """Whether the command line has this command with these options; raises what it would say of others."""
    group: Any = get_command(app)
    name, *options = words
    command = group.commands[name]
    return command.make_context(name, list(options), resilient_parsing=False) is not None


def test_the_commands_of_both_files_are_understood(compose: dict[str, Any]) -> None:
    assert is_understood(compose["services"]["diptych"]["command"])
    last = (FOLDER / "Dockerfile").read_text().splitlines()[-1]
    assert is_understood(re.findall(r'"([^"]+)"', last))


def test_the_image_installs_extras_that_there_are_and_copies_what_there_is() -> None:
    recipe = (FOLDER / "Dockerfile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = re.search(r"'\.\[([a-z,-]+)\]'", recipe)
    assert wanted
    assert set(wanted[1].split(",")) <= set(extras)
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text()
    for line in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists()
            assert f"!{name}\n" in allowed


def test_the_image_copies_all_that_the_wheel_is_built_of() -> None:
    recipe = (FOLDER / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE) for name in line.split()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = [*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "LICENSE"]
    missing = [name for name in wanted if not any(name == own or name.startswith(f"{own}/") for own in copied)]
    assert missing == []


def test_the_service_is_reached_at_the_port_that_it_listens_on_and_has_time_to_end(compose: dict[str, Any]) -> None:
    own = compose["services"]["diptych"]
    port = own["command"][own["command"].index("--port") + 1]
    assert own["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/readyz" in (FOLDER / "Dockerfile").read_text()
    grace = int(own["command"][own["command"].index("--grace") + 1])
    assert int(own["stop_grace_period"].removesuffix("s")) > grace + 2
    context, recipe = own["build"]["context"], own["build"]["dockerfile"]
    assert (FOLDER / context / recipe).resolve() == FOLDER / "Dockerfile"


def test_no_key_is_written_down_and_volumes_are_declared(compose: dict[str, Any]) -> None:
    for own in compose["services"].values():
        for name, value in own["environment"].items():
            assert "KEY" not in name or re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value)
        named = [text.partition(":")[0] for text in own["volumes"] if not text.startswith(".")]
        assert set(named) <= set(compose["volumes"])


def test_the_config_is_read(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "k")
    config = load_config(FOLDER / "diptych.yaml")
    assert config.urls[0].partition("://")[2].partition(":")[0] in compose["services"]
    assert set(config.slots) == {"dense", "lexical"}
