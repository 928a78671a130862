"""`p_mrr`: measures whether a system follows an instruction that changes what is relevant."""

from __future__ import annotations

from collections.abc import Mapping

from diptych.errors import EvaluationError
from diptych.evaluate.qrels import Qrels
from diptych.evaluate.ranking_order import ordered
from diptych.types import Run


def p_mrr(original: Run, changed: Run, original_qrels: Qrels, changed_qrels: Qrels) -> float:
    """Mean over the queries of `p_mrr_per_query`: from -1 (does the opposite) over 0 (does not care) to 1.

    FollowIR reports it times 100: Weller et al., "FollowIR: Evaluating and Teaching Information Retrieval Models to
    Follow Instructions", NAACL 2025.

    Args:
        original: answers to the queries with their first instruction.
        changed: answers to the same queries, by the same ids, with the changed instruction.
        original_qrels, changed_qrels: the judgements under each.

    Raises:
        EvaluationError: the change makes no document irrelevant, or a run has no answer to a query where it does.
    """
    values = p_mrr_per_query(original, changed, original_qrels, changed_qrels)
    return sum(values.values()) / len(values)


def p_mrr_per_query(original: Run, changed: Run, original_qrels: Qrels, changed_qrels: Qrels) -> Mapping[str, float]:
    """`{query id: mean change}` over the documents that the changed instruction makes irrelevant.

    A document that falls from rank r to s counts `1 - r / s`, one that rises `s / r - 1`. One that is not in a ranking
    has the rank after its last.
    """
    flipped = _made_irrelevant(original_qrels, changed_qrels)
    before, after = (_ranks(run, flipped) for run in (original, changed))
    return {
        query: sum(rank_change(before[query][name], after[query][name]) for name in names) / len(names)
        for query, names in flipped.items()
    }


def rank_change(before: int, after: int) -> float:
    """How far a document fell from one rank to another, both from 1: from -1 (rose to the top) to 1."""
    return 1 - before / after if after >= before else after / before - 1


def _made_irrelevant(original: Qrels, changed: Qrels) -> dict[str, frozenset[str]]:
    both = [query for query in original.queries if query in changed.judgements]
    gone = {query: original.relevant(query) - changed.relevant(query) for query in both}
    flipped = {query: names for query, names in gone.items() if names}
    if not flipped:
        raise EvaluationError(
            "the changed instruction makes no document irrelevant",
            got=f"{len(both)} queries that both qrels judge",
            expected="documents of grade 1 or more that have grade 0, or none, under the changed instruction",
        )
    return flipped


def _ranks(run: Run, flipped: Mapping[str, frozenset[str]]) -> dict[str, dict[str, int]]:
    """The rank, from 1, of each document of interest."""
    lost = [query for query in flipped if not run.rankings.get(query)]
    if lost:
        raise EvaluationError(
            f"run {run.name!r} has no answer to a query whose judgements change",
            got=f"{len(lost)} such queries, the first {lost[0]!r}",
            do="search all queries under both instructions, with the same ids",
        )
    found = {}
    for query, names in flipped.items():
        ranking = ordered(run.rankings[query], where=f"run {run.name!r}, query {query!r}")
        places = {name: rank for rank, name in enumerate(ranking, 1)}
        found[query] = {name: places.get(name, len(ranking) + 1) for name in names}
    return found
