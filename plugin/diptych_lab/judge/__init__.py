"""Relevance judgements: what to judge next, without showing which pipeline found it, until a comparison is settled.

Begin with `judging`, which also decides when to stop. `judgements` stores grades with judge and time, `agreement`
compares judges, of which one may be a model, and `clicks` makes judgements from logs.
"""

from __future__ import annotations

from diptych_lab.judge.agreement import Kappa, ModelJudge, SecondJudging, agreements, kappa
from diptych_lab.judge.clicks import ClickLog, Propensities, judged_from_clicks
from diptych_lab.judge.judgements import Agreement, Judgements, write_beir
from diptych_lab.judge.judging import JudgedDifference, Judging, Pooled, Verdict, confidence_sequence

__all__ = [
    "Agreement",
    "ClickLog",
    "JudgedDifference",
    "Judgements",
    "Judging",
    "Kappa",
    "ModelJudge",
    "Pooled",
    "Propensities",
    "SecondJudging",
    "Verdict",
    "agreements",
    "confidence_sequence",
    "judged_from_clicks",
    "kappa",
    "write_beir",
]
