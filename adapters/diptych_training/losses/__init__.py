"""Losses for sentence-transformers' trainers; each knows which documents of a batch are relevant to which queries.

One module for each family of losses, each loss with its citation. Begin with `contrastive`, then `common.base`, which
embeds the batches for all.
"""

from diptych_training.losses.base import CachedLoss, OnlineDistillationLoss, RetrievalLoss
from diptych_training.losses.contrastive import ContrastiveLoss, Groups, HybridNCELoss
from diptych_training.losses.distillation import CPRDLoss, DualMarginMSELoss, KLDistillation
from diptych_training.losses.extra_negatives import Mixing, with_extra_negatives
from diptych_training.losses.listwise import ListwiseLoss, PSLLoss, SoftTopKLoss
from diptych_training.models.lexicon import ActiveTerms, Flops, NonNegative, SparseLoss

__all__ = [
    "ActiveTerms",
    "CPRDLoss",
    "CachedLoss",
    "ContrastiveLoss",
    "DualMarginMSELoss",
    "Flops",
    "Groups",
    "HybridNCELoss",
    "KLDistillation",
    "ListwiseLoss",
    "Mixing",
    "NonNegative",
    "OnlineDistillationLoss",
    "PSLLoss",
    "RetrievalLoss",
    "SoftTopKLoss",
    "SparseLoss",
    "with_extra_negatives",
]
