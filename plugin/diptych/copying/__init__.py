"""`copy_collection`: a collection into another store, or beside itself; resumable, and verified point by point."""

from __future__ import annotations

from diptych.copying.report import CopyReport
from diptych.copying.run import copy_collection

__all__ = ["CopyReport", "copy_collection"]
