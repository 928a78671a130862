"""Payload index schemas, to Edge and back."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from diptych.stores.edge.convert.enums import member

_PARAMS: dict[type[Any], type[Any]] = {
    models.KeywordIndexParams: edge.KeywordIndexParams,
    models.IntegerIndexParams: edge.IntegerIndexParams,
    models.FloatIndexParams: edge.FloatIndexParams,
    models.GeoIndexParams: edge.GeoIndexParams,
    models.BoolIndexParams: edge.BoolIndexParams,
    models.DatetimeIndexParams: edge.DatetimeIndexParams,
    models.UuidIndexParams: edge.UuidIndexParams,
}


def index_schema(schema: Any) -> Any:
    """Edge's schema of a payload index: a bare type, or a type with parameters."""
    if isinstance(schema, models.TextIndexParams):
        return _text(schema)
    params = _PARAMS.get(type(schema))
    if params is None:
        return member(edge.PayloadSchemaType, schema)
    plain = schema.model_dump(exclude={"type", "memory"}, exclude_none=True)
    return params(**plain, memory=member(edge.Memory, schema.memory))


def index_infos(edge_schema: dict[str, Any]) -> dict[str, models.PayloadIndexInfo]:
    """What Edge tells of its payload indexes, in qdrant-client's words."""
    return {name: _info(info) for name, info in edge_schema.items()}


def _text(schema: models.TextIndexParams) -> Any:
    plain = schema.model_dump(
        include={
            "min_token_len", "max_token_len", "lowercase", "ascii_folding", "phrase_matching",
            "on_disk", "enable_hnsw", "nested",
        },
        exclude_none=True,
    )  # fmt: skip
    return edge.TextIndexParams(
        **plain,
        tokenizer=member(edge.TokenizerType, schema.tokenizer),
        stopwords=_stopwords(schema.stopwords),
        stemmer=_stemmer(schema.stemmer),
        memory=member(edge.Memory, schema.memory),
        scoring=_scoring(schema.scoring),
    )


def _stopwords(stopwords: models.Language | models.StopwordsSet | None) -> Any:
    if isinstance(stopwords, models.StopwordsSet):
        languages = {member(edge.Language, language) for language in stopwords.languages or ()}
        return edge.StopwordsSet(languages=languages, custom=set(stopwords.custom or ()))
    return member(edge.Language, stopwords)


def _stemmer(stemmer: models.SnowballParams | models.DisabledStemmerParams | None) -> Any:
    if isinstance(stemmer, models.SnowballParams):
        return edge.SnowballParams(member(edge.SnowballLanguage, stemmer.language))
    return edge.DisabledStemmer() if stemmer else None


def _scoring(scoring: bool | models.TextScoringParams | None) -> Any:
    if isinstance(scoring, models.TextScoringParams):
        return edge.TextScoringParams(member(edge.TextScoringType, scoring.type))
    return scoring


def _info(info: Any) -> models.PayloadIndexInfo:
    kind = str(info.data_type).rpartition(".")[2].lower()
    return models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind), params=None, points=info.points)
