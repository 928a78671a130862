"""Relevance judgements: what to judge next, without showing which pipeline found it, until a comparison is settled.

Begin with `judging`, which also decides when to stop. `judgements` stores grades with judge and time, and
`agreement` compares judges, of which one may be a model.
"""

from __future__ import annotations

from diptych_lab.judge.agreement import Kappa, ModelJudge, SecondJudging, agreements, kappa
from diptych_lab.judge.judgements import Agreement, Judgements
from diptych_lab.judge.judging import JudgedDifference, Judging, Pooled, Verdict, confidence_sequence

__all__ = [
    "Agreement",
    "JudgedDifference",
    "Judgements",
    "Judging",
    "Kappa",
    "ModelJudge",
    "Pooled",
    "SecondJudging",
    "Verdict",
    "agreements",
    "confidence_sequence",
    "kappa",
]
