"""Moves collections: `copy_collection` to another store, `export_collection` to a file, `import_collection` from one.

Begin with `run` for copies, which makes or finds the target, and compares both sides page by page until nothing
differs. `dump` and `restore` export and import.
"""

from __future__ import annotations

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.copying.dump import export_collection
from diptych.copying.restore import ImportReport, import_collection
from diptych.copying.run import copy_collection
from diptych.copying.target_collection import CopyReport

__all__ = ["CopyReport", "ImportReport", "copy_collection", "export_collection", "import_collection"]
