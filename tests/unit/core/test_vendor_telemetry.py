"""`import diptych` changes nothing in the process; `quiet` and what loads libraries that report switch reports off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from diptych.runtime import vendor_telemetry

QUIET = "import diptych; diptych.quiet()"
WAYS = [
    QUIET,
    f"{QUIET}; diptych.quiet()",
    "import diptych_adapters",
    "import diptych_training",
    "from diptych.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass",
]


def run(program: str, **variables: str) -> Any:
    """What a fresh Python prints as JSON; nothing of the switches is in its environment but `variables`."""
    switches = {vendor_telemetry.SWITCH, *vendor_telemetry.VARIABLES}
    kept = {name: value for name, value in os.environ.items() if name not in switches}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False, env=kept | variables
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def settings(imports: str = QUIET, **variables: str) -> dict[str, str]:
    """The switches that the program and those that it starts have after `imports`."""
    program = f"{imports}\nimport json, os; print(json.dumps({{n: os.environ.get(n) for n in {names()} }}))"
    found: dict[str, str] = run(program, **variables)
    return found


def names() -> list[str]:
    return list(vendor_telemetry.VARIABLES)


@pytest.mark.parametrize("imports", ["import diptych", "import diptych; diptych.Collection"])
def test_importing_diptych_changes_nothing_in_the_process(imports: str) -> None:
    """But for the modules that it needs: of these, none stands in for another."""
    program = f"""
import json, os, signal, sys, warnings
state = lambda: [list(map(repr, sys.meta_path)), list(map(repr, sys.path_hooks)), dict(os.environ), sys.path[:],
    [name for name, module in sys.modules.items() if module is None], repr(signal.getsignal(signal.SIGINT)),
    repr(sys.excepthook)]
import numpy
before = state()
{imports}
print(json.dumps([before, state()]))
"""
    before, after = run(program)
    assert after == before


@pytest.mark.parametrize("imports", WAYS)
def test_reports_are_switched_off_by_a_call_the_command_and_the_packages_that_load_such_libraries(imports: str) -> None:
    assert settings(imports) == vendor_telemetry.VARIABLES


def test_opening_a_store_imports_no_library_that_reports() -> None:
    program = """
import json, os, sys
from diptych.stores import open_store
open_store("memory:")
libraries = {"onnxruntime", "openvino", "haystack", "ray", "huggingface_hub", "transformers"}
print(json.dumps([sorted(libraries & sys.modules.keys()), "ORT_DISABLE_TELEMETRY" in os.environ]))
"""
    assert run(program) == [[], False]


def test_a_variable_that_the_user_has_set_is_left_as_it_is() -> None:
    assert settings(ORT_DISABLE_TELEMETRY="0")["ORT_DISABLE_TELEMETRY"] == "0"


def test_the_switch_leaves_every_library_as_its_maker_ships_it() -> None:
    assert set(settings(DIPTYCH_VENDOR_TELEMETRY="on").values()) == {None}


def test_openvino_runs_without_its_reporter() -> None:
    pytest.importorskip("openvino")
    program = """
import json, diptych_adapters, openvino
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
diptych.quiet()
from haystack.telemetry import _telemetry
print(json.dumps(_telemetry.telemetry is not None))
"""
    assert run(program, **variables) is reports


def test_nothing_that_reports_is_imported_with_diptych_itself() -> None:
    """Else a switch would come after the library that reads it."""
    program = "import diptych, json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    libraries = {"qdrant_client", "onnxruntime", "openvino", "haystack", "ray", "huggingface_hub", "transformers"}
    assert not libraries & set(run(program))
