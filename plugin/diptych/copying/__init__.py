"""Collections elsewhere: `copy_collection` into another store, `export_collection` into a file, `import_collection`."""

from __future__ import annotations

from diptych.copying.dump import export_collection
from diptych.copying.report import CopyReport
from diptych.copying.restore import ImportReport, import_collection
from diptych.copying.run import copy_collection

__all__ = ["CopyReport", "ImportReport", "copy_collection", "export_collection", "import_collection"]
