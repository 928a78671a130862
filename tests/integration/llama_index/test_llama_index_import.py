"""Nothing of LlamaIndex is loaded unless it is asked for, and where it is missing the error says what to install."""

from __future__ import annotations

import subprocess
import sys


def said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_neither_diptych_nor_the_list_of_adapters_loads_llama_index() -> None:
    code = "import sys, diptych; from diptych import Collection; diptych.Registry().specs(); print(*sys.modules)"
    assert not any(name.startswith("llama_index") for name in said(code).split())


def test_without_llama_index_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['llama_index'] = None\n"
        "from diptych.errors import MissingExtra\n"
        "try:\n    import diptych_adapters.llama_index\n"
        "except MissingExtra as error:\n    print(error)"
    )
    assert "pip install 'diptych[llama-index]'" in said(code)


def test_the_bridge_loads_no_torch() -> None:
    assert "torch" not in said("import sys, diptych_adapters.llama_index; print(*sys.modules)").split()
