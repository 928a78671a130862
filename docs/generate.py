"""Writes the generated pages of docs/reference: config.md, diptych.schema.json, cli.md, recipes.md.

Run `python docs/generate.py` after a change of the config models, of an adapter's options or of the command line; a
test compares the committed pages with what this would write.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel
from typer.main import get_command

import diptych_adapters.hooks
import diptych_experimental.hooks
import diptych_training.hooks
from diptych import Registry
from diptych.cli import app
from diptych.cli.adapters import type_of
from diptych.cli.train import flat_options
from diptych.config import json_schema
from diptych.config.models import Config
from diptych.factory import alike, options_model
from diptych.specs import AdapterSpec, RecipeSpec
from diptych.training import options_model as recipe_options
from diptych_training.options import RetrievalOptions

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py; change the code it reads, not this page. -->\n"


def pages() -> dict[Path, str]:
    """Each generated file with its text."""
    registry = Registry(diptych_adapters.hooks, diptych_training.hooks, diptych_experimental.hooks, installed=False)
    schema = json.dumps(json_schema(registry), indent=1, ensure_ascii=False) + "\n"
    return {
        REFERENCE / "config.md": "\n".join(_config_page(registry)),
        REFERENCE / "diptych.schema.json": schema,
        REFERENCE / "cli.md": "\n".join(_cli_page()),
        REFERENCE / "recipes.md": "\n".join(_recipes_page(registry)),
    }


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, "utf-8")


CONFIG_HEAD = """\
# diptych.yaml

One file says which encoders fill and query a collection. `diptych init` writes one to start from, with a
[JSON Schema](diptych.schema.json) beside it that editors complete and check with. Every key but `collection` and
`slots` has a default. A key that nobody reads is an error, which names the line and the nearest key that exists.

- **Environment.** `${NAME}` and `${NAME:-default}` work in `store`, `api_key` and the options of adapters. They are
  filled in where a value is used, never before, so no secret is in a config object, in a collection or in an error.
- **Paths.** A relative path starts at the folder of the config file: the path of `edge:PATH`, `evaluate.queries`,
  `evaluate.qrels`, and options of adapters that start with `./`, `../` or `~/`. Any other option may be the name of a
  model and is left alone. So is what starts with `${`: put a full path into such a variable.
- **Options of an adapter** stand beside `adapter:`, as in `{adapter: bm25, language: english}`; should one have the
  name of a key of the slot, put it under `options:`.
"""


SHARED_HEAD = """
# Options of the adapters

The first table has the options that several adapters share. Below its own, an adapter names those that it takes.

## Shared options
"""


def _config_page(registry: Registry) -> Iterator[str]:
    schema = Config.model_json_schema()
    definitions: dict[str, dict[str, Any]] = schema["$defs"]
    yield NOTE
    yield CONFIG_HEAD
    yield "## The whole file\n"
    yield from _rows(schema, definitions)
    places: dict[str, str] = {}
    for title, name in _sections(schema, definitions):
        yield f"\n## `{title}`\n"
        if name in places:
            yield f"The same keys as `{places[name]}`.\n"
        else:
            places[name] = title
            yield f"{str(definitions[name].get('description', '')).partition(chr(10) * 2)[0]}\n"
            yield from _rows(definitions[name], definitions)
    yield from _adapters(registry.specs())


def _sections(schema: dict[str, Any], definitions: dict[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """The sections below `schema` as (place in the file, name of the definition), depth first."""
    for key, facts in schema.get("properties", {}).items():
        many = ".NAME" if "additionalProperties" in facts else "[N]" if facts.get("type") == "array" else ""
        names = re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(facts))  # discriminators repeat them without $ref
        for name in names:
            place = f"{at}{key}{many}" + (f" (kind: {_kind(definitions[name])})" if len(names) > 1 else "")
            yield place, name
            yield from _sections(definitions[name], definitions, f"{at}{key}{many}.")


def _kind(definition: dict[str, Any]) -> str:
    return str(definition["properties"]["kind"]["const"])


def _rows(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    yield from _table(_rows_by_key(schema, definitions).values())


def _table(rows: Iterable[str]) -> Iterator[str]:
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    yield from rows
    yield ""


def _rows_by_key(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, str]:
    rows = {}
    for key, facts in schema.get("properties", {}).items():
        if "const" in facts:  # the heading says it
            continue
        default = "required" if key in schema.get("required", []) else _default(facts)
        rows[key] = f"| `{key}` | {_cell(_type(facts))} | {_cell(default)} | {_cell(_meaning(facts, definitions))} |"
    return rows


def _type(facts: dict[str, Any]) -> str:
    if facts.get("type") == "object":
        inner = facts.get("additionalProperties")
        return f"name: {_type(inner)}" if isinstance(inner, dict) and inner else "mapping"
    if "oneOf" in facts or "$ref" in facts or any("$ref" in option for option in facts.get("anyOf", [])):
        return "section"
    return type_of(facts) + _bounds(facts)


def _bounds(facts: dict[str, Any]) -> str:
    numbers = next((option for option in facts.get("anyOf", []) if option.get("type") != "null"), facts)
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f", {sign} {numbers[name]}" for name, sign in words.items() if name in numbers)


def _default(facts: dict[str, Any]) -> str:
    value = facts.get("default")
    return "" if value is None or isinstance(value, dict) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _meaning(facts: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The description, which pydantic leaves out where it would repeat that of the section."""
    section = definitions.get(str(facts.get("$ref", "")).rpartition("/")[2], {})
    return str(facts.get("description") or section.get("description") or "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _adapters(specs: Iterable[AdapterSpec]) -> Iterator[str]:
    """The options that several adapters share in one table, then each adapter with its own."""
    tables = [(spec, variants, _adapter_rows(variants[0][1])) for spec in specs for variants in alike(spec)]
    shared = _shared(rows for *_, rows in tables)
    yield SHARED_HEAD
    yield from _table(shared.values())
    for n, (spec, variants, rows) in enumerate(tables):
        extra = variants[0][1].extra
        needs = f" Needs `pip install '{extra}'`." if extra else ""
        if n == 0 or tables[n - 1][0] is not spec:
            needs_all = "" if spec.variants else needs
            yield f"\n## `adapter: {spec.name}`\n\n{spec.kind}. {spec.summary.rstrip('.')}.{needs_all}\n"
        for choice, variant in variants if spec.variants else ():
            option, value = next(iter(choice.items()))
            told = "" if spec.default != value else ", the default"
            yield f"`{option}: {value}`{told}: {variant.summary.rstrip('.')}.{needs}\n"
        own = {key: row for key, row in rows.items() if shared.get(key) != row}
        if own:
            yield from _table(own.values())
        if common := [f"`{key}`" for key in rows if key not in own]:
            yield f"[Shared](#shared-options): {', '.join(common)}.\n"


def _adapter_rows(spec: AdapterSpec) -> dict[str, str]:
    model = options_model(spec)
    schema = {} if model is None else model.model_json_schema()
    return _rows_by_key(schema, schema.get("$defs", {}))


def _shared(tables: Iterable[dict[str, str]]) -> dict[str, str]:
    """For each key that three adapters or more describe alike, the most frequent description."""
    counts = Counter(item for rows in tables for item in rows.items())
    frequent = {key: row for (key, row), count in reversed(counts.most_common()) if count >= 3}
    return dict(sorted(frequent.items()))


RECIPES_HEAD = """\
# Recipes

A recipe file for [`diptych train`](../adapters.md#train-your-own) says `recipe: NAME`, and options, whose dots stand
for sections: `training.epochs` is `epochs` below `training:`. A key that nobody reads is an error, which names the
line and the nearest key that exists. `${NAME}` comes from the environment; paths start at the folder of the file.

## Every recipe that learns from judged queries
"""


REPEATED_HEAD = """
## Options of several recipes

A recipe names those that it takes.
"""


def _recipes_page(registry: Registry) -> Iterator[str]:
    yield NOTE
    yield RECIPES_HEAD
    shared = _options(RetrievalOptions)
    yield from _options_table(shared.values())
    specs = registry.recipes.sorted()
    repeated = _repeated([_options(recipe_options(spec)) for spec in specs], shared)
    yield REPEATED_HEAD
    yield from _options_table(repeated.values())
    for spec in specs:
        yield from _recipe(spec, shared, repeated)


Option: TypeAlias = tuple[str, dict[str, Any], bool]


def _options(model: type[BaseModel]) -> dict[str, Option]:
    schema = model.model_json_schema()
    return {option[0]: option for option in flat_options(schema)}


def _repeated(recipes: Iterable[dict[str, Option]], shared: dict[str, Option]) -> dict[str, Option]:
    """For each option that two recipes or more describe alike, the most frequent description."""
    own = [option for options in recipes for name, option in options.items() if shared.get(name) != option]
    counts = Counter(_option_row(*option) for option in own)
    best = sorted(own, key=lambda option: counts[_option_row(*option)])
    repeated = {option[0]: option for option in best if counts[_option_row(*option)] >= 2}
    return {name: repeated[name] for name in sorted(repeated)}


def _recipe(spec: RecipeSpec, shared: dict[str, Option], repeated: dict[str, Option]) -> Iterator[str]:
    """What a recipe takes beside what all take, with other defaults, or not at all."""
    own = _options(recipe_options(spec))
    yield f"\n## `recipe: {spec.name}`\n\n{spec.kind}. {spec.summary} [About it](../research/methods/{spec.name}.md).\n"
    lacking = sorted(
        {name.partition(".")[0] for name in shared.keys() - own.keys()} - {n.partition(".")[0] for n in own}
    )
    if lacking:
        yield f"It has no {', '.join(f'`{name}`' for name in lacking)}.\n"
    own = {name: option for name, option in own.items() if shared.get(name) != option}
    yield from _options_table(option for name, option in own.items() if repeated.get(name) != option)
    if common := [f"`{name}`" for name, option in own.items() if repeated.get(name) == option]:
        yield f"[Shared](#options-of-several-recipes): {', '.join(common)}.\n"


def _options_table(options: Iterable[Option]) -> Iterator[str]:
    rows = [_option_row(*option) for option in options]
    if rows:
        yield "| option | type | default | meaning |\n|---|---|---|---|"
        yield from rows
    yield ""


def _option_row(name: str, facts: dict[str, Any], required: bool) -> str:
    default = "required" if required else _default(facts)
    meaning = _cell(str(facts.get("description", "")))
    return f"| `{name}` | {_cell(_type(facts))} | {_cell(default)} | {meaning} |"


CLI_SHARED = """\
## Shared options

Every command takes `--json` and `--debug`. With `--json`, errors are JSON on standard error; wrong usage stays text.
Each command names the other shared options that it takes.

| | default | |
|---|---|---|\
"""


def _cli_page() -> Iterator[str]:
    root: Any = get_command(app)
    yield NOTE
    yield f"# The `diptych` command\n\n{inspect.cleandoc(root.help)}\n"
    yield f"{root.epilog}\n"
    commands = dict(_commands(root))
    counts = Counter(row for command in commands.values() for row in _parameters(command).values())
    shared = {row for row, count in counts.items() if count >= 5}
    yield CLI_SHARED
    yield from (row for row in counts if row in shared)
    yield ""
    for name, command in commands.items():
        yield from _command(name, command, shared)


def _commands(root: Any) -> Iterator[tuple[str, Any]]:
    for name, command in root.commands.items():
        for own, nested in getattr(command, "commands", {}).items():
            yield f"{name} {own}", nested
        if not hasattr(command, "commands"):
            yield name, command


def _parameters(command: Any) -> dict[str, str]:
    """Name -> row of the table."""
    return {parameter.opts[0]: _parameter(parameter) for parameter in command.params if parameter.name != "help"}


def _command(name: str, command: Any, shared: set[str]) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["diptych", name, *(_argument(p) for p in arguments), "[OPTIONS]"])
    prose, _, examples = inspect.cleandoc(command.help).partition("[dim]Examples:[/dim]")
    yield f"\n## {name}\n\n```text\n{usage}\n```\n\n{prose.strip()}\n"
    if examples.strip():
        lines = "\n".join(line.strip() for line in examples.splitlines() if line.strip())
        yield f"```text\n{lines}\n```\n"
    rows = _parameters(command)
    if own := [row for row in rows.values() if row not in shared]:
        yield "| | default | |\n|---|---|---|"
        yield from own
        yield ""
    everywhere = {"--json", "--debug"}
    if common := [f"`{option}`" for option, row in rows.items() if row in shared and option not in everywhere]:
        yield f"[Shared](#shared-options): {', '.join(common)}.\n"


def _argument(parameter: Any) -> str:
    name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _parameter(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [_argument(parameter)]
    shown = ", ".join(f"`{name}`" for name in names)
    default = parameter.default
    told = isinstance(default, str | int | Path) and not isinstance(default, bool) and default != ""
    text = f"`{default}`" if told else ""
    return f"| {shown} | {text} | {_cell(parameter.help or '')} |"


if __name__ == "__main__":
    main()
