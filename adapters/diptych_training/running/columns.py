"""The encoding of each column of a data set: its prompt, and its route in a model with a Router.

Texts are encoded in training as in mining, evaluation and serving: queries after the model's prompt for queries,
documents after that for documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sentence_transformers.base.modules import Router

from diptych_training.options import Prompts

QUERY, DOCUMENT = "query", "document"
NAMES = {QUERY: (QUERY,), DOCUMENT: (DOCUMENT, "passage", "corpus")}  # of prompts, as adapters look for them
DOCUMENTS = (DOCUMENT, "positive", "negative_")  # how names of columns of documents begin


def settle_prompts(model: Any, prompts: Prompts | None = None) -> None:
    """Store the configured prompts, else the model's own, as `query` and `document`, in place.

    sentence-transformers' `encode_document` takes an empty `document` for one, and never looks at `passage`.
    """
    configured = prompts.model_dump(exclude_none=True) if prompts is not None else {}
    replaced = NAMES[DOCUMENT][1:] if DOCUMENT in configured else ()
    kept_prompts = {name: text for name, text in (model.prompts or {}).items() if name not in replaced}
    model.prompts = {**kept_prompts, **prompts_of_sides(model), **configured}


def prompts_of_sides(model: Any) -> dict[str, str]:
    """The model's prompts of `query` and `document`, "" for none."""
    saved: Mapping[str, str | None] = getattr(model, "prompts", None) or {}
    return {side: next((saved[name] or "" for name in names if saved.get(name)), "") for side, names in NAMES.items()}


def prompts_of_columns(model: Any, columns: Iterable[str]) -> dict[str, str]:
    """The prompt of each column that has one, as the trainer's `prompts`."""
    prompts, sides = prompts_of_sides(model), {column: side_of(column) for column in columns}
    return {column: prompts[side] for column, side in sides.items() if side is not None and prompts[side]}


def routes_of(model: Any, columns: Iterable[str]) -> dict[str, str]:
    """Which way each column of a data set goes, as the trainer's `router_mapping`; {} for a model without a Router."""
    if not any(isinstance(part, Router) for part in model.children()):
        return {}
    return {column: QUERY if column == QUERY else DOCUMENT for column in columns if column != "label"}


def side_of(column: str) -> str | None:
    """`query` or `document`; None for a column that is neither, such as labels, or texts of no side."""
    if column == QUERY:
        return QUERY
    return DOCUMENT if column.startswith(DOCUMENTS) else None
