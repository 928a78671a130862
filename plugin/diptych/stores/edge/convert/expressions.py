"""Formulas of a rescoring query, as Edge's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from diptych.stores.edge.convert.filters import edge_condition, geo_point

Build = Callable[..., Any]


def edge_formula(query: models.FormulaQuery) -> Any:
    """Edge's form of a formula with its defaults."""
    return edge.Formula(_expression(query.formula), query.defaults or {})


def _expression(found: Any) -> Any:
    if isinstance(found, str):
        return edge.Expression.Variable(found)
    if isinstance(found, int | float):
        return edge.Expression.Constant(float(found))
    convert = _EXPRESSIONS.get(type(found))
    return edge.Expression.Condition(edge_condition(found)) if convert is None else convert(found)


def _all(parts: list[Any]) -> list[Any]:
    return [_expression(part) for part in parts]


def _div(found: models.DivExpression) -> Any:
    div = found.div
    return edge.Expression.Div(_expression(div.left), _expression(div.right), div.by_zero_default)


def _pow(found: models.PowExpression) -> Any:
    return edge.Expression.Pow(_expression(found.pow.base), _expression(found.pow.exponent))


def _distance(found: models.GeoDistance) -> Any:
    return edge.Expression.GeoDistance(geo_point(found.geo_distance.origin), found.geo_distance.to)


def _decay(kind: Any, params: models.DecayParamsExpression) -> Any:
    target = None if params.target is None else _expression(params.target)
    return edge.Expression.Decay(kind, _expression(params.x), target, params.midpoint, params.scale)


_E = edge.Expression
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
    models.DivExpression: _div,
    models.PowExpression: _pow,
    models.GeoDistance: _distance,
    models.LinDecayExpression: lambda f: _decay(edge.DecayKind.Lin, f.lin_decay),
    models.GaussDecayExpression: lambda f: _decay(edge.DecayKind.Gauss, f.gauss_decay),
    models.ExpDecayExpression: lambda f: _decay(edge.DecayKind.Exp, f.exp_decay),
}
