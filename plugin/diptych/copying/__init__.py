"""Copies collections to another store or name: `copy_collection`.

Begin with `run`, which makes or finds the target, and compares both sides page by page until nothing differs.
"""

from __future__ import annotations

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.copying.run import copy_collection
from diptych.copying.sides import CopyReport

__all__ = ["CopyReport", "copy_collection"]
