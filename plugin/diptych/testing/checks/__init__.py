"""The checks of the conformance kit: each takes an adapter and `Conditions`, and raises ConformanceFailure.

`CHECKS[kind]` lists the checks of a kind, `MEDIA_CHECKS` those of encoders of media. Begin with `conditions` (inputs
and tolerances), then `encoders`. The contract classes of `diptych.testing.contracts` run them under pytest.
"""

from __future__ import annotations

from collections.abc import Mapping

from diptych.protocols import Kind
from diptych.testing.checks.conditions import Check, Conditions, Known, Side, Triple
from diptych.testing.checks.encoders import (
    can_tell_sides,
    check_batch_independent,
    check_declared_facts,
    check_deterministic,
    check_dimension,
    check_empty_batch,
    check_empty_text,
    check_finite,
    check_float32,
    check_inputs_kept,
    check_known_vectors,
    check_normalized,
    check_odd_texts,
    check_order,
    check_queries_find_documents,
    check_sibling_documents,
    check_sides_as_declared,
    check_token_limit,
)
from diptych.testing.checks.media import (
    MEDIA_CHECKS,
    check_media_alone_as_in_a_batch,
    check_media_differ,
    check_media_kept,
    check_media_repeat,
    check_media_vectors,
    check_no_media,
    check_texts_beside_media,
)
from diptych.testing.checks.rerankers import (
    check_no_pairs,
    check_odd_pairs,
    check_relevant_scores_higher,
    check_reranker_facts,
    check_scores,
    check_scores_in_order,
    check_scores_independent,
    check_scores_repeat,
)
from diptych.testing.checks.sparse import (
    check_decode,
    check_index_params,
    check_indices_ascending,
    check_indices_in_range,
    check_measures_add_up,
    check_text_query,
    check_weights_not_negative,
)

_ENCODER: tuple[Check, ...] = (
    check_declared_facts,
    check_dimension,
    check_float32,
    check_finite,
    check_order,
    check_deterministic,
    check_batch_independent,
    check_inputs_kept,
    check_empty_batch,
    check_empty_text,
    check_odd_texts,
    check_sides_as_declared,
    check_queries_find_documents,
    check_known_vectors,
    check_sibling_documents,
    check_token_limit,
)
CHECKS: Mapping[Kind, tuple[Check, ...]] = {
    "dense": (*_ENCODER, check_normalized),
    "multivector": (*_ENCODER, check_normalized),
    "sparse": (
        *_ENCODER,
        check_indices_ascending,
        check_indices_in_range,
        check_weights_not_negative,
        check_decode,
        check_measures_add_up,
    ),
    "reranker": (
        check_reranker_facts,
        check_scores,
        check_scores_in_order,
        check_scores_repeat,
        check_scores_independent,
        check_no_pairs,
        check_odd_pairs,
        check_relevant_scores_higher,
    ),
    "text_index": (check_index_params, check_text_query),
}

__all__ = [
    "CHECKS",
    "MEDIA_CHECKS",
    "Check",
    "Conditions",
    "Known",
    "Side",
    "Triple",
    "can_tell_sides",
    "check_batch_independent",
    "check_declared_facts",
    "check_decode",
    "check_deterministic",
    "check_dimension",
    "check_empty_batch",
    "check_empty_text",
    "check_finite",
    "check_float32",
    "check_index_params",
    "check_indices_ascending",
    "check_indices_in_range",
    "check_inputs_kept",
    "check_known_vectors",
    "check_measures_add_up",
    "check_media_alone_as_in_a_batch",
    "check_media_differ",
    "check_media_kept",
    "check_media_repeat",
    "check_media_vectors",
    "check_no_media",
    "check_no_pairs",
    "check_normalized",
    "check_odd_pairs",
    "check_odd_texts",
    "check_order",
    "check_queries_find_documents",
    "check_relevant_scores_higher",
    "check_reranker_facts",
    "check_scores",
    "check_scores_in_order",
    "check_scores_independent",
    "check_scores_repeat",
    "check_sibling_documents",
    "check_sides_as_declared",
    "check_text_query",
    "check_texts_beside_media",
    "check_token_limit",
    "check_weights_not_negative",
]
