"""Training: reads a recipe file, runs the recipe it names, and enters the trained model in a config.

Recipes come from plugins through the hook `diptych_register_recipes`; nothing here imports torch. Begin with `Recipe`,
what a recipe must do; `load_recipe` reads a file, `register` enters a model.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

from pydantic import AfterValidator, BaseModel, ValidationError, ValidationInfo

from diptych.config import check_adapters, load_config
from diptych.config.adapters import check_text
from diptych.config.load import Sort, as_yaml, check_values, read_lines, read_yaml, replace_config, with_paths
from diptych.config.problems import Source, problems_of, raise_problems
from diptych.config.section import fields_of
from diptych.config.stages import Rerank
from diptych.errors import (
    AdapterFactoryError,
    ConfigError,
    DiptychError,
    DocumentError,
    MissingExtra,
    PopulateError,
    UnknownAdapter,
)
from diptych.factory import load_object
from diptych.media import Modality, RawMedia
from diptych.populate.rejects import Rejected
from diptych.populate.sources.open_source import open_source
from diptych.protocols import Kind, TokenLimit
from diptych.runtime.environment import conceal, interpolate
from diptych.runtime.validation_messages import nearest
from diptych.specs import RecipeSpec
from diptych.types import Document

if TYPE_CHECKING:
    from diptych.registry import Registry

__all__ = [
    "Recipe",
    "RecipeFile",
    "Registration",
    "RelativePath",
    "Shown",
    "TrainReport",
    "Watcher",
    "load_recipe",
    "options_model",
    "read_documents",
    "read_media",
    "register",
    "slot_for",
    "unread_warning",
]


class Watcher(Protocol):
    """Receives the progress of a training; stages as in `diptych.populate.Progress`, and messages."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts; `total` steps are expected, None when that is not known."""
        ...

    def advance(self, stage: str, n: int) -> None:
        """`n` more steps are done."""
        ...

    def say(self, sentence: str) -> None:
        """A message for the person who watches the training."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """How a config uses a trained model.

    Args:
        adapter: name of the adapter that serves it.
        options: of the adapter, `model` among them as an absolute path.
        name: tells several models of one training apart, such as `exit_2`; "" for the main one.
        queries: whether it is a student, which makes a slot's queries and leaves its documents alone.
        of: what it reads of a document: `text`, or a modality, which the slot's `of` then says.
    """

    adapter: str
    options: Mapping[str, object]
    name: str = ""
    queries: bool = False
    of: str = "text"

    @property
    def section(self) -> dict[str, object]:
        """The keys of a slot's section beside `adapter`: the options, and `of` for a modality."""
        return {**self.options, **({} if self.of == "text" else {"of": self.of})}


@dataclass(frozen=True, slots=True)
class TrainReport:
    """The result of a training.

    Args:
        recipe: its name.
        kind: of what was trained: dense, sparse, multivector or reranker.
        folder: of the run, absolute; the main model lies there.
        models: how what was trained is used; the main one first.
        measured: values by metric on the queries held out, of the model before and after: `{"before": {...}, ...}`;
            of a reranker, under "first stage", those of the order that it is given, too.
        steps: of the optimizer, all runs together.
        seconds: of this run.
        resumed_at: the step from which it went on; 0 for a run from the start.
        remarks: what a reader of the figures should know, one sentence each.
        chosen_by: the metric that chose among checkpoints; higher is better.
    """

    recipe: str
    kind: str
    folder: str
    models: tuple[Registration, ...]
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    resumed_at: int = 0
    remarks: tuple[str, ...] = ()
    chosen_by: str = "nDCG@10"


class Recipe(Protocol):
    """One training, made by the factory of a `RecipeSpec` from its options and a `Watcher`."""

    def prepare(self) -> Sequence[str]:
        """Do the steps before training, such as mining negatives, and keep what they give in the run's folder.

        What is kept there is not made again. Returns a sentence on each.
        """
        ...

    def train(self) -> TrainReport:
        """Prepare what is not prepared, train, measure and save; continues a training that was killed."""
        ...


@runtime_checkable
class Shown(Protocol):
    """A recipe that can show its prepared data; optional."""

    def prepared_examples(self) -> Sequence[str]:
        """The prepared data: where it is and some examples, a line each."""
        ...


RECIPE = Sort(
    "recipe",
    "write one: `recipe: NAME` and its options; `diptych train --list` lists names, and `--options NAME` the options",
)

REMOVED = dict.fromkeys(("dual_head", "dual_view", "lexlip_text", "mw", "tas_balanced"), "97ce00b1")
"""Recipes that were measured without a gain, and the last commit that has them."""


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path.cwd())
    return Path(folder, path.expanduser()).resolve()


RelativePath = Annotated[Path, AfterValidator(_from_folder)]
"""A path in the options of a recipe; a relative one starts at the folder of the recipe file."""


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A recipe that was read and checked.

    Args:
        spec: the recipe.
        options: its options, an instance of the spec's model.
        path: of the file, None for options from Python.
    """

    spec: RecipeSpec
    options: BaseModel
    path: Path | None = None

    def make(self, watcher: Watcher) -> Recipe:
        """The training, ready to prepare and run.

        Raises:
            AdapterFactoryError: the recipe's factory raised.
        """
        factory = load_object(self.spec.factory, f"recipe {self.spec.name!r}")
        try:
            recipe: Recipe = factory(self.options, watcher)
        except DiptychError:
            raise
        except Exception as error:
            raise AdapterFactoryError(
                f"the factory of recipe {self.spec.name!r} failed",
                where=self.spec.factory,
                got=f"{type(error).__name__}: {error}",
            ) from error
        return recipe


def load_recipe(
    given: str | Path | Mapping[str, Any], registry: Registry, *, changes: Mapping[str, Any] | None = None
) -> RecipeFile:
    """The recipe of a file, or of a mapping.

    Args:
        given: a YAML file, or what would stand in one.
        registry: where recipes come from.
        changes: options that replace those of the file, by dotted name: `{"training.epochs": 1}`; errors call them
            `--set training.epochs`.

    Raises:
        ConfigError: the file cannot be read, or has an option that the recipe does not take.
        UnknownAdapter: no plugin brings the recipe.
        MissingExtra: what it needs is not installed.
    """
    raw, source = (dict(given), Source()) if isinstance(given, Mapping) else read_yaml(given, RECIPE)
    for name, value in (changes or {}).items():
        raw = _changed(raw, name.split("."), value)
    source = replace(source, given={tuple(name.split(".")): f"--set {name}" for name in changes or {}})
    check_values(raw, source)
    recipe, where = raw.get("recipe"), source.where(("recipe",))
    if not isinstance(recipe, str):
        raise ConfigError(
            "the file names no recipe",
            where=source.where(()),
            got="" if recipe is None else repr(recipe),
            expected="a line such as recipe: contrastive",
            do="`diptych train --list` lists all",
        )
    try:
        spec = registry.recipes.get(recipe, where=where)
    except UnknownAdapter as error:
        if recipe not in REMOVED:
            raise
        what, do = f"recipe {recipe!r} was removed: it was not shown to help", "`diptych train --list` lists the others"
        figures = (
            f"docs/research/methods/{recipe}.md has the figures; {REMOVED[recipe]} is the last commit with the recipe"
        )
        raise UnknownAdapter(what, where=where, expected=error.expected, do=f"{do}; {figures}") from None
    model, options = options_model(spec), {key: value for key, value in raw.items() if key != "recipe"}
    filled = with_paths(interpolate(options, where=source.name), source.folder)
    validated, problems = None, []
    try:
        validated = model.model_validate(filled, context={"folder": source.folder})
    except ValidationError as error:  # which holds the values of variables, so it is no cause of what is raised
        found = problems_of(error, model, options)
        problems = [replace(p, got=conceal(p.got, options), expected=conceal(p.expected, options)) for p in found]
    raise_problems(problems, source)
    assert validated is not None  # else there are problems
    return RecipeFile(spec, validated, source.path)


def options_model(spec: RecipeSpec) -> type[BaseModel]:
    """The options that a recipe takes. Imports the recipe's packages.

    Raises:
        MissingExtra: they are not installed.
        AdapterFactoryError: the model of the options cannot be imported.
    """
    missing = [name for name in spec.requires if importlib.util.find_spec(name) is None]
    if missing:
        package = spec.extra or " ".join(missing)
        what = f"recipe {spec.name!r} needs {', '.join(missing)}"
        raise MissingExtra(what, where=spec.options, do=f"pip install '{package}'", spec=spec)
    model: type[BaseModel] = load_object(spec.options, f"options of recipe {spec.name!r}")
    return model


def _changed(raw: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    first, inner_keys = keys[0], keys[1:]
    inner = raw.get(first)
    return {
        **raw,
        first: _changed(inner if isinstance(inner, Mapping) else {}, inner_keys, value) if inner_keys else value,
    }


def read_documents(path: str | Path) -> Iterator[Document]:
    """The documents at `path`: any source that `diptych populate` reads. Entries without any text are left out.

    Raises:
        PopulateError: there is nothing to read, or an entry is not a document; its place is named.
    """
    for position, raw in enumerate(open_source(path), 1):
        if isinstance(raw, Rejected):
            raise PopulateError("an entry is not a document", where=f"{path}, {raw.where}", got=raw.reason)
        if not any(str(raw.get(part) or "").strip() for part in ("text", "title")):
            continue
        try:
            yield Document.from_mapping(raw)
        except DocumentError as error:
            raise PopulateError(
                "an entry is not a document", where=f"{path}, entry {position}", got=str(error)
            ) from error


def read_media(path: str | Path, modality: Modality, *, column: str | None = None) -> Iterator[tuple[str, RawMedia]]:
    """Ids and media of one modality at `path`; entries without it are left out.

    Args:
        path: a folder of such files, or any other source that `diptych populate` reads.
        modality: what is read.
        column: that holds it, or key of JSON lines; the key `media` when not given.

    Raises:
        PopulateError: there is nothing to read, or an entry is not a document; its place is named.
    """
    source = Path(path)
    columns = {column: modality} if column else None
    for raw in open_source(source, format=modality if source.is_dir() else None, media=columns):
        if isinstance(raw, Rejected):
            raise PopulateError("an entry is not a document", where=f"{path}, {raw.where}", got=raw.reason)
        media = raw.get("media")
        item = media.get(modality) if isinstance(media, Mapping) else None
        if item is not None:
            yield str(raw.get("id", raw.get("_id"))), item


def unread_warning(model: TokenLimit, documents: Sequence[str]) -> str:
    """A warning if more than a tenth of the tokens of a sample is unread, else ""."""
    from diptych.slots.unread import FIRST, MOST_UNREAD, unread_by

    sample = [text for text in documents if text][:: max(1, len(documents) // FIRST)]
    unread = unread_by(model, sample)
    if unread is None or unread.share <= MOST_UNREAD:
        return ""
    return (
        f"warning: {replace(unread, sampled=len(sample) < len(documents))}, and nothing is learned from them: "
        "raise training.max_length as far as the model can read, or train on passages"
    )


OF_THE_OLD_MODEL = (
    "model",
    "revision",
    "truncate_dim",
    "query_prompt",
    "document_prompt",
    "max_length",
)


def register(config: Path, trained: Registration, registry: Registry, *, slot: str | None = None) -> str:
    """Make a slot, or the reranker, of a config file use a trained model.

    The slot's `of` becomes the modality of a model of media. Its storage stays, and its other options when the adapter
    stays: backend, precision, device, batch_size. An encoder without a slot of its kind needs `slot`, which is then
    added. A reranker replaces the first one there is.

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
    name = slot_for(config, kind, registry, slot=slot, of=None if trained.of == "text" else trained.of)
    source = config.read_text("utf-8-sig")
    raw: MutableMapping[str, Any] = read_lines(source)
    if name is None:
        place, stages = "search.rerank[0]", raw.setdefault("search", {}).setdefault("rerank", [])
        if not stages:
            stages.append({})
        stages[0] = _section(stages[0], trained, config, registry, tuple(fields_of(Rerank)))
    elif trained.queries:
        place = _student(raw.setdefault("slots", {}), trained, config, name)
    else:
        place, slots = f"slots.{name}", raw.setdefault("slots", {})
        slots[name] = _section(slots.get(name) or {}, trained, config, registry, ("of", "storage"))
        if trained.of != "text":
            slots[name]["of"] = trained.of
    text = as_yaml(raw)
    check_text(text, registry)
    replace_config(config, text)
    return place


def slot_for(
    config: Path, kind: Kind, registry: Registry, *, slot: str | None = None, of: str | None = None
) -> str | None:
    """The slot of a config file that a model of this kind would go to; None for a reranker.

    Args:
        of: the modality that it must read unless `slot` names one; any when not given.

    Raises:
        ConfigError: the config cannot be read, or it is not clear which slot is meant.
    """
    loaded = load_config(config)
    check_adapters(loaded, registry)
    if kind == "reranker" or slot:
        return None if kind == "reranker" else slot
    of_kind = [name for name, own in loaded.slots.items() if registry.spec(own.adapter).kind == kind]
    fitting = [name for name in of_kind if of is None or loaded.slots[name].of == of]
    if len(fitting) != 1:
        what = f"{kind} model" if of is None else f"{kind} model of {of}"
        raise ConfigError(
            f"it is not clear which slot the trained {what} is for",
            where=config,
            got=", ".join(fitting) or (f"no {kind} slot" if of is None else f"no {kind} slot of: {of}"),
            expected="one",
            do=f"name it: --slot NAME {nearest(kind, loaded.slots)}".strip(),
        )
    return fitting[0]


def _student(slots: Any, trained: Registration, config: Path, name: str) -> str:
    """The slot's `query` names the student; the slot must be there, since its encoder makes the documents' vectors."""
    if not slots.get(name):
        raise ConfigError(
            "a student needs the slot of its teacher, and the config has no such slot",
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


def _section(old: Any, trained: Registration, config: Path, registry: Registry, keys: tuple[str, ...]) -> Any:
    """The section with adapter and model replaced; the same object, so that its comments stay."""
    options = old.get("options") if isinstance(old.get("options"), MutableMapping) else old
    maker, before = registry.spec(trained.adapter).with_options(trained.options), old.get("adapter")
    same = before and registry.spec(before).with_options(options).factory == maker.factory
    for key in [key for key in options if key not in ("adapter", "options", *keys)]:
        if not same or key in OF_THE_OLD_MODEL:
            del options[key]
    _replace(old, "adapter", trained.adapter)
    for key, value in trained.options.items():
        _replace(options, key, relative(value, config) if key == "model" else value)
    return old


def _replace(section: Any, key: str, value: object) -> None:
    """Set a value. A comment at the end of its line is of the value before, and goes with it."""
    comments = getattr(getattr(section, "ca", None), "items", {})
    token = comments[key][2] if key in comments else None
    if token is not None and section.get(key) != value:
        token.value = "".join(token.value.partition("\n")[1:])  # comments on lines below belong to what follows
    section[key] = value


def relative(model: object, config: Path) -> str:
    """The model folder as the config names it: relative if it is below the config's folder."""
    path = os.path.relpath(str(model), config.absolute().parent)
    return str(model) if path.startswith("..") else f"./{path}"
