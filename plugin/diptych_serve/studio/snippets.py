"""`POST /studio/api/snippets`: the query as YAML of a config, Python, a call of curl, and JSON of Qdrant."""

from __future__ import annotations

import io
import json
import re
import shlex
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
from diptych.search.retrieve import first_requests, fuses_in_diptych, inputs_of
from diptych_lab.tune.search_report import stage_section
from diptych_serve.studio.answers import QdrantRequest, Snippets
from diptych_serve.studio.context import Call
from diptych_serve.studio.page import API
from diptych_serve.studio.sides import PIPELINE, OwnSearch, Question, Side, checked, options_of, side_of

KEY = "Authorization: Bearer $DIPTYCH_API_KEY"
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
    ((inputs,),) = inputs_of([request])
    first = [own.model_dump(mode="json", exclude_none=True) for own in first_requests(request, inputs)]
    return Snippets(
        yaml=_yaml(side, view, body, options),
        python=_python(side, body, options, request, opened),
        curl=_curl(side, body, options, call.url, with_key=bool(call.serving.keys)),
        qdrant=QdrantRequest(path=f"/collections/{view.name}/points/query/batch", body={"searches": first}),
        notes=_notes(request, len(first)),
    )


# The config.


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


# Python.


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


# curl.


def _curl(side: Side, body: Question, options: SearchOptions, url: str, *, with_key: bool) -> str:
    """A command that gets the same hits from this service."""
    sent = body.model_dump(mode="json", exclude_unset=True) | {"limit": options["limit"]}
    path = f"{API}/search"
    if side.kind in (PIPELINE, "slot"):
        path = "/search"
        sent.pop("side", None)
        query = {"query": body.text or None, "media": body.media or None}
        sent |= {name: value for name, value in query.items() if value}
        if not body.text:
            sent.pop("query", None)
        if side.kind == "slot":
            sent["pipeline"] = side.id.partition(":")[2]
    text = json.dumps(sent, ensure_ascii=False)
    key = f' \\\n  -H "{KEY}"' if with_key else ""
    return (
        f"curl -s {shlex.quote(url + path)}{key} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(text)}"
    )


def _notes(request: SearchRequest, count: int) -> list[str]:
    """What happens after Qdrant's answer, which its JSON does not show."""
    pipeline: Pipeline = request.pipeline
    notes = []
    if not count:
        notes.append("Qdrant is not asked: the query has nothing that a slot looks for.")
    if fuses_in_diptych(request):
        notes.append(f"diptych then fuses the {count} answers by {pipeline.fuse!r} and fetches the best documents.")
    if pipeline.rescore and pipeline.rescore.weight < 1:
        notes.append(f"diptych then combines the scores of {pipeline.rescore!r} with those before.")
    notes += [f"diptych then reranks by {stage!r}." for stage in pipeline.rerank]
    if request.pin:
        notes.append(f"diptych puts {len(request.pin)} pinned documents first.")
    if (pipeline.fuse or pipeline.rescore or pipeline.boost) and not pipeline.rerank:
        notes.append("It asks for a few more hits than are shown: equal scores are ordered by id, then cut.")
    return notes
