"""`POST /studio/api/snippets`: the query as YAML of a config and as Python."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML

from diptych import search
from diptych.config.models import SearchConfig
from diptych.config.section import fields_of
from diptych.handle.view import View
from diptych.search import Pipeline, Rerank
from diptych.search.options import SearchOptions
from diptych.search.request import SearchRequest
from diptych_lab.tune.search_report import stage_section
from diptych_serve.studio.answers import Snippets
from diptych_serve.studio.context import Call
from diptych_serve.studio.sides import OwnSearch, Question, Side, checked, options_of, side_of

MOST_SHOWN = 500  # characters of a query in a comment
_CALLS = re.compile(r"\b([A-Z][A-Za-z]+)\(")
_PRINT = (
    "for hit in hits:",
    '    name = hit.document.title or " ".join(hit.document.text.split())[:60]',
    '    print(f"{hit.score:.4f}  {hit.id}  {name}")',
)


def snippets(call: Call, body: Question) -> Snippets:
    """`POST /studio/api/snippets`; the body is that of a search."""
    collection = checked(call.serving, body)
    opened = call.studio.opened.get(collection.name, '"diptych.yaml"')
    side = side_of(collection, body.side)
    options = options_of(body, side, body.limit)
    view = side.view.now()
    request = SearchRequest.of(view, [body.question], options)
    return Snippets(yaml=_yaml(side, view, body, options), python=_python(side, body, options, request, opened))


def _yaml(side: Side, view: View, body: Question, options: SearchOptions) -> str:
    """The `search` section that gives this side's pipeline, below what is asked of it."""
    config = _section(side, view.search_config)
    found = {"retrieve": {}, **config.model_dump(mode="json", exclude_defaults=True)}
    pipeline = Pipeline.from_config(config, view.slots)
    found["retrieve"] = {branch.slot: branch.candidates for branch in pipeline.retrieve}
    if pipeline.fuse or "fuse" in found:
        found["fuse"] = stage_section(config.fuse)
    found |= {key: stage_section(stage) for key in ("rescore", "diversify") if (stage := getattr(config, key))}
    if config.rerank:
        found["rerank"] = [_reranker(stage) for stage in config.rerank]
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style, yaml.width = None, 100
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump({"search": found}, text)
    return "".join([*_asked(side, body, options), text.getvalue()])


def _asked(side: Side, body: Question, options: SearchOptions) -> Iterator[str]:
    """What a config does not hold, as comments; `repr` leaves no end of line in them."""
    media = f" with {', '.join(body.media)}" if body.media else ""
    facts = {"side": " ".join(side.label.split()), "query": f"{_cut(body.text)}{media}", "limit": options["limit"]}
    facts |= {"filter": _cut(body.filter)} if body.filter is not None else {}
    facts |= {"tenant": _cut(body.tenant)} if body.tenant is not None else {}
    for name, value in facts.items():
        yield f"# {name}: {value}\n"


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _section(side: Side, config: SearchConfig) -> SearchConfig:
    """The config without the stages that the side leaves out."""
    pipeline = side.pipeline
    if pipeline is None:
        return config
    later: dict[str, Any] = {
        "retrieve": {branch.slot: branch.candidates for branch in pipeline.retrieve},
        "rescore": config.rescore if pipeline.rescore else None,
        "boost": config.boost if pipeline.boost else [],
        "diversify": config.diversify if pipeline.diversify else None,
        "rerank": config.rerank[: len(pipeline.rerank)],
        "pin": [],
        "recent": None,
        **({} if pipeline.fuse else {"fuse": SearchConfig().fuse}),
    }
    return config.model_copy(update=later)


def _reranker(stage: Rerank) -> dict[str, Any]:
    """A reranker's options among its own keys, as configs write them."""
    options = dict(stage.options)
    return stage_section(stage) | ({"options": options} if fields_of(Rerank).keys() & options else options)


def _python(side: Side, body: Question, options: SearchOptions, request: SearchRequest, opened: str) -> str:
    """A program that prints the same hits, where a public method can ask for them."""
    if side.kind in ("state", "generation"):
        return f"# No public name asks what is not live: {' '.join(side.label.split())}.\n"
    arguments: dict[str, str] = {"limit": repr(options["limit"])}
    if body.filter is not None:
        arguments["filter"] = repr(body.filter)
    if body.tenant is not None:
        arguments["tenant"] = repr(body.tenant)
    own = isinstance(body.side, OwnSearch)
    if side.pipeline is not None or own:
        arguments["pipeline"] = repr(request.pipeline)
    if own:
        said = {"score_threshold": request.score_threshold, "pin": [*request.pin], "exclude": [*request.exclude]}
        arguments |= {name: repr(value) for name, value in said.items() if value not in (None, [])}
    if body.media:
        query = f"Query({body.text!r}, media={body.media!r})"
    else:
        query = repr(body.text)
    listed = "".join(f",\n    {name}={value}" for name, value in arguments.items())
    code = arguments.get("pipeline", "")
    stages = sorted(set(_CALLS.findall(code)) & set(search.__all__))
    imports = ["from diptych import Query"] if body.media else []
    imports += [f"from diptych.search import {', '.join(stages)}"] if stages else []
    imports += ["from qdrant_client.models import SearchParams"] if "SearchParams(" in code else []
    call = f"hits = collection.search(\n    {query}{listed},\n)"
    opening = f"collection = Collection.open({opened})"
    return "\n".join(["from diptych import Collection", *imports, "", opening, call, *_PRINT, ""])
