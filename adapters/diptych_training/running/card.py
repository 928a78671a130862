"""The model card: a README beside the trained model with its training and measurements."""

from __future__ import annotations

import io
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from diptych.training import TrainReport
from diptych_training.corpus import file_name
from diptych_training.options import RecipeOptions

PACKAGES = ("diptych", "sentence-transformers", "transformers", "torch")


def write_card(report: TrainReport, options: RecipeOptions) -> Path:
    """Write `README.md` into the folder of the run."""
    path = Path(report.folder) / "README.md"
    path.write_text("\n".join(_lines(report, options)) + "\n", "utf-8")
    return path


def _lines(report: TrainReport, options: RecipeOptions) -> list[str]:
    name = Path(report.folder).name
    configs = "\n".join(
        f"    {model.name or 'model'}: {_as_config(model.adapter, model.section)}" for model in report.models
    )
    return [
        *_front_matter(report, options),
        f"# {name}\n",
        f"A {report.kind} model, trained from `{_short(options.model)}` by diptych's recipe `{report.recipe}`.\n",
        "## Use\n",
        "In a diptych.yaml:\n",
        f"{configs}\n",
        "## Measured\n",
        *_measured(report),
        "\n## Training\n",
        f"{report.steps:,} steps, seed {options.seed}. {_versions()}.\n",
        "```yaml",
        _yaml({"recipe": report.recipe, **_public(options)}).rstrip(),
        "```",
        *(f"\n{remark}" for remark in report.remarks),
    ]


def _front_matter(report: TrainReport, options: RecipeOptions) -> list[str]:
    facts = {"library_name": "sentence-transformers", "base_model": _short(options.model)}
    return ["---", _yaml({**facts, "tags": ["diptych", report.kind, report.recipe]}).rstrip(), "---\n"]


def _measured(report: TrainReport) -> list[str]:
    if not any(report.measured.values()):
        return ["Nothing was held out."]
    names = list(report.measured)
    metrics = next(iter(report.measured.values()))
    return [
        "On what was held out:\n",
        f"| metric | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(f"| {metric} | {' | '.join(f'{report.measured[n][metric]:.4f}' for n in names)} |" for metric in metrics),
    ]


def _public(options: RecipeOptions) -> Any:
    """The options with paths as their last two parts: a card is shared, the paths of a machine are not."""
    return _shortened(options.model_dump(exclude={"output"}, exclude_defaults=True) | {"model": _short(options.model)})


def _shortened(value: Any) -> Any:
    if isinstance(value, Path):
        return file_name(value)
    if isinstance(value, str):  # a text such as a prompt may begin with a slash, too
        return file_name(Path(value)) if value.startswith(os.sep) and os.path.exists(value) else value
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list | tuple) else value


def _short(model: str) -> str:
    return Path(model).name if Path(model).is_absolute() else model


def _as_config(adapter: str, options: Any) -> str:
    inner = ", ".join(f"{key}: {_short(str(value))}" for key, value in options.items())
    return f"{{adapter: {adapter}, {inner}}}"


def _versions() -> str:
    return ", ".join(f"{package} {version(package)}" for package in PACKAGES)


def _yaml(value: Any) -> str:
    stream, yaml = io.StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.dump(value, stream)
    return stream.getvalue()
