"""Runs trainings: folders, checkpoints, evaluation, logs and cards around sentence-transformers' trainers."""

from __future__ import annotations

from diptych_training.running.families import Family, family
from diptych_training.running.folder import RunFolder
from diptych_training.running.run import Fitted, fit

__all__ = ["Family", "Fitted", "RunFolder", "family", "fit"]
