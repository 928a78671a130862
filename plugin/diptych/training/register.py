"""Enters a trained model in a config file, in place; comments and everything else stay."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from diptych.config import check_adapters, load_config
from diptych.config.adapters import check_text
from diptych.config.load import replace_config
from diptych.config.models import RerankStage, SlotConfig
from diptych.errors import ConfigError
from diptych.protocols import Kind
from diptych.training.contracts import Registration
from qdrant_edge_client.validation_messages import nearest

if TYPE_CHECKING:
    from diptych.registry import Registry

OF_THE_OLD_MODEL = (
    "model",
    "revision",
    "truncate_dim",
    "file_name",
    "query_prompt",
    "document_prompt",
    "max_length",
    "two_way",
)


def register(config: Path, trained: Registration, registry: Registry, *, slot: str | None = None) -> str:
    """Make a slot, or the reranker, of a config file use a trained model.

    The slot's storage stays, and its other options when the adapter stays: backend, precision, device, batch_size. An
    encoder without a slot of its kind needs `slot`, which is then added. A reranker replaces the first one there is.

    Args:
        config: a diptych.yaml.
        trained: what stands in it afterwards.
        registry: which knows the adapter.
        slot: which one; the only one of the model's kind when not given.

    Returns:
        What was changed, such as `slots.dense`.

    Raises:
        ConfigError: the config cannot be read or written, or it is not clear which slot is meant.
    """
    kind = registry.spec(trained.adapter).kind
    name = slot_for(config, kind, registry, slot=slot)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 120
    raw: MutableMapping[str, Any] = yaml.load(config.read_text("utf-8-sig"))
    place = _reranker(raw, trained, config) if name is None else _slot(raw, trained, config, name)
    text = StringIO()
    yaml.dump(raw, text)
    check_text(text.getvalue(), registry)
    replace_config(config, text.getvalue())
    return place


def slot_for(config: Path, kind: Kind, registry: Registry, *, slot: str | None = None) -> str | None:
    """The slot of a config file that a model of this kind would go to; None for a reranker.

    Raises:
        ConfigError: the config cannot be read, or it is not clear which slot is meant.
    """
    loaded = load_config(config)
    check_adapters(loaded, registry)
    return None if kind == "reranker" else slot or _only(loaded.slots, kind, config, registry)


def _slot(raw: Any, trained: Registration, config: Path, name: str) -> str:
    slots = raw.setdefault("slots", {})
    if trained.queries:
        return _student(slots, trained, config, name)
    slots[name] = _section(slots.get(name) or {}, trained, config, ("storage",))
    return f"slots.{name}"


def _student(slots: Any, trained: Registration, config: Path, name: str) -> str:
    """The slot's `query` names the student; the slot must be there, since its encoder makes the documents' vectors."""
    if not slots.get(name):
        raise ConfigError(
            "a student makes the queries of a slot, and there is no such slot",
            where=config,
            got=name,
            expected=", ".join(slots),
            do="name the slot whose encoder is the teacher: --slot NAME",
        )
    own = {key: value for key, value in trained.options.items() if key != "model"}
    student = {"student": relative(trained.options["model"], config), **own}
    same = slots[name].get("adapter") == trained.adapter
    slots[name]["query"] = student if same else {"adapter": trained.adapter, **student}
    return f"slots.{name}.query"


def _only(slots: Mapping[str, SlotConfig], kind: Kind, config: Path, registry: Registry) -> str:
    """The one slot whose adapter is of this kind."""
    fitting = [name for name, slot in slots.items() if registry.spec(slot.adapter).kind == kind]
    if len(fitting) != 1:
        raise ConfigError(
            f"it is not clear which slot the trained {kind} model is for",
            where=config,
            got=", ".join(fitting) or f"no {kind} slot",
            expected="one",
            do=f"name it: --slot NAME {nearest(kind, slots)}".strip(),
        )
    return fitting[0]


def _reranker(raw: Any, trained: Registration, config: Path) -> str:
    stages = raw.setdefault("search", {}).setdefault("rerank", [])
    if not stages:
        stages.append({})
    stages[0] = _section(stages[0], trained, config, tuple(RerankStage.model_fields))
    return "search.rerank[0]"


def _section(old: Any, trained: Registration, config: Path, section_keys: tuple[str, ...]) -> Any:
    """The section with adapter and model replaced; the same object, so that its comments stay."""
    options = old.get("options") if isinstance(old.get("options"), MutableMapping) else old
    for key in [key for key in options if key not in ("adapter", "options", *section_keys)]:
        if old.get("adapter") != trained.adapter or key in OF_THE_OLD_MODEL:
            del options[key]
    old["adapter"] = trained.adapter
    for key, value in trained.options.items():
        options[key] = relative(value, config) if key == "model" else value
    return old


def relative(model: object, config: Path) -> str:
    """The model folder as the config names it: relative if it is below the config's folder."""
    path = os.path.relpath(str(model), config.absolute().parent)
    return str(model) if path.startswith("..") else f"./{path}"
