"""What a release says of itself: one version, a changelog in order, classifiers that exist."""

from __future__ import annotations

import re
import tomllib

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from ruamel.yaml import YAML
from trove_classifiers import classifiers

import diptych
from pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RELEASES = re.findall(
    r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
)


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    source = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert source == ROOT / "plugin" / "diptych" / "__init__.py"
    assert f'__version__ = "{diptych.__version__}"' in source.read_text(encoding="utf-8")
    literal = f'"{diptych.__version__}"'
    folders = [ROOT / name for name in ("plugin", "adapters", "docs")]
    modules = [path for folder in folders for path in folder.rglob("*.py") if path != source]
    assert [str(path) for path in modules if literal in path.read_text(encoding="utf-8")] == []


def test_releases_of_the_changelog_descend_to_0_1_0_and_the_package_is_newer_or_the_newest() -> None:
    versions = [Version(version) for version, _ in RELEASES]
    dates = [date for _, date in RELEASES]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)
    assert versions[-1] == Version("0.1.0")
    assert Version(diptych.__version__) >= versions[0]


def test_classifiers_exist_and_name_pythons_that_are_allowed() -> None:
    given = PROJECT["project"]["classifiers"]
    assert set(given) <= classifiers
    named = {found[1] for line in given if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))}
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    assert named
    assert named <= {f"3.{minor}" for minor in range(8, 30) if f"3.{minor}" in allowed}


def test_the_citation_names_the_release_before_this_version() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert (citation["version"], str(citation["date-released"])) == RELEASES[0]
    assert citation["license"] == PROJECT["project"]["license"]
