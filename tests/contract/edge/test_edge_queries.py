"""EdgeClient ranks as qdrant-client's local mode (and a server) does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qdrant_client import models

M = models
DENSE = ("cos", "dot", "euclid", "man")


@pytest.mark.parametrize("using", DENSE)
def test_dense_rankings_agree(pair: Any, world: Any, using: str) -> None:
    for _ in range(3):
        found = pair.same_ranking(query=world.dense(), using=using, limit=20)
        assert len(found) == 20


def test_sparse_rankings_with_idf_agree(pair: Any, world: Any) -> None:
    assert pair.same_ranking(query=world.sparse(), using="sparse", limit=20)


def test_multivector_rankings_agree(pair: Any, world: Any) -> None:
    assert pair.same_ranking(query=world.multi(), using="multi", limit=20)


@pytest.mark.parametrize("using", DENSE)
def test_offset_and_threshold_agree(pair: Any, world: Any, using: str) -> None:
    query = world.dense()
    best = pair.same_ranking(query=query, using=using, limit=20, offset=3)
    middle = (best[7].score + best[8].score) / 2
    assert len(pair.same_ranking(query=query, using=using, limit=20, offset=3, score_threshold=middle)) == 8


def test_a_stored_point_as_query_leaves_itself_out(pair: Any, world: Any) -> None:
    for identifier in world.some_ids(3):
        if pair.edge.retrieve(pair.name, [identifier], with_vectors=["cos"])[0].vector:
            found = pair.same_ranking(query=identifier, using="cos", limit=5)
            assert identifier not in [point.id for point in found]


def test_payload_and_vector_selection_agree(pair: Any, world: Any) -> None:
    query = world.dense()
    for payload in (True, False, ["kind", "parts[].size"], M.PayloadSelectorExclude(exclude=["kind", "where"])):
        pair.same_ranking(query=query, using="dot", limit=10, with_payload=payload)
    for vectors in (True, ["sparse", "multi"]):
        pair.same(
            lambda c, n, v=vectors: c.query_points(n, query, using="dot", with_vectors=v).model_dump(
                exclude={"points": {"__all__": {"version"}}}
            )
        )


def prefetches(world: Any) -> list[M.Prefetch]:
    return [
        M.Prefetch(query=world.dense(), using="cos", limit=15),
        M.Prefetch(query=world.sparse(), using="sparse", limit=12),
        M.Prefetch(query=world.dense(), using="euclid", limit=9),
    ]


@pytest.mark.parametrize(
    "fusion",
    [
        M.FusionQuery(fusion=M.Fusion.RRF),
        M.RrfQuery(rrf=M.Rrf()),
        M.RrfQuery(rrf=M.Rrf(k=61)),
        M.RrfQuery(rrf=M.Rrf(k=5, weights=[3.0, 1.0, 0.5])),
        M.FusionQuery(fusion=M.Fusion.DBSF),
    ],
    ids=["rrf", "rrf default", "rrf k", "rrf weights", "dbsf"],
)
def test_fusions_agree(pair: Any, world: Any, fusion: Any) -> None:
    assert len(pair.same_ranking(query=fusion, prefetch=prefetches(world), limit=20)) == 20


@pytest.mark.parametrize(
    "query", [M.RrfQuery(rrf=M.Rrf(k=3, weights=[1.0, 0.77, 0.53])), M.FusionQuery(fusion=M.Fusion.DBSF)]
)
def test_fusions_agree_from_an_offset_and_above_a_threshold(pair: Any, world: Any, query: Any) -> None:
    branches = prefetches(world)
    whole = pair.same_ranking(query=query, prefetch=branches, limit=20, offset=4)
    middle = (whole[5].score + whole[6].score) / 2
    above = pair.same_ranking(query=query, prefetch=branches, limit=20, offset=4, score_threshold=middle)
    assert len(above) == 6


def test_thresholds_and_filters_of_prefetches_agree(pair: Any, world: Any) -> None:
    near = pair.same_ranking(query=world.dense(), using="euclid", limit=30)[20].score
    branches = [
        M.Prefetch(query=world.dense(), using="euclid", limit=30, score_threshold=near, filter=kind("a", "b")),
        M.Prefetch(query=world.dense(), using="dot", limit=30, score_threshold=0.5),
    ]
    assert pair.same_ranking(query=M.FusionQuery(fusion=M.Fusion.DBSF), prefetch=branches, limit=40)


def test_idf_of_a_part_of_the_corpus_agrees(pair: Any, world: Any) -> None:
    pair.require((1, 19), "statistics of a part of the corpus")
    params = M.SearchParams(idf=M.IdfCorpusParams(corpus=kind("a", "b")))
    query = world.sparse()
    within = pair.same_ranking(query=query, using="sparse", limit=20, search_params=params)
    assert [p.score for p in within] != [p.score for p in pair.same_ranking(query=query, using="sparse", limit=20)]


def test_search_parameters_leave_an_exact_answer_exact(pair: Any, world: Any) -> None:
    query = world.dense()
    exact = pair.edge.query_points(pair.name, query, using="cos", limit=20).points
    for params in (
        M.SearchParams(exact=True),
        M.SearchParams(hnsw_ef=64, acorn=M.AcornSearchParams(enable=True, max_selectivity=0.4)),
        M.SearchParams(quantization=M.QuantizationSearchParams(ignore=True)),
    ):
        found = pair.edge.query_points(pair.name, query, using="cos", limit=20, search_params=params).points
        pair.check(found, exact)


def test_numpy_queries_answer_as_lists(pair: Any, world: Any) -> None:
    dense, tokens = np.array(world.dense(), np.float32), np.array(world.multi(), np.float32)
    for query, using in ((dense, "cos"), (tokens, "multi")):
        by_list = pair.edge.query_points(pair.name, query.tolist(), using=using).points
        pair.check(pair.edge.query_points(pair.name, query, using=using).points, by_list)


def test_nested_prefetches_agree(pair: Any, world: Any) -> None:
    weights = M.RrfQuery(rrf=M.Rrf(k=2, weights=[1.0, 0.77, 0.53]))  # unequal, so that no tie is cut
    inner = M.Prefetch(query=weights, prefetch=prefetches(world), limit=20)
    other = M.Prefetch(query=world.dense(), using="man", limit=20, filter=kind("a", "b"))
    found = pair.same_ranking(query=world.multi(), using="multi", prefetch=[inner, other], limit=10)
    assert found
    pair.same_ranking(query=M.FusionQuery(fusion=M.Fusion.DBSF), prefetch=[inner, other], limit=10)


def test_a_filter_reaches_the_prefetches(pair: Any, world: Any) -> None:
    found = pair.same_ranking(
        query=M.RrfQuery(rrf=M.Rrf()), prefetch=prefetches(world), query_filter=kind("a"), limit=10
    )
    assert {point.payload["kind"] for point in found} == {"a"}


def kind(*values: str) -> M.Filter:
    return M.Filter(must=[M.FieldCondition(key="kind", match=M.MatchAny(any=list(values)))])


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.5, 1.0, None])
def test_mmr_agrees(pair: Any, world: Any, diversity: float | None) -> None:
    query = M.NearestQuery(nearest=world.dense(), mmr=M.Mmr(diversity=diversity, candidates_limit=30))
    mine, theirs = pair.ask(lambda c, n: c.query_points(n, query, using="cos", limit=8).points)
    assert [p.id for p in mine] == [p.id for p in theirs]


@pytest.mark.parametrize("strategy", [*M.RecommendStrategy, None])
@pytest.mark.parametrize("using", ["cos", "dot", "sparse", "multi"])
def test_recommendations_agree(pair: Any, world: Any, strategy: Any, using: str) -> None:
    vector = {"sparse": world.sparse, "multi": world.multi}.get(using, world.dense)
    recommend = M.RecommendInput(positive=[vector(), vector()], negative=[vector()], strategy=strategy)
    assert pair.same_ranking(query=M.RecommendQuery(recommend=recommend), using=using, limit=10)


def test_recommendations_by_id_agree(pair: Any, world: Any) -> None:
    having = pair.edge.scroll(pair.name, M.Filter(must=[M.HasVectorCondition(has_vector="dot")]), limit=4)[0]
    ids = [record.id for record in having]
    recommend = M.RecommendInput(positive=ids[:2], negative=ids[2:])
    found = pair.same_ranking(query=M.RecommendQuery(recommend=recommend), using="dot", limit=10)
    assert not {point.id for point in found} & set(ids)


def test_a_vector_looked_up_under_another_name_agrees(pair: Any) -> None:
    both = [M.HasVectorCondition(has_vector=name) for name in ("cos", "dot")]
    identifier = pair.edge.scroll(pair.name, M.Filter(must=both), limit=1)[0][0].id
    place = M.LookupLocation(collection=pair.name, vector="cos")
    found = pair.same_ranking(query=identifier, using="dot", lookup_from=place, limit=10)
    assert identifier not in [point.id for point in found]


def test_discovery_and_context_agree(pair: Any, world: Any) -> None:
    pairs = [M.ContextPair(positive=world.dense(), negative=world.dense()) for _ in range(2)]
    discover = M.DiscoverQuery(discover=M.DiscoverInput(target=world.dense(), context=pairs))
    assert pair.same_ranking(query=discover, using="cos", limit=10)
    assert pair.same_ranking(query=M.ContextQuery(context=pairs), using="cos", limit=10)


def test_relevance_feedback_agrees(pair: Any, world: Any) -> None:
    feedback = [M.FeedbackItem(example=world.dense(), score=score) for score in (0.9, 0.4, 0.1)]
    strategy = M.NaiveFeedbackStrategy(naive=M.NaiveFeedbackStrategyParams(a=0.5, b=1.2, c=0.8))
    asked = M.RelevanceFeedbackInput(target=world.dense(), feedback=feedback, strategy=strategy)
    assert pair.same_ranking(query=M.RelevanceFeedbackQuery(relevance_feedback=asked), using="cos", limit=10)


def test_order_by_agrees(pair: Any) -> None:
    for order in ("rank", M.OrderBy(key="price", direction=M.Direction.DESC), M.OrderBy(key="rank", start_from=7)):
        mine, theirs = pair.ask(lambda c, n, o=order: c.query_points(n, M.OrderByQuery(order_by=o), limit=40).points)
        assert [p.order_value for p in mine] == [p.order_value for p in theirs]
        assert mine


def test_text_queries_agree(pair: Any) -> None:
    pair.require((1, 20), "searches of a text index")
    for query in ("red whale", "frog", "blue fox sings"):
        assert pair.same_ranking(query=M.TextQuery(text=query), using="body", limit=30)
    scoring = M.Bm25Scoring(bm25=M.Bm25Params(k=0.6, b=0.3))
    tuned = M.TextQuery(text=M.TextQueryInput(query="red fox", scoring=scoring))
    assert pair.same_ranking(query=tuned, using="body", limit=30)


def test_a_text_branch_fuses_with_a_vector_branch(pair: Any, world: Any) -> None:
    pair.require((1, 20), "searches of a text index")
    branches = [M.Prefetch(query=M.TextQuery(text="red fox slowly"), using="body", limit=200), *prefetches(world)]
    assert pair.same_ranking(query=M.FusionQuery(fusion=M.Fusion.DBSF), prefetch=branches, limit=20)


def formulas() -> dict[str, Any]:
    key = M.FieldCondition(key="kind", match=M.MatchValue(value="a"))
    berlin = M.GeoDistance(geo_distance=M.GeoDistanceParams(origin=M.GeoPoint(lon=13.4, lat=52.5), to="where"))
    decay = M.DecayParamsExpression(x=berlin, scale=500_000.0, midpoint=0.4)
    when = M.DecayParamsExpression(
        x=M.DatetimeKeyExpression(datetime_key="when"),
        target=M.DatetimeExpression(datetime="2024-06-01T00:00:00Z"),
        scale=1e7,
    )
    return {
        "sum": M.SumExpression(sum=["$score[0]", M.MultExpression(mult=[0.5, "rank"]), key]),
        "div": M.DivExpression(div=M.DivParams(left="$score", right="rank", by_zero_default=1.0)),
        "pow": M.PowExpression(pow=M.PowParams(base=M.AbsExpression(abs="$score"), exponent=2.0)),
        "sqrt": M.SqrtExpression(sqrt=M.AbsExpression(abs=M.NegExpression(neg="$score"))),
        "exp": M.ExpExpression(exp="$score"),
        "logs": M.SumExpression(
            sum=[M.LnExpression(ln=M.SumExpression(sum=[1.0, "rank"])), M.Log10Expression(log10=10.0)]
        ),
        "decay": M.GaussDecayExpression(gauss_decay=decay),
        "linear decay": M.LinDecayExpression(lin_decay=when),
        "exp decay": M.ExpDecayExpression(exp_decay=decay),
        "minmax": M.MaxExpression(max=[M.MinExpression(min=["$score", 0.5]), "$score[1]"]),
    }


@pytest.mark.parametrize("name", list(formulas()))
def test_formulas_agree(pair: Any, world: Any, name: str) -> None:
    if name == "minmax":
        pair.require((1, 20), "formulas with min and max")
    where = {"lon": 13.4, "lat": 52.5}
    defaults = {"rank": 1, "$score[1]": 0.1, "$score[0]": 0.2, "where": where, "when": "2024-01-01T00:00:00Z"}
    query = M.FormulaQuery(formula=formulas()[name], defaults=defaults)
    assert pair.same_ranking(query=query, prefetch=prefetches(world)[:2], limit=20)


def test_a_batch_answers_as_its_queries_one_by_one(pair: Any, world: Any) -> None:
    requests = [
        M.QueryRequest(query=world.dense(), using="cos", limit=5, with_payload=True),
        M.QueryRequest(query=world.sparse(), using="sparse", limit=7, filter=kind("a")),
        M.QueryRequest(query=M.RrfQuery(rrf=M.Rrf()), prefetch=prefetches(world), limit=4),
    ]
    batch = pair.edge.query_batch_points(pair.name, requests)
    assert [len(answer.points) for answer in batch] == [5, 7, 4]
    for request, answer in zip(requests, batch, strict=True):
        single = pair.edge.query_points(
            pair.name, request.query, using=request.using, prefetch=request.prefetch, query_filter=request.filter,
            limit=request.limit, with_payload=bool(request.with_payload),
        )  # fmt: skip
        pair.check(answer.points, single.points)


def test_sampling_gives_that_many_different_points(pair: Any) -> None:
    query = M.SampleQuery(sample=M.Sample.RANDOM)
    for points in pair.ask(lambda c, n: c.query_points(n, query, limit=12, query_filter=kind("a", "b")).points):
        assert len({point.id for point in points}) == 12
        assert {point.payload["kind"] for point in points} <= {"a", "b"}


def test_no_query_lists_points(pair: Any) -> None:
    pair.same_ranking(limit=12)
