"""Losses for sentence-transformers' trainers; each knows which documents of a batch are relevant to which queries.

One module for each family of losses, each loss with its citation. Begin with `contrastive`, then `base`, which embeds
the batches for all.
"""

from diptych_training.losses.base import CachedLoss, RetrievalLoss
from diptych_training.losses.contrastive import ContrastiveLoss, HybridNCELoss
from diptych_training.losses.distillation import CPRDLoss, KLDistillation, StudentLoss

__all__ = [
    "CPRDLoss",
    "CachedLoss",
    "ContrastiveLoss",
    "HybridNCELoss",
    "KLDistillation",
    "RetrievalLoss",
    "StudentLoss",
]
