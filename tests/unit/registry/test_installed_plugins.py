"""Plugins of installed distributions, crafted as pip leaves them: a module and a dist-info folder on sys.path."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych import Registry
from diptych.errors import DuplicateAdapter, HookError

GOOD = """
import diptych
@diptych.hookimpl
def diptych_register_adapters():
    return [diptych.AdapterSpec(name={name!r}, kind="dense", factory="diptych.testing:FakeDenseEncoder", summary="")]
"""


class SitePackages:
    """A folder on sys.path into which distributions can be put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, distribution: str, module: str, source: str, entry: str = "plugin") -> None:
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[diptych]\n{entry} = {module}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SitePackages:
    monkeypatch.syspath_prepend(tmp_path)
    return SitePackages(tmp_path)


def test_an_installed_plugin_is_found_under_the_name_of_its_distribution(site: SitePackages) -> None:
    site.add("toy-plugin", "toy_plugin_found", GOOD.format(name="toy"))
    registry = Registry()
    assert registry.source("toy") == "toy-plugin:plugin"
    assert registry.source("bm25") == "diptych:builtin"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: invalid syntax"),
    ],
)
def test_a_plugin_that_cannot_be_imported_names_its_distribution(site: SitePackages, source: str, text: str) -> None:
    module = f"toy_plugin_broken_{abs(hash(source))}"
    site.add("toy-broken", module, source)
    with pytest.raises(HookError, match="an installed plugin cannot be imported") as caught:
        Registry()
    assert caught.value.where == f"toy-broken:plugin ({module})"
    assert caught.value.got.startswith(text)
    assert caught.value.do == "fix it or uninstall its package"


def test_a_distribution_that_takes_a_built_in_name_is_named_beside_ours(site: SitePackages) -> None:
    site.add("toy-bm25", "toy_plugin_bm25", GOOD.format(name="bm25"))
    with pytest.raises(DuplicateAdapter, match="'bm25'\n  where: diptych:builtin and toy-bm25:plugin\n  do: rename"):
        Registry()
