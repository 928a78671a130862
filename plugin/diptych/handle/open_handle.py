"""Opens a collection: compares the config's slots and pipeline with the collection's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from diptych.config import check_adapters, load_config, parse_config
from diptych.config.models import Config, PopulateConfig, SearchConfig, SlotConfig
from diptych.config.problems import redacted
from diptych.config.stages import Linear, Rrf
from diptych.errors import CollectionError, CollectionNotFound, ConfigError, FollowWarning, brief
from diptych.handle.view import require_same
from diptych.media import MediaConfig, MediaStore
from diptych.metadata.models import CollectionMetadata, QueryEncoder, Reading, State
from diptych.registry import Registry
from diptych.runtime.validation_messages import error_path, is_unicode
from diptych.slots.slot import Slot, SlotMaker
from diptych.slots.unread import LEAST_TEXTS, UnfitSlot, unfit_fusion
from diptych.stores import is_store_url, open_store, open_store_of

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

FIRST_DEFAULT = Rrf()  # how slots were fused until 0.5 where the config named no fusion
APPLY = "to change it: diptych plan, then diptych apply"


def media_of(config: Config | None) -> MediaStore:
    """Reads media as the config says; without one below the working directory."""
    return MediaStore(config.media, config.source.folder) if config else MediaStore(MediaConfig(), Path.cwd())


def opened_slots(
    config: Config | None, metadata: CollectionMetadata | None, maker: SlotMaker, *, verify: bool
) -> tuple[dict[str, Slot], SearchConfig]:
    """The slots and the pipeline that a collection opens with.

    A config that asks for a change is refused, unless a swap to just that is under way: then the collection answers as
    it did until the cut-over.

    Raises:
        CollectionNotFound: there is neither a collection nor a config to make it from.
        CollectionError: the config asks for a change, and `verify` is set; or for other tenants.
    """
    if metadata is None:
        if config is None:
            raise CollectionNotFound("there is no collection and no config to create it from")
        return {name: maker.configured(name, wanted) for name, wanted in config.slots.items()}, config.search
    try:
        return _opened_slots(config, metadata, maker, verify=verify)
    except CollectionError as error:
        if verify and config is not None and not describes(config, metadata.live):
            error.add_note("other encoders are live; to keep them, restore their lines in the config:")
            for line in live_lines(config, metadata.live):
                error.add_note(f"  {line}")
            error.add_note("or leave out the config: --store and --collection open it with its live encoders")
        raise


def _opened_slots(
    config: Config | None, metadata: CollectionMetadata, maker: SlotMaker, *, verify: bool
) -> tuple[dict[str, Slot], SearchConfig]:
    live = metadata.live
    require_same(config, metadata)
    # During a swap to this config the file is ahead of the collection: it opens with what is live, not with the file.
    under_way = config is not None and metadata.swap is not None and describes(config, metadata.swap.target)
    if config is None or under_way or (not verify and config.slots.keys() != live.slots.keys()):
        stored = {
            name: maker.stored(name, generation, live.asking.get(name)) for name, generation in live.slots.items()
        }
        return stored, stored_search(metadata)
    _require_same_slots(config.slots, live)
    slots = {
        name: maker.configured(name, wanted, live.slots[name], live.asking.get(name))
        for name, wanted in config.slots.items()
    }
    if verify:
        # Only changed encoders are loaded here; the others are checked at their first use, which keeps opening fast.
        refuse_changes(slots, config, metadata)
    return slots, with_stored_default(config, metadata).search


def stored_search(metadata: CollectionMetadata) -> SearchConfig:
    """The pipeline stored in the collection; where that cannot search, the default one, with a warning."""
    try:
        return SearchConfig.model_validate({"fuse": FIRST_DEFAULT, **(metadata.search or {})})
    except ValidationError as error:
        problem = error_path(error.errors(include_url=False)[0])
        text = (
            f"the stored pipeline cannot search ({problem}): the default one does, until `diptych apply` stores another"
        )
        warnings.warn(text, FollowWarning, stacklevel=2)
        return SearchConfig(fuse=FIRST_DEFAULT)


def with_stored_default(config: Config, metadata: CollectionMetadata) -> Config:
    """The config; where it names no fusion, with the default that the collection was made with.

    That is RRF before the default changed, and a fusion by weights where a dense slot is unfit for the texts. So
    neither an upgrade nor an `apply` of something else changes the order of hits. Where a single slot retrieves,
    nothing is fused: what is stored stays there too, or `plan` would list a change that changes nothing.
    """
    stored = stored_search(metadata)
    fused, fuses = len(stored.retrieved(metadata.live.slots)) > 1, len(config.search.retrieved(config.slots)) > 1
    is_default = stored.fuse == FIRST_DEFAULT or _is_for_unfit(stored, config, metadata.live)
    if "fuse" in config.search.model_fields_set or not is_default or (fuses and not fused):
        return config
    return config.model_copy(update={"search": config.search.model_copy(update={"fuse": stored.fuse})})


def search_with_unfit(config: Config | None, search: SearchConfig, unfit: Sequence[UnfitSlot]) -> SearchConfig | None:
    """A new collection's search settings, with little weight for unfit slots; None where these change nothing.

    Args:
        config: decides where it names a fusion, or a score threshold, which is for the scores of one fusion.
        search: the settings as the collection is opened with them.
        unfit: the slots that cannot read the texts.
    """
    if config is None or {"fuse", "score_threshold"} & config.search.model_fields_set:
        return None
    names = {slot.name for slot in unfit if slot.kind == "dense" and slot.texts >= LEAST_TEXTS}
    if not names or not search.retrieved(config.slots).keys() - names:
        return None
    return search.model_copy(update={"fuse": unfit_fusion(names)})


def _is_for_unfit(stored: SearchConfig, config: Config, live: State) -> bool:
    """Whether the fusion is the default for slots that cannot read the texts, and the config changes none of them."""
    fusion, retrieved = stored.fuse, config.search.retrieved(config.slots)
    if not isinstance(fusion, Linear) or not fusion.weights or fusion != unfit_fusion(fusion.weights):
        return False
    return all(
        name in retrieved
        and name in live.slots
        and (config.slots[name].adapter, config.slots[name].options)
        == (live.slots[name].adapter, live.slots[name].options)
        for name in fusion.weights
    )


def refuse_changes(
    slots: Mapping[str, Slot], config: Config, metadata: CollectionMetadata, *, load: bool = True
) -> None:
    """Verify a changed encoder, if it may be loaded; refuse all other changes, which need plan and apply.

    Raises:
        CollectionError: there is one.
    """
    try:
        _require_same_slots(config.slots, metadata.live)
        for what, where, got, expected in _differences(slots, config, metadata, load=load):
            raise CollectionError(what, where=where, got=got, expected=expected, do=f"restore it; {APPLY}")
    except CollectionError as error:
        if metadata.previous is not None and describes(config, metadata.previous):
            last = metadata.history[-1]
            swapped = f"the collection has been swapped: {last.what} by {last.by} at {last.when}"
            error.add_note(f"{swapped}; the config names what was live before")
        raise


def _require_same_slots(configs: Mapping[str, SlotConfig], live: State) -> None:
    if configs.keys() != live.slots.keys():
        raise CollectionError(
            "config and collection name different slots",
            got=", ".join(sorted(configs)),
            expected=", ".join(sorted(live.slots)),
            do=f"give the config the collection's slots; {APPLY}",
        )


def _differences(
    slots: Mapping[str, Slot], config: Config, metadata: CollectionMetadata, *, load: bool
) -> Iterator[tuple[str, str, object, object]]:
    """What in a config asks for a change: the error, where it is, what the config names, and what is live.

    Loads a changed encoder, which checks that it made the vectors. Warns of a student that waits for an apply.
    """
    wanted_reading, live_reading = reading_of(config.populate), metadata.reading
    if wanted_reading != live_reading:  # the vectors were made from that
        said = [f"{list(one.input)} joined by {one.separator!r}" for one in (wanted_reading, live_reading)]
        what = "config and collection differ in what the encoders read of a document"
        yield what, "populate.input and populate.separator", said[0], said[1]
    for slot in slots.values():
        if slot.changed and load:
            _ = slot.encoder
        wanted, live, asking = config.slots[slot.name], slot.generation, slot.asking
        if live is not None and (storage := storage_of(slot.config)) != live.storage:
            default = "Qdrant's defaults"
            what = "config and collection differ in how vectors are stored"
            yield what, f"{slot.where}, storage", storage or default, live.storage or default
        if live is not None and slot.config.of != live.reading.modality:
            what = "config and collection differ in what a slot's encoder reads"
            yield what, f"{slot.where}, of", slot.config.of, live.reading.modality
        if waiting := waiting_student(wanted, asking):
            text = f"{slot.where}: its encoder makes the queries until diptych apply admits student {waiting}"
            warnings.warn(text, FollowWarning, stacklevel=2)
        elif asking is not None and not asks(wanted, asking):
            student = f"student {wanted.query.student}" if wanted.query else "no student"
            live_student = f"student {asking.generation.options.get('model')}"
            what = "config and collection differ in what makes the queries"
            yield what, f"{slot.where}, query", student, live_student


def name_of(name: str | None, config: Config | None) -> str:
    """The collection's name: the given one, else the config's.

    Raises:
        CollectionError: neither names one, or what is named is not text.
    """
    wanted = name or (config.collection if config else None)
    if wanted is None:
        raise CollectionError("no collection is named", do='Collection.open(store, "name") or a config file')
    if not isinstance(wanted, str) or not is_unicode(wanted) or "\0" in wanted:
        got = brief(wanted)
        raise CollectionError("this cannot be the name of a collection", got=got, expected="text that is valid Unicode")
    return wanted


def config_at(source: object, registry: Registry) -> Config:
    """The config given as `source`: an object, a mapping or a file.

    Raises:
        ConfigError, CollectionError: it cannot be used, or is none.
    """
    config = config_of(source, registry)
    if config is None:
        raise CollectionError("not a config", got=brief(source), expected="a config file, a mapping or a Config")
    return config


def config_of(source: object, registry: Registry) -> Config | None:
    """The config given as `source`, or None for a store or a client."""
    if isinstance(source, Path) or (isinstance(source, str) and not is_store_url(source)):
        source = load_config(source)
    elif isinstance(source, Mapping):
        source = parse_config(source)
    if not isinstance(source, Config):
        return None
    check_adapters(source, registry)
    return source


def client_of(
    source: Any, config: Config | None, registry: Registry, create: bool, api_key: str | None = None
) -> tuple[QdrantBase, bool]:
    """The client, and whether this call opened it.

    Raises:
        ConfigError: a key is given for something other than a store's URL.
    """
    if api_key is not None and (config is not None or not isinstance(source, str | list | tuple)):
        raise ConfigError(
            "api_key goes with a store's URL",
            got="a client, which has its own" if config is None else "a config, which names its own",
            do="write `api_key: ${QDRANT_API_KEY}` into the config" if config else "leave api_key out",
        )
    if config is not None:
        return open_store_of(config, registry=registry, create=create), True
    if isinstance(source, str | list | tuple):
        return open_store(source, api_key=api_key, registry=registry, create=create), True
    return source, False


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
