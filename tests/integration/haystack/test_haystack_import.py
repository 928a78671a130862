"""What is imported with the bridge, and what is said without Haystack."""

from __future__ import annotations

import subprocess
import sys

import pytest


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("diptych, diptych_adapters.hooks; diptych.Registry().specs()", "haystack"),
        ("diptych_adapters.haystack", "haystack_integrations.document_stores.qdrant"),
    ],
)
def test_importing_one_leaves_the_other_alone(imported: str, absent: str) -> None:
    done = python(f"import sys; import {imported}; sys.exit({absent!r} in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_without_haystack_the_extra_is_named() -> None:
    done = python("import sys; sys.modules['haystack'] = None; import diptych_adapters.haystack")
    assert "needs haystack-ai" in done.stderr
    assert "do: pip install 'diptych[haystack]'" in done.stderr
