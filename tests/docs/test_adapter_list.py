"""The list of adapters in the documentation is the list of adapters."""

from __future__ import annotations

import re
from pathlib import Path

from diptych.registry import Registry

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
ROW = re.compile(r"^\| \[?`(?P<name>[\w-]+)`.*?\| (?P<kind>\w+) \|.*\| `?(?P<extra>\w*)`? ?\|$", re.MULTILINE)


def test_every_adapter_is_listed_with_its_kind_and_extra() -> None:
    listed = {(m["name"], m["kind"], m["extra"]) for m in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
    ours = [spec for spec in Registry().specs() if spec.factory.startswith("diptych_adapters.")]
    assert listed == {(s.name, s.kind, s.extra.removeprefix("diptych").strip("[]")) for s in ours}
