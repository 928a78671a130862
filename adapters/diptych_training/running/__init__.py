"""Runs a training: folder, checkpoints, evaluation, logs and model card around sentence-transformers' trainers.

Begin with `run`, which translates the recipe's options and measures, then `folder` (what a run keeps, so that it can
continue).
"""

from __future__ import annotations

from diptych_training.running.families import Family, family
from diptych_training.running.folder import RunFolder
from diptych_training.running.run import Fitted, fit

__all__ = ["Family", "Fitted", "RunFolder", "family", "fit"]
