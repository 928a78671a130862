"""Sides: what a query can be asked of, such as the whole pipeline, one slot, or another generation during a swap.

`Question` is what the page asks of one.

| id | what answers |
|---|---|
| `pipeline` | the collection as it answers everybody |
| `slot:NAME` | one slot alone |
| `part:NAME` | the pipeline up to a stage, by the names of `diptych evaluate`, such as `part:rrf` |
| `state:building`, `state:kept` | the whole pipeline as it will be after the swap, or was before the last cut-over |
| `generation:VECTOR` | one slot alone by a vector that is being built, or kept for a rollback |
| `{"yaml": TEXT}` | the whole pipeline with another `search` section |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diptych import Collection
from diptych.config.load import Sort, check_values, parse_yaml
from diptych.config.models import SearchConfig, pipeline_problems
from diptych.config.problems import Problem, Source, problems_of, raise_problems, redacted
from diptych.config.stages import Rerank
from diptych.errors import ConfigError, SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import stored_search
from diptych.handle.view import Memo, View
from diptych.metadata.models import CollectionMetadata, Generation, State
from diptych.runtime.validation_messages import nearest
from diptych.search import Pipeline
from diptych.search.filters import read_filter
from diptych.search.options import SearchOptions
from diptych.search.pipeline import parts
from diptych.search.store_calls import read_store
from diptych.slots.slot import Slot
from diptych.types import Query
from diptych_serve.service.admission import Refused
from diptych_serve.service.context import Serving
from diptych_serve.service.requests import Body, InlineMedia, require_question, require_room

MOST = 100  # hits of an answer, which a page shows
Words: TypeAlias = Annotated[str, Field(max_length=1_000_000)]

MOST_CANDIDATES, MOST_RERANKED = 10_000, 1000
_NAME, _SORT = Path("pipeline"), Sort("pipeline", "write a search section, such as retrieve: {dense: 100}")

PIPELINE, BUILDING, KEPT = "pipeline", "state:building", "state:kept"
_OF_SWAP = ("state:", "generation:")
MOST_VIEWS = 32  # of states and own sections that a collection keeps


class OwnSearch(Body):
    """A side of one's own: the `search` section of a config as YAML."""

    yaml: Annotated[str, Field(max_length=20_000)]


SideId: TypeAlias = Annotated[str, Field(max_length=1000)] | OwnSearch


@dataclass(frozen=True, slots=True)
class Side:
    """One thing that can be asked.

    Args:
        id: names it in requests and links.
        label: for people.
        kind: `pipeline`, `slot`, `part`, `state`, `generation` or `yaml`.
        view: what is searched.
        pipeline: the stages; None for those of the view's own settings.
    """

    id: str
    label: str
    kind: str
    view: CollectionHandle | View
    pipeline: Pipeline | None = None


def sides_of(collection: Collection) -> Iterator[Side]:
    """All sides of a collection that need no text from the user, the whole pipeline first. Loads no encoder.

    Raises:
        CollectionNotFound: nothing has been populated yet.
    """
    yield Side(PIPELINE, "whole pipeline", PIPELINE, collection.handle)
    yield from _states(collection.handle)
    yield from _live(collection.handle)


def side_of(collection: Collection, wanted: SideId) -> Side:
    """The side that is asked for.

    Raises:
        SearchError: there is none of this id.
        Refused: YAML that is no `search` section of this collection.
    """
    if isinstance(wanted, OwnSearch):
        return _own(collection.handle, wanted.yaml)
    if wanted == PIPELINE:
        return Side(PIPELINE, "whole pipeline", PIPELINE, collection.handle)
    found = (_states if wanted.startswith(_OF_SWAP) else _live)(collection.handle)
    known = {side.id: side for side in found}
    if wanted in known:
        return known[wanted]
    for name, slot in collection.handle.now().slots.items():
        if slot.generation and wanted == f"generation:{slot.generation.vector}":
            return side_of(collection, f"slot:{name}")  # a cut-over or a rollback has made it live
    names, where = [PIPELINE, *known], f"collection {collection.name!r}"
    do = nearest(wanted, names) or "choose another side; those of a swap exist from diptych apply until diptych finish"
    raise SearchError(f"there is no side {wanted[:80]!r}", where=where, expected=", ".join(names), do=do)


def _live(handle: CollectionHandle) -> Iterator[Side]:
    """Each slot alone, and the pipeline up to each of its stages."""
    view = handle.now()
    for name in view.slots:
        yield Side(f"slot:{name}", f"{name} alone", "slot", handle, Pipeline.of_slot(name, view.search_config))
    whole = Pipeline.from_config(view.search_config, view.slots)
    for name, part in parts(whole).items():
        if part != whole and name not in view.slots:
            yield Side(f"part:{name}", f"up to {name}", "part", handle, part)


@Memo
def kept_views(view: View) -> dict[str, tuple[object, View]]:
    """Views of other states and search settings, by side, each with what it was made of."""
    return {}


def _states(handle: CollectionHandle) -> Iterator[Side]:
    """The state that a swap builds, the one it left, and each of their vectors that is not live.

    The metadata are read now: the view may be some seconds behind what another process does.
    """
    metadata = read_store(handle.view, handle.read)
    kept = kept_views(handle.view)
    for key, state in ((BUILDING, metadata.swap), (KEPT, metadata.previous)):
        if state is None:
            kept.pop(key, None)  # with the encoders that it has loaded
    if swap := metadata.swap:
        view = _at(handle, metadata, BUILDING, swap.target, swap.search)
        yield Side(BUILDING, f"after the swap ({_changes(metadata, swap.target, swap.search)})", "state", view)
        yield from _generations(view, swap.building, metadata, "being built")
    if before := metadata.previous:
        view = _at(handle, metadata, KEPT, before, metadata.previous_search)
        when = "before the rollback" if rolled_back(metadata) else "before the cut-over"
        yield Side(KEPT, f"{when} ({_changes(metadata, before, metadata.previous_search)})", "state", view)
        yield from _generations(view, before.slots, metadata, "kept")


def _generations(
    view: View, slots: Mapping[str, Generation], metadata: CollectionMetadata, role: str
) -> Iterator[Side]:
    live = metadata.live.vectors()
    for name, generation in slots.items():
        if generation.vector not in live:
            alone = Pipeline.of_slot(name, view.search_config)
            made = difference(generation, beside(metadata, name, generation))
            label = f"{name} generation {generation.number} ({role}, {made})"
            yield Side(f"generation:{generation.vector}", label, "generation", view, alone)


def _at(
    handle: CollectionHandle, metadata: CollectionMetadata, key: str, state: State, search: Mapping[str, Any] | None
) -> View:
    """The view of a state, made once for each metadata of the collection; encoders that are loaded are used again."""
    views = kept_views(handle.view)
    known = views.get(key)
    if known and known[0] == metadata:
        return known[1]
    settings = metadata.model_copy(update={"search": dict(search)}) if search is not None else metadata
    made = handle.at(state, metadata, stored_search(settings))
    if known:
        before = known[1].slots
        same = {
            name: before[name]  # with its loaded encoder
            for name, slot in made.slots.items()
            if name in before and (before[name].generation, before[name].asking) == (slot.generation, slot.asking)
        }
        made = replace(made, slots={**made.slots, **same})
    _keep(views, key, metadata, made)
    return made


def _own(handle: CollectionHandle, text: str) -> Side:
    """The whole pipeline with the `search` section of a text."""
    view = handle.now()
    views = kept_views(view)
    known = views.get(f"yaml {text}")
    if known is None or known[0] is not view:
        search: SearchConfig = own_search(text, view.search_config, view.slots)
        known = view, replace(view, search_config=search, memo={})
        _keep(views, f"yaml {text}", *known)
    return Side("yaml", "own pipeline", "yaml", known[1])


def _keep(views: dict[str, tuple[object, View]], key: str, of: object, made: View) -> None:
    while len(views) >= MOST_VIEWS:
        views.pop(next(iter(views)), None)
    views[key] = of, made


def _changes(metadata: CollectionMetadata, state: State, search: Mapping[str, Any] | None) -> str:
    """How a state differs from the live one: encoders, missing slots, or only search settings."""
    live, slots = metadata.live.vectors(), state.slots
    changed = [
        f"{name} generation {generation.number}, {difference(generation, beside(metadata, name, generation))}"
        for name, generation in slots.items()
        if generation.vector not in live
    ]
    if gone := [name for name in metadata.live.slots if name not in slots]:
        changed.append(f"without {' and '.join(gone)}")
    now, other = metadata.search or {}, (metadata.search if search is None else search) or {}
    keys = [key for key in {**now, **other} if now.get(key) != other.get(key)]
    return "; ".join(changed) or " ".join(["other search settings", *([f"({', '.join(keys)})"] if keys else [])])


class _Section(BaseModel):
    """A config of one section."""

    model_config = ConfigDict(extra="forbid")

    search: SearchConfig


def own_search(text: str, live: SearchConfig, slots: Mapping[str, Slot]) -> SearchConfig:
    """The settings that a `search` section says, with or without its heading.

    Rerankers can only be those of the live settings: others would be code and addresses that the server is made to
    load by whoever sees the page.

    Args:
        text: YAML.
        live: the collection's own settings.
        slots: the collection's.

    Raises:
        Refused: it is no such section, or asks too much of the server; with the line.
    """
    problems: list[Problem] = []
    try:
        raw, source = parse_yaml(text, _NAME, _SORT) if text.strip() else ({}, Source(_NAME))
        if "search" not in raw:
            raw, source = {"search": raw}, Source(_NAME, {("search", *key): line for key, line in source.lines.items()})
            check_values(raw, source)
        try:
            found = _Section.model_validate(raw).search
        except ValidationError as error:
            problems = problems_of(error, _Section, raw)
        raise_problems(problems, source)
        raise_problems([*pipeline_problems(found, slots), *_too_much(found), *_other_rerankers(found, live)], source)
    except ConfigError as error:
        raise Refused(400, str(error), code="config_error", param="side.yaml") from None
    rerank = [
        replace(stage, options=next(own.options for own in live.rerank if _is_same(stage, own)))
        for stage in found.rerank
    ]
    # What the server remembers is not for a page to say.
    return found.model_copy(update={"rerank": rerank, "remember": live.remember})


def _too_much(search: SearchConfig) -> Iterator[Problem]:
    stages = (("rescore", search.rescore), ("diversify", search.diversify))
    widths: list[tuple[tuple[Any, ...], int, int]] = [
        *((("retrieve", name), width, MOST_CANDIDATES) for name, width in search.retrieve.items()),
        *(((name, "candidates"), stage.candidates, MOST_CANDIDATES) for name, stage in stages if stage),
        *((("rerank", place), stage.candidates, MOST_RERANKED) for place, stage in enumerate(search.rerank)),
    ]
    for location, width, most in widths:
        if width > most:
            what = "more candidates than Studio asks a server for"
            yield Problem(("search", *location), what, str(width), f"at most {most}")


def _other_rerankers(search: SearchConfig, live: SearchConfig) -> Iterator[Problem]:
    known = ", ".join(dict.fromkeys(stage.label for stage in live.rerank)) or "none: its config has no reranker"
    for place, stage in enumerate(search.rerank):
        if not any(_is_same(stage, own) for own in live.rerank):
            what = "Studio runs only the rerankers of the collection's own pipeline, with their options"
            do = "put another one into the config, diptych.yaml, to try it"
            yield Problem(("search", "rerank", place), what, got=stage.label, expected=known, do=do)


def _is_same(stage: Rerank, own: Rerank) -> bool:
    """Whether it is this reranker; its options may be left out, or be written as they are there."""
    return stage.adapter == own.adapter and (not stage.options or stage.options == own.options)


class MixedQuery(Body):
    """A query of media, perhaps with words."""

    text: Words = ""
    media: InlineMedia | None = None


class Asked(Body):
    """A query of one side."""

    collection: str | None = None
    side: SideId = PIPELINE
    query: Words | MixedQuery
    filter: dict[str, Any] | None = None
    tenant: str | None = None

    @property
    def text(self) -> str:
        """The query's words."""
        return self.query if isinstance(self.query, str) else self.query.text

    @property
    def media(self) -> dict[str, Any]:
        """The query's media by modality."""
        found = {} if isinstance(self.query, str) else self.query.media or {}
        return {str(name): raw for name, raw in found.items()}

    @property
    def question(self) -> str | Query:
        """The query, with its media if it has any."""
        return Query(self.text, media=self.media) if self.media else self.text


class Question(Asked):
    """`POST /studio/api/search`: hits of one side."""

    limit: Annotated[int, Field(ge=1, le=MOST)] | None = None


class DocumentQuestion(Asked):
    """`POST /studio/api/locate`: where a document stands."""

    id: Annotated[str, Field(min_length=1, max_length=1024)]


def checked(serving: Serving, body: Asked) -> Collection:
    """The collection that is asked.

    Raises:
        DiptychError, Refused: the question names another collection, is too long, or names a file or address.
    """
    collection = serving.served.collection(body.collection)
    require_room(serving.limits, [body.text], param="query")
    require_question(collection, [body.text], body.media)
    return collection


def options_of(body: Asked, side: Side, limit: int | None = None) -> SearchOptions:
    """The question's options of a search: at most the hits that a page shows, and that the side's stages pass on."""
    view = side.view.now()
    pipeline = side.pipeline or Pipeline.from_config(view.search_config, view.slots)
    most = min(limit or view.search_config.limit, pipeline.depth or MOST, MOST)
    filter = None if body.filter is None else read_filter(body.filter)
    return SearchOptions(pipeline=side.pipeline, limit=most, filter=filter, tenant=body.tenant)


def maker(generation: Generation) -> str:
    """The encoder and the generation's number: `bm25, generation 2`."""
    return f"{encoder(generation)}, generation {generation.number}"


def encoder(generation: Generation, beside: Generation | None = None) -> str:
    """The encoder, with the options in which it differs from that of another generation: `bm25, language: german`."""
    model = str(generation.options.get("model", "")).rpartition("/")[2]
    return ", ".join([f"{generation.adapter} {model}".strip(), *own_options(generation, beside)])


def difference(generation: Generation, beside: Generation | None) -> str:
    """How a generation differs from another: the options that differ, else the encoder."""
    options = own_options(generation, beside)
    alike = beside is not None and beside.options.get("model") == generation.options.get("model")
    return ", ".join(options) if options and alike else encoder(generation, beside)


def own_options(generation: Generation, beside: Generation | None) -> list[str]:
    """The options, without the model, in which a generation differs from another by the same adapter."""
    if beside is None or beside.adapter != generation.adapter:
        return []
    mine, other = generation.options, beside.options
    names = [name for name in {**mine, **other} if name != "model" and mine.get(name) != other.get(name)]
    shown = redacted(mine)
    texts = {name: "unset" if shown.get(name) is None else str(shown[name]) for name in names}
    return [f"{name}: {text if len(text) <= 40 else f'{text[:39]}…'}" for name, text in texts.items()]


def beside(metadata: CollectionMetadata, slot: str, generation: Generation) -> Generation | None:
    """The slot's other generation, which a generation has to be told from; None where there is no other."""
    building = metadata.swap.building if metadata.swap else {}
    before = metadata.previous.slots if metadata.previous else {}
    all_slots: tuple[Mapping[str, Generation], ...] = (metadata.live.slots, building, before)
    others = (slots[slot] for slots in all_slots if slot in slots)
    return next((one for one in others if one.number != generation.number), None)


def rolled_back(metadata: CollectionMetadata) -> bool:
    """Whether the last cut-over is taken back, so that a rollback would go forward again: that is recorded alike."""
    if metadata.swap is not None or metadata.previous is None:
        return False
    whats = [event.what for event in reversed(metadata.history)]
    since = whats[: whats.index("cut over")] if "cut over" in whats else whats
    return since.count("rolled back") % 2 == 1
