"""Queries and filters in Edge's form, and Edge's answers as qdrant-client's models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.http.models import QueryResponse

from diptych.errors import SearchError
from diptych.runtime.unchecked import unchecked
from diptych_edge.convert.points import FINITE, UNIQUE, flaw_of_dense, flaw_of_sparse, refuse_inference

Condition = models.Condition | models.Filter
_SLICE: Any = edge.SliceCondition  # type: ignore[attr-defined] # its stubs forgot it
_BOOL: Any = np.bool_
_MATCHES: dict[type[Any], Callable[[Any], Any]] = {
    # Edge takes Python's booleans for the integers that they are too; numpy's are nothing but booleans.
    models.MatchValue: lambda m: edge.MatchValue(_BOOL(m.value) if isinstance(m.value, bool) else m.value),
    models.MatchText: lambda m: edge.MatchText(m.text),
    models.MatchTextAny: lambda m: edge.MatchTextAny(m.text_any),
    models.MatchPhrase: lambda m: edge.MatchPhrase(m.phrase),
    models.MatchPrefix: lambda m: edge.MatchPrefix(m.prefix),
    models.MatchSubstring: lambda m: edge.MatchSubstring(m.substring),
    models.MatchAny: lambda m: edge.MatchAny(m.any),
    models.MatchExcept: lambda m: edge.MatchExcept(m.except_),
}
_scored_point = unchecked(models.ScoredPoint)
_record = unchecked(models.Record)
_query_response = unchecked(QueryResponse)

Build = Callable[..., Any]
_E = edge.Expression
LIMIT = 10  # what a request or prefetch without limit means, as on a server


def _expression(expression: Any) -> Any:
    if isinstance(expression, str):
        return edge.Expression.Variable(expression)
    if isinstance(expression, int | float):
        return edge.Expression.Constant(float(expression))
    convert = _EXPRESSIONS.get(type(expression))
    return edge.Expression.Condition(edge_condition(expression)) if convert is None else convert(expression)


def _all(parts: list[Any]) -> list[Any]:
    return [_expression(part) for part in parts]


def _decay(kind: Any, params: models.DecayParamsExpression) -> Any:
    target = None if params.target is None else _expression(params.target)
    return edge.Expression.Decay(kind, _expression(params.x), target, params.midpoint, params.scale)


_EXPRESSIONS: dict[type[Any], Build] = {
    models.SumExpression: lambda f: _E.Sum(_all(f.sum)),
    models.MultExpression: lambda f: _E.Mult(_all(f.mult)),
    models.MinExpression: lambda f: _E.Min(_all(f.min)),
    models.MaxExpression: lambda f: _E.Max(_all(f.max)),
    models.NegExpression: lambda f: _E.Neg(_expression(f.neg)),
    models.AbsExpression: lambda f: _E.Abs(_expression(f.abs)),
    models.SqrtExpression: lambda f: _E.Sqrt(_expression(f.sqrt)),
    models.ExpExpression: lambda f: _E.Exp(_expression(f.exp)),
    models.Log10Expression: lambda f: _E.Log10(_expression(f.log10)),
    models.LnExpression: lambda f: _E.Ln(_expression(f.ln)),
    models.AcoshExpression: lambda f: _E.Acosh(_expression(f.acosh)),
    models.DatetimeExpression: lambda f: _E.Datetime(f.datetime),
    models.DatetimeKeyExpression: lambda f: _E.DatetimeKey(f.datetime_key),
    models.DivExpression: lambda f: _E.Div(_expression(f.div.left), _expression(f.div.right), f.div.by_zero_default),
    models.PowExpression: lambda f: _E.Pow(_expression(f.pow.base), _expression(f.pow.exponent)),
    models.GeoDistance: lambda f: _E.GeoDistance(geo_point(f.geo_distance.origin), f.geo_distance.to),
    models.LinDecayExpression: lambda f: _decay(edge.DecayKind.Lin, f.lin_decay),
    models.GaussDecayExpression: lambda f: _decay(edge.DecayKind.Gauss, f.gauss_decay),
    models.ExpDecayExpression: lambda f: _decay(edge.DecayKind.Exp, f.exp_decay),
}


class Examples:
    """Turns a query's examples into Edge's vectors and remembers the points it mentions.

    Args:
        find: the vector of a point of the collection that is looked into.
        same_collection: whether that is the searched collection; if so, answers leave out the points mentioned.
    """

    def __init__(self, find: Callable[[models.ExtendedPointId], Any], *, same_collection: bool) -> None:
        self._find, self._same_collection = find, same_collection
        self.mentioned: list[models.ExtendedPointId] = []

    def vector(self, example: Any) -> Any:
        """Edge's form of a vector, or of the vector of the point with this id.

        Raises:
            SearchError: it is neither, or its numbers are none that can be compared.
        """
        if isinstance(example, int | str | UUID):
            if self._same_collection:
                self.mentioned.append(example)
            return self._find(example)
        if isinstance(example, list | np.ndarray):
            return _require_comparable(example, flaw_of_dense(example))
        if hasattr(example, "indices"):
            _require_comparable(example, flaw_of_sparse(example.indices, example.values))
            return (
                example
                if isinstance(example, edge.SparseVector)
                else edge.SparseVector(example.indices, example.values)
            )
        refuse_inference(example)
        raise SearchError("not a query", got=type(example).__name__, expected="a vector, a point id or a query model")

    def average(self, positive: list[Any], negative: list[Any]) -> Any:
        """The target of `average_vector`: the mean of the positives plus its difference to that of the negatives."""
        if not positive:
            raise SearchError(
                "a recommendation has no vectors to average", got="no positive examples", expected="at least one"
            )
        if isinstance(positive[0], edge.SparseVector):
            return _average_sparse(positive, negative)
        if np.ndim(positive[0]) == 2:
            return np.concatenate([*map(np.asarray, positive), *(-np.asarray(item) for item in negative)])
        mean = np.mean(positive, axis=0)
        return mean + mean - np.mean(negative, axis=0) if negative else mean


Lookup = Callable[[str | None, models.LookupLocation | None], Examples]


def edge_request(request: models.QueryRequest, lookup: Lookup) -> Any:
    """Edge's form of a whole request; `lookup` finds the vectors of points given by id."""
    examples = lookup(request.using, request.lookup_from)
    limit = LIMIT if request.limit is None else request.limit
    query = edge_query(request.query, request.using, limit, examples)
    return edge.QueryRequest(
        limit=limit,
        offset=request.offset,
        query=query,
        prefetches=_prefetches(request.prefetch, lookup),
        with_vector=with_vector(request.with_vector),
        with_payload=with_payload(request.with_payload),
        filter=edge_filter(request.filter, examples.mentioned),
        score_threshold=request.score_threshold,
        params=search_params(request.params),
    )


def edge_query(query: Any, using: str | None, limit: int, examples: Examples) -> Any:
    """Edge's form of a query: a vector, a point's id, or one of qdrant-client's queries.

    Raises:
        SearchError: it is none of these.
    """
    if query is None:
        return None
    convert = _QUERIES.get(type(query))
    if convert is not None:
        return convert(query, using, limit, examples)
    return edge.Query.Nearest(examples.vector(query), using)


def with_payload(selection: Any) -> Any:
    """Edge's form of a payload selection."""
    if isinstance(selection, models.PayloadSelectorInclude):
        return edge.PayloadSelector.Include(selection.include)
    if isinstance(selection, models.PayloadSelectorExclude):
        return edge.PayloadSelector.Exclude(selection.exclude)
    return False if selection is None else selection


def with_vector(selection: Any) -> Any:
    """Edge's form of a vector selection."""
    return False if selection is None else selection


def search_params(params: models.SearchParams | None) -> Any:
    """Edge's form of search parameters."""
    if params is None:
        return None
    quantization, acorn, scope = params.quantization, params.acorn, params.idf
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef,
        exact=bool(params.exact),
        quantization=edge.QuantizationSearchParams(
            bool(quantization.ignore), quantization.rescore, quantization.oversampling
        )
        if quantization
        else None,
        indexed_only=bool(params.indexed_only),
        acorn=edge.AcornSearchParams(bool(acorn.enable), acorn.max_selectivity) if acorn else None,
        idf=edge.IdfParams(edge_filter(scope.corpus) if isinstance(scope, models.IdfCorpusParams) else None)
        if scope is not None
        else None,
    )


def order_by(order: models.OrderBy | str | None) -> Any:
    """Edge's form of an order by payload."""
    if order is None or isinstance(order, str):
        return edge.OrderBy(order) if order else None
    direction = edge.Direction.Desc if order.direction == models.Direction.DESC else edge.Direction.Asc
    start: Any = order.start_from
    return edge.OrderBy(order.key, direction, iso(start) if hasattr(start, "isoformat") else start)


def _prefetches(prefetch: list[models.Prefetch] | models.Prefetch | None, lookup: Lookup) -> list[Any]:
    if prefetch is None:
        return []
    return [_prefetch(item, lookup) for item in (prefetch if isinstance(prefetch, list) else [prefetch])]


def _prefetch(prefetch: models.Prefetch, lookup: Lookup) -> Any:
    examples = lookup(prefetch.using, prefetch.lookup_from)
    limit = LIMIT if prefetch.limit is None else prefetch.limit
    query = edge_query(prefetch.query, prefetch.using, limit, examples)
    return edge.Prefetch(
        limit=limit,
        query=query,
        prefetches=_prefetches(prefetch.prefetch, lookup),
        params=search_params(prefetch.params),
        filter=edge_filter(prefetch.filter, examples.mentioned),
        score_threshold=prefetch.score_threshold,
    )


def _nearest(query: models.NearestQuery, using: str | None, limit: int, examples: Examples) -> Any:
    vector, mmr = examples.vector(query.nearest), query.mmr
    if mmr is None:
        return edge.Query.Nearest(vector, using)
    diversity = 0.5 if mmr.diversity is None else mmr.diversity
    candidates = limit if mmr.candidates_limit is None else mmr.candidates_limit
    return edge.Mmr(vector, 1.0 - diversity, candidates, using)


def _recommend(query: models.RecommendQuery, using: str | None, limit: int, examples: Examples) -> Any:
    recommendation = query.recommend
    positive = [examples.vector(item) for item in recommendation.positive or ()]
    negative = [examples.vector(item) for item in recommendation.negative or ()]
    if recommendation.strategy in (None, models.RecommendStrategy.AVERAGE_VECTOR):
        return edge.Query.Nearest(examples.average(positive, negative), using)
    if not positive and not negative:
        raise SearchError("a recommendation needs examples", expected="at least one, positive or negative")
    best = recommendation.strategy == models.RecommendStrategy.BEST_SCORE
    make = edge.Query.RecommendBestScore if best else edge.Query.RecommendSumScores
    return make(edge.RecommendQuery(positive, negative), using)


def _pairs(context: Any, examples: Examples) -> list[Any]:
    pairs = context if isinstance(context, list) else [context]
    return [edge.ContextPair(examples.vector(pair.positive), examples.vector(pair.negative)) for pair in pairs]


def _discover(query: models.DiscoverQuery, using: str | None, limit: int, examples: Examples) -> Any:
    target = examples.vector(query.discover.target)
    return edge.Query.Discover(edge.DiscoverQuery(target, _pairs(query.discover.context or [], examples)), using)


def _feedback(query: models.RelevanceFeedbackQuery, using: str | None, limit: int, examples: Examples) -> Any:
    feedback, naive = query.relevance_feedback, query.relevance_feedback.strategy.naive
    items = [edge.FeedbackItem(examples.vector(item.example), item.score) for item in feedback.feedback]
    strategy = edge.NaiveFeedbackStrategy(naive.a, naive.b, naive.c)
    return edge.Query.FeedbackNaive(edge.FeedbackNaiveQuery(examples.vector(feedback.target), items, strategy), using)


def _text(query: models.TextQuery, using: str | None, limit: int, examples: Examples) -> Any:
    if not using:
        raise SearchError("a text query names no field", expected="`using`: a payload field with a scoring text index")
    if isinstance(query.text, str):
        return edge.TextQuery(using, query.text)
    scoring = query.text.scoring
    params = edge.Bm25Params(scoring.bm25.k, scoring.bm25.b) if scoring else None
    return edge.TextQuery(using, query.text.query, params)


_QUERIES: dict[type[Any], Callable[[Any, str | None, int, Examples], Any]] = {
    models.NearestQuery: _nearest,
    models.RecommendQuery: _recommend,
    models.DiscoverQuery: _discover,
    models.ContextQuery: lambda query, using, limit, examples: edge.Query.Context(
        edge.ContextQuery(_pairs(query.context, examples)), using
    ),
    models.RelevanceFeedbackQuery: _feedback,
    models.FusionQuery: lambda query, *_: (
        edge.Fusion.Dbsf() if query.fusion == models.Fusion.DBSF else edge.Fusion.Rrf(k=2)
    ),
    models.RrfQuery: lambda query, *_: edge.Fusion.Rrf(2 if query.rrf.k is None else query.rrf.k, query.rrf.weights),
    models.TextQuery: _text,
    models.FormulaQuery: lambda query, *_: edge.Formula(_expression(query.formula), query.defaults or {}),
    models.OrderByQuery: lambda query, *_: order_by(query.order_by),
    models.SampleQuery: lambda *_: edge.Sample.Random,
}


def query_response(points: Sequence[Any]) -> QueryResponse:
    """The answer to one query."""
    return _query_response({"points": [scored_point(point) for point in points]})


def scored_point(point: Any) -> models.ScoredPoint:
    """A found point with its score."""
    identifier, vector = point.id, point.vector
    return _scored_point(
        {
            "id": identifier if type(identifier) is int else str(identifier),
            "version": point.version,
            "score": point.score,
            "payload": point.payload,
            "vector": vector if vector is None else vectors(vector),
            "shard_key": None,
            "order_value": point.order_value,
        }
    )


def record(point: Any) -> models.Record:
    """A stored point."""
    return _record(
        {
            "id": point_id(point.id),
            "payload": point.payload,
            "vector": vectors(point.vector),
            "shard_key": None,
            "order_value": point.order_value,
        }
    )


def point_id(identifier: Any) -> models.ExtendedPointId:
    """An id in qdrant-client's form: an integer, or a UUID as text."""
    return identifier if type(identifier) is int else str(identifier)


def vectors(edge_vectors: Any) -> Any:
    """Vectors of a point: sparse ones become qdrant-client's, lists stay."""
    if isinstance(edge_vectors, dict):
        return {name: vectors(value) for name, value in edge_vectors.items()}
    if isinstance(edge_vectors, edge.SparseVector):
        return models.SparseVector.model_construct(indices=edge_vectors.indices, values=edge_vectors.values)
    return edge_vectors


def _require_comparable(vector: Any, flaw: str) -> Any:
    if flaw:
        raise SearchError("a query's vector cannot be compared", got=flaw, expected=f"{FINITE}; if sparse, {UNIQUE}")
    return vector


def _average_sparse(positive: list[Any], negative: list[Any]) -> Any:
    weights: dict[int, float] = {}
    for vectors, factor in ((positive, 2.0 if negative else 1.0), (negative, -1.0)):
        for vector in vectors:
            for index, value in zip(vector.indices, vector.values, strict=True):
                weights[index] = weights.get(index, 0.0) + factor * value / len(vectors)
    return edge.SparseVector(list(weights), list(weights.values()))


def edge_filter(query_filter: models.Filter | None, exclude_ids: Iterable[models.ExtendedPointId] = ()) -> Any:
    """Edge's form of a filter that also excludes the points `exclude_ids`; None without any condition."""
    excluded = set(exclude_ids)
    if query_filter is None and not excluded:
        return None
    query_filter = query_filter or models.Filter()
    must_not, least = _conditions(query_filter.must_not) or [], query_filter.min_should
    if excluded:
        must_not.append(edge.HasIdCondition(excluded))
    return edge.Filter(
        must=_conditions(query_filter.must),
        should=_conditions(query_filter.should),
        must_not=must_not or None,
        min_should=edge.MinShould(_conditions(least.conditions) or [], least.min_count) if least else None,
    )


def edge_condition(condition: Condition) -> Any:
    """Edge's form of one condition.

    Raises:
        SearchError: it is not a condition of qdrant-client.
    """
    convert = _CONDITIONS.get(type(condition))
    if convert is None:
        raise SearchError(
            "a filter holds something that is not a condition",
            got=type(condition).__name__,
            expected="a condition of qdrant_client.models, such as FieldCondition",
        )
    return convert(condition)


def _conditions(conditions: list[Condition] | Condition | None) -> list[Any] | None:
    if conditions is None:
        return None
    return [edge_condition(item) for item in (conditions if isinstance(conditions, list) else [conditions])]


def _field(condition: models.FieldCondition) -> Any:
    count, box = condition.values_count, condition.geo_bounding_box
    circle, shape = condition.geo_radius, condition.geo_polygon
    return edge.FieldCondition(
        condition.key,
        match=None if condition.match is None else _MATCHES[type(condition.match)](condition.match),
        range=_range(condition.range),
        geo_bounding_box=edge.GeoBoundingBox(geo_point(box.top_left), geo_point(box.bottom_right)) if box else None,
        geo_radius=edge.GeoRadius(geo_point(circle.center), circle.radius) if circle else None,
        geo_polygon=edge.GeoPolygon(_ring(shape.exterior), [_ring(hole) for hole in shape.interiors or ()])
        if shape
        else None,
        values_count=edge.ValuesCount(lt=count.lt, gt=count.gt, lte=count.lte, gte=count.gte) if count else None,
        is_empty=condition.is_empty,
        is_null=condition.is_null,
    )


def _range(interval: models.RangeInterface | None) -> Any:
    if interval is None:
        return None
    bounds = {name: getattr(interval, name) for name in ("gte", "gt", "lte", "lt")}
    if isinstance(interval, models.DatetimeRange):
        return edge.RangeDateTime(**{name: iso(value) for name, value in bounds.items()})
    return edge.RangeFloat(**bounds)


def iso(moment: date | None) -> str | None:
    """A date or datetime in the form that Edge reads."""
    return None if moment is None else moment.isoformat()


def geo_point(point: models.GeoPoint) -> Any:
    """Edge's form of a point on the globe."""
    return edge.GeoPoint(lon=point.lon, lat=point.lat)


def _ring(line: models.GeoLineString) -> list[Any]:
    return [geo_point(point) for point in line.points]


_CONDITIONS: dict[type[Any], Callable[[Any], Any]] = {
    models.FieldCondition: _field,
    models.IsEmptyCondition: lambda c: edge.IsEmptyCondition(c.is_empty.key),
    models.IsNullCondition: lambda c: edge.IsNullCondition(c.is_null.key),
    models.HasIdCondition: lambda c: edge.HasIdCondition(set(c.has_id)),
    models.HasVectorCondition: lambda c: edge.HasVectorCondition(c.has_vector),
    models.SliceCondition: lambda c: _SLICE(c.slice.total, c.slice.index),
    models.NestedCondition: lambda c: edge.NestedCondition(c.nested.key, edge_filter(c.nested.filter)),
    models.Filter: lambda c: edge_filter(c) or edge.Filter(),
}
