"""Usage reports of libraries are switched off when diptych is imported, unless the user decided otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from diptych.runtime import vendor_telemetry

ROOTS = ("diptych", "diptych_adapters", "diptych_training")


def run(program: str, **variables: str) -> Any:
    """What a fresh Python prints as JSON; nothing of the switches is in its environment but `variables`."""
    switches = {vendor_telemetry.SWITCH, *vendor_telemetry.VARIABLES}
    kept = {name: value for name, value in os.environ.items() if name not in switches}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False, env=kept | variables
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def settings(imports: str = "import diptych", **variables: str) -> dict[str, str]:
    """The switches that the program and those that it starts have after `imports`."""
    program = f"{imports}\nimport json, os; print(json.dumps({{n: os.environ.get(n) for n in {names()} }}))"
    found: dict[str, str] = run(program, **variables)
    return found


def names() -> list[str]:
    return list(vendor_telemetry.VARIABLES)


@pytest.mark.parametrize("package", ROOTS)
def test_every_package_of_diptych_switches_them_off_when_it_is_imported(package: str) -> None:
    assert settings(f"import {package}") == vendor_telemetry.VARIABLES


def test_a_variable_that_the_user_has_set_is_left_as_it_is() -> None:
    assert settings(ORT_DISABLE_TELEMETRY="0")["ORT_DISABLE_TELEMETRY"] == "0"


def test_the_switch_leaves_every_library_as_its_maker_ships_it() -> None:
    assert set(settings(DIPTYCH_VENDOR_TELEMETRY="on").values()) == {None}


def test_openvino_runs_without_its_reporter() -> None:
    pytest.importorskip("openvino")
    program = """
import json, diptych, openvino
from openvino.tools.ovc import telemetry_utils
print(json.dumps([telemetry_utils.tm.__name__, openvino.Core().available_devices]))
"""
    reporter, devices = run(program)
    assert reporter == "openvino.tools.ovc.telemetry_stub"
    assert "CPU" in devices


@pytest.mark.slow
@pytest.mark.parametrize(("variables", "reports"), [({}, False), ({"HAYSTACK_TELEMETRY_ENABLED": "True"}, True)])
def test_a_haystack_that_was_imported_before_stops_unless_the_user_wants_it(
    variables: dict[str, str], reports: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    pytest.importorskip("haystack")
    monkeypatch.setenv("HOME", str(tmp_path))
    program = """
import haystack, diptych, json
from haystack.telemetry import _telemetry
print(json.dumps(_telemetry.telemetry is not None))
"""
    assert run(program, **variables) is reports


def test_nothing_that_reports_is_imported_with_diptych_itself() -> None:
    """Else a switch would come after the library that reads it."""
    program = "import diptych, json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    libraries = {"qdrant_client", "onnxruntime", "openvino", "haystack", "ray", "huggingface_hub", "transformers"}
    assert not libraries & set(run(program))
