"""Losses for sentence-transformers' trainers; each knows which documents of a batch are relevant to which queries.

One module for each family of losses, each loss with its citation. Begin with `contrastive`, then `common.base`, which
embeds the batches for all.
"""

from diptych_training.losses.common.base import CachedLoss, OnlineDistillationLoss, RetrievalLoss
from diptych_training.losses.common.extra_negatives import Mixing, with_extra_negatives
from diptych_training.losses.contrastive import ContrastiveLoss
from diptych_training.losses.cprd import CPRDLoss
from diptych_training.losses.distillation import DualMarginMSELoss, KLDistillation
from diptych_training.losses.flops import ActiveTerms, Flops, NonNegative, SparseLoss
from diptych_training.losses.hybrid_nce import Groups, HybridNCELoss
from diptych_training.losses.listwise import ListwiseLoss, PSLLoss, SoftTopKLoss

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
