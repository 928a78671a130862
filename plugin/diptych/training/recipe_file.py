"""Reads a recipe file: YAML with `recipe: NAME` and the options of that recipe."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError, ValidationInfo

from diptych.config.load import with_paths
from diptych.config.problems import Source, problems_of, raise_problems
from diptych.config.yaml_files import Sort, check_values, read_yaml
from diptych.errors import AdapterFactoryError, ConfigError, DiptychError, MissingExtra, UnknownAdapter
from diptych.plugins.factory import load_object
from diptych.runtime.environment import conceal, interpolate
from diptych.specs import RecipeSpec
from diptych.training.contracts import Recipe, Watcher

if TYPE_CHECKING:
    from diptych.registry import Registry
from collections.abc import Iterator

from diptych.errors import DocumentError, PopulateError
from diptych.media import Modality, RawMedia
from diptych.populate.rejects import Rejected
from diptych.populate.sources.open_source import open_source
from diptych.protocols import TokenLimit
from diptych.types import Document

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
