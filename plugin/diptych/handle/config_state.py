"""Compares the slots of a config with a state of a collection, and writes a state as lines of a config."""

from __future__ import annotations

from io import StringIO
from typing import Any

from diptych.config.models import Config, PopulateConfig, SlotConfig
from diptych.config.secrets import redacted
from diptych.metadata.models import CollectionMetadata, QueryEncoder, Reading, State


def reading_of(config: PopulateConfig, slot: SlotConfig | None = None) -> Reading:
    """What the config lets encoders read of a document: that of a slot, or of those that read texts."""
    modality = slot.of if slot else "text"
    return Reading(input=tuple(config.input), separator=config.separator, modality=modality)


def storage_of(config: SlotConfig) -> dict[str, Any]:
    """The slot's storage section in the form that generations store."""
    return config.storage.model_dump(mode="json", exclude_none=True)


def describes(config: Config, state: State) -> bool:
    """Whether the config's slots are exactly those of the state."""
    same = config.slots.keys() == state.slots.keys()
    return same and all(_describes_slot(config, state, name) for name in config.slots)


def asks(config: SlotConfig, asking: QueryEncoder | None) -> bool:
    """Whether config and state have the same student, or both have none."""
    wanted = config.student
    if wanted is None or asking is None or not asking.student:
        return wanted is None and (asking is None or not asking.student)
    return (wanted.adapter, wanted.options) == (asking.generation.adapter, asking.generation.options)


def waiting_student(config: SlotConfig, asking: QueryEncoder | None) -> str:
    """The student that the config names while no student is live: an apply is yet to admit it; else empty."""
    live = asking is not None and asking.student
    return config.query.student if config.query is not None and not live else ""


def lost_modalities(config: Config, metadata: CollectionMetadata) -> list[str]:
    """A sentence for each slot that reads media in the collection and texts by the config."""
    read = {name: live.reading.modality for name, live in metadata.live.slots.items()}
    return [
        f"slot {name!r} no longer reads {read[name]}, but texts: if unintended, set of: {read[name]} in the slot"
        for name, slot in config.slots.items()
        if slot.of == "text" and read.get(name, "text") != "text"
    ]


def live_lines(config: Config, live: State) -> list[str]:
    """The lines of a config file, as YAML, that would make it name what is live; without secrets."""
    changed = [name for name in live.slots if not _describes_slot(config, live, name)]
    lines = [f"  {name}: {_flow(_live_slot(live, name))}" for name in changed]
    lines += [f"  # remove {name}" for name in config.slots if name not in live.slots]
    text = ["slots:", *lines] if lines else []
    for name in changed:
        reading = live.slots[name].reading
        if reading != reading_of(config.populate, config.slots.get(name)) and reading.modality == "text":
            text.append(f"populate: {_flow({'input': list(reading.input), 'separator': reading.separator})}")
            break
    return text


def _describes_slot(config: Config, state: State, name: str) -> bool:
    """Whether a slot of the state is in the config as it is."""
    if name not in config.slots:
        return False
    wanted, have = config.slots[name], state.slots[name]
    return (wanted.adapter, wanted.options, storage_of(wanted), reading_of(config.populate, wanted)) == (
        have.adapter,
        have.options,
        have.storage,
        have.reading,
    ) and asks(wanted, state.asking.get(name))


def _live_slot(live: State, name: str) -> dict[str, Any]:
    """A slot as a config file describes it."""
    generation, asking = live.slots[name], live.asking.get(name)
    slot: dict[str, Any] = {"adapter": generation.adapter, **redacted(generation.options)}
    if generation.reading.modality != "text":
        slot["of"] = generation.reading.modality
    if asking is not None and asking.student:
        student = asking.generation
        options = {key: value for key, value in redacted(student.options).items() if key not in ("model", "passages")}
        adapter = {"adapter": student.adapter} if student.adapter != generation.adapter else {}
        slot["query"] = {"student": student.options.get("model"), **adapter, **options}
    return {**slot, **({"storage": generation.storage} if generation.storage else {})}


def _flow(value: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)  # its attributes have no types
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = True, 100_000, False
    text = StringIO()
    yaml.dump(value, text)
    return text.getvalue().strip()
