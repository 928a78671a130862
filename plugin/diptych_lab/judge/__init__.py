"""Relevance judgements: what to judge next, without showing which pipeline found it, until a comparison is settled.

Begin with `judging`. `judgements` stores grades with judge and time, `verdict` decides when to stop,
`agreement` compares judges, `model_judge` lets a model judge, and `clicks` makes judgements from logs.
"""

from __future__ import annotations

from diptych_lab.judge.agreement import Kappa, SecondJudging, agreements, kappa
from diptych_lab.judge.clicks import ClickLog, Propensities, judged_from_clicks
from diptych_lab.judge.judgement_files import write_beir
from diptych_lab.judge.judgements import Agreement, Judgements
from diptych_lab.judge.judging import Judging, Pooled
from diptych_lab.judge.model_judge import ModelJudge
from diptych_lab.judge.verdict import Difference, Verdict, confidence_sequence

__all__ = [
    "Agreement",
    "ClickLog",
    "Difference",
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
