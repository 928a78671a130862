"""The text of a new `diptych.yaml`: a small one that works, with the choices a user may want next as comments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.errors import ConfigError
from diptych.runtime.validation_messages import nearest
from diptych.specs import AdapterSpec

DEFAULT_ADAPTER = "sentence-transformers"  # of a bare model name
NONE = "none"
_WIDE = 100  # characters of a line
_RERANK = "rerank: [{adapter: cross-encoder, model: NAME, candidates: 50}]"


@dataclass(frozen=True, slots=True)
class SlotChoice:
    """A slot of the new file."""

    name: str
    adapter: str
    options: Mapping[str, Any]

    def line(self) -> str:
        """The slot as one line of YAML, or a line for each option where that would be long."""
        values = [f"{key}: {scalar(value)}" for key, value in {"adapter": self.adapter, **self.options}.items()]
        line = f"  {self.name}: {{{', '.join(values)}}}"
        return line if len(line) <= _WIDE else "\n".join([f"  {self.name}:", *(f"    {value}" for value in values)])


def parse_choice(slot: str, text: str, specs: Sequence[AdapterSpec]) -> SlotChoice | None:
    """What `--dense` or `--lexical` says: `none`, an adapter, `ADAPTER:MODEL`, or a model of sentence-transformers."""
    names = {spec.name for spec in specs}
    adapter, colon, model = text.partition(":")
    if text == NONE:
        return None
    if text in names:
        _require_no_model(slot, next(spec for spec in specs if spec.name == text))
        return SlotChoice(slot, text, {})
    if colon and adapter in names:
        return SlotChoice(slot, adapter, {"model": model})
    if DEFAULT_ADAPTER in names and slot == "dense" and (not colon or _is_model(adapter)):
        return SlotChoice(slot, DEFAULT_ADAPTER, {"model": text})
    hints = (nearest(adapter, names), "write ADAPTER, ADAPTER:MODEL or none", "`diptych adapters` lists all")
    raise ConfigError(
        f"--{slot} names no adapter",
        got=text,
        expected=", ".join(sorted(names)),
        do="; ".join(filter(None, hints)),
    )


def _require_no_model(slot: str, spec: AdapterSpec) -> None:
    """Raise ConfigError for an adapter alone where its options require a model."""
    from diptych.plugins.factory import options_model

    options = options_model(spec)
    model = options.model_fields.get("model") if options else None
    if model is not None and model.is_required():
        raise ConfigError(
            f"--{slot}: adapter {spec.name!r} needs a model", got=spec.name, do=f"write {spec.name}:MODEL"
        )


def _is_model(prefix: str) -> bool:
    """Whether what stands before a colon begins a model's name: a model in a package, or a path."""
    return prefix == "wheel" or "/" in prefix or "\\" in prefix or prefix.startswith(".")


def render(store: str, collection: str, slots: Sequence[SlotChoice], *, schema: str | None, rerank: str = "") -> str:
    """The file's text.

    Args:
        store, collection, slots: what it says.
        schema: of the file beside it, for editors.
        rerank: a stage that reranks, which is offered in a comment.

    Raises:
        ConfigError: no slot is left.
    """
    if not slots:
        raise ConfigError("a collection needs a slot", do="name an adapter for --dense or --lexical")
    parts = [_head(schema), _store(store, collection), _slots(slots), _search(slots, rerank or _RERANK), _rest()]
    return "\n".join(parts)


def scalar(value: Any) -> str:
    """A value as YAML inside a flow mapping; quoted when it could be read as anything but itself."""
    if not isinstance(value, str):
        return json.dumps(value)
    is_plain = (
        value and all(c.isalnum() or c in "-_./" for c in value) and value[0] not in "-." and not _is_typed(value)
    )
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def _is_typed(text: str) -> bool:
    """Whether YAML may read the bare text as a number, a date, a truth value or null."""
    return text[0].isdigit() or text.lower() in ("true", "false", "null", "yes", "no", "on", "off")


def _head(schema: str | None) -> str:
    hint = [f"# yaml-language-server: $schema={schema}"] if schema else []
    keys = f"; {schema} has every key" if schema else ""
    about = f"# `diptych adapters NAME` shows the options of an adapter{keys}."
    return "\n".join([*hint, "# What fills and queries a collection.", about, ""])


def _store(store: str, collection: str) -> str:
    return f"""\
# Where the vectors live. edge:PATH is Qdrant's engine inside this process, in a folder next to this file.
# A server instead:  store: http://localhost:6333   with   api_key: ${{QDRANT_API_KEY}}
store: {scalar(store)}
collection: {scalar(collection)}
"""


def _slots(slots: Sequence[SlotChoice]) -> str:
    lines = "\n".join(slot.line() for slot in slots)
    return f"""\
# One encoder per slot. `diptych adapters` lists what can stand behind `adapter:`.
slots:
{lines}
  # late: {{adapter: token-vectors, model: all-MiniLM-L6-v2}}   # late interaction, for search.rescore below
"""


def _search(slots: Sequence[SlotChoice], rerank: str) -> str:
    retrieve = ", ".join(f"{slot.name}: 100" for slot in slots)
    return f"""\
search:
  # Candidates of each slot. More find more and cost more; a multiple of limit leaves fusion something to choose from.
  retrieve: {{{retrieve}}}
  # dbsf adds the scores, scaled by mean and deviation of each slot's candidates; linear takes weights, rrf goes by
  # ranks. Mean nDCG@10 of MiniLM and BM25 on nine collections and emoji names: .488 by dbsf, .486 by linear without
  # weights, .481 by rrf, .446 by BM25 alone, .422 by MiniLM alone. Unless it is set here, it is dbsf, or linear with
  # little weight for a dense slot whose model cannot read the texts of the first populate. `diptych tune search`
  # measures fusions on your queries.
  # fuse: {{kind: dbsf}}
  # rescore: {{slot: late, candidates: 50}}
  # {rerank}
  limit: 10
"""


def _rest() -> str:
    return """\
# What `diptych evaluate` reads, relative to this file.
# evaluate:
#   queries: queries.jsonl
#   qrels: qrels.tsv
#   metrics: [nDCG@10, MRR@10, Recall@100]
"""
