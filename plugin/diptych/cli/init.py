"""`diptych init`: a small config file, with what one may want next as comments. `diptych demo`: a filled collection."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.options import CONFIG, ConfigOption, JsonOption, option
from diptych.cli.output import Bars, show, stdout, waiting, write_json
from diptych.cli.populate import show_report
from diptych.cli.run_command import Session
from diptych.cli.search import hit_document
from diptych.config.adapters import check_text, json_schema
from diptych.config.load import in_one_line, plain_values
from diptych.display import Display
from diptych.errors import ConfigError
from diptych.factory import options_model, to_install
from diptych.runtime.validation_messages import nearest
from diptych.specs import AdapterSpec
from diptych.types import hits_table

if TYPE_CHECKING:
    pass


SCHEMA = "diptych.schema.json"
DENSE = "all-MiniLM-L6-v2"
CODE = "code"  # program code instead of a language


def init(
    session: Session,
    config: ConfigOption = CONFIG,
    dense: Annotated[str, option("Dense encoder: MODEL, ADAPTER, ADAPTER:MODEL, or none.")] = DENSE,
    provider: Annotated[str | None, option(f"Use the encoders of a service or server: {', '.join(PROVIDERS)}.")] = None,
    lexical: Annotated[str, option("Lexical encoder: ADAPTER, ADAPTER:MODEL, or none.")] = "bm25",
    language: Annotated[str, option("Language of the texts, for stemming; code for program code.")] = "english",
    store: Annotated[str, option("edge:PATH, http(s)://HOST:PORT or grpc://HOST:PORT.")] = "edge:./qdrant",
    collection: Annotated[str, option("Name of the collection.")] = "documents",
    force: Annotated[bool, option("Overwrite the file.", "--force")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented diptych.yaml with careful defaults, and a schema by which editors complete and check it.

    [dim]Examples:[/dim]

      diptych init

      diptych init --dense fastembed:BAAI/bge-small-en-v1.5 --collection articles

      diptych init --provider cohere

      diptych init --language german --dense paraphrase-multilingual-MiniLM-L12-v2

      diptych init --language code

      diptych init --dense ./my-model --lexical none --store http://localhost:6333
    """
    if config.exists() and not force:
        raise ConfigError("the config file exists", where=config, do="edit it, or overwrite it with --force")
    if provider is not None and dense != DENSE:
        raise ConfigError(
            "--provider already names the dense encoder", got=f"--dense {dense}", do="give one of the two"
        )
    specs = [spec for spec in session.registry.specs() if spec.kind != "reranker"]
    if provider and provider not in PROVIDERS:
        expected, do = ", ".join(PROVIDERS), nearest(provider, PROVIDERS)
        raise ConfigError("--provider names no provider", got=provider, expected=expected, do=do)
    slots = [SlotChoice("dense", "remote", plain_values(f"{{{PROVIDERS[provider][0]}}}"))] if provider else []
    chosen = [parse_choice("dense", NONE if provider else dense, specs), parse_choice("lexical", lexical, specs)]
    for slot in filter(None, chosen):
        options = options_model(session.registry.spec(slot.adapter).with_options(slot.options))
        spoken: dict[str, Any] = {}
        if options is not None and "language" in options.model_fields:
            spoken = getattr(options, "FOR_CODE", {}) if language == CODE else {"language": language}
        slots.append(SlotChoice(slot.name, slot.adapter, {**slot.options, **spoken}))
    rerank = PROVIDERS[provider][1] if provider else ""
    text = render(store, collection, slots, rerank=rerank)
    check_text(text, session.registry)  # nothing is written that would be refused, such as an unknown language
    schema = json.dumps(json_schema(session.registry), indent=1) + "\n"
    written = {config: text, config.parent / SCHEMA: schema}
    for path, content in written.items():
        path.write_text(content, "utf-8")
    install = [do for slot in slots if (do := to_install(session.registry.spec(slot.adapter), slot.options))]
    keys = [f"export {slot.options['api_key_env']}=..." for slot in slots if "api_key_env" in slot.options]
    steps = [*dict.fromkeys(install), *keys, "diptych populate SOURCE", 'diptych search "some words"']
    if as_json:
        return write_json({"written": [str(path) for path in written], "next": steps})
    return show(Display(f"wrote {' and '.join(map(str, written))}", ["next:", *(f"  {step}" for step in steps)]))


# The options of a slot and of a reranker, as the providers' documentation of 2026-11-27 has them; "" for no reranker.
# The models are suggestions; others work, too.
_RERANK_API = "adapter: remote-reranker, api: cohere, candidates: 50"
PROVIDERS: dict[str, tuple[str, str]] = {
    "openai": ("api: openai, api_key_env: OPENAI_API_KEY, model: text-embedding-3-small, encoding_format: base64", ""),
    "cohere": (
        "api: cohere, api_key_env: COHERE_API_KEY, model: embed-v4.0",
        f"{_RERANK_API}, base_url: https://api.cohere.com/v2, model: rerank-v3.5, api_key_env: COHERE_API_KEY",
    ),
    "jina": (
        "api: openai, base_url: https://api.jina.ai/v1, api_key_env: JINA_API_KEY, model: jina-embeddings-v3, "
        "query_fields: {task: retrieval.query}, document_fields: {task: retrieval.passage}",
        f"{_RERANK_API}, base_url: https://api.jina.ai/v1, model: jina-reranker-v2-base-multilingual, "
        "api_key_env: JINA_API_KEY, fields: {return_documents: false}",
    ),
    "voyage": (
        "api: openai, base_url: https://api.voyageai.com/v1, api_key_env: VOYAGE_API_KEY, model: voyage-3.5, "
        "encoding_format: base64, query_fields: {input_type: query}, document_fields: {input_type: document}",
        f"{_RERANK_API}, base_url: https://api.voyageai.com/v1, model: rerank-2.5, api_key_env: VOYAGE_API_KEY, "
        "count_field: top_k",
    ),
    "mistral": (
        "api: openai, base_url: https://api.mistral.ai/v1, api_key_env: MISTRAL_API_KEY, model: mistral-embed, "
        "batch_size: 32",
        "",
    ),
    "ollama": (
        "api: openai, base_url: http://localhost:11434/v1, model: nomic-embed-text, batch_size: 32, "
        "query_prompt: 'search_query: ', document_prompt: 'search_document: '",
        "",
    ),
    "vllm": (
        "api: openai, base_url: http://localhost:8000/v1, model: intfloat/e5-base-v2, "
        "query_prompt: 'query: ', document_prompt: 'passage: '",
        f"{_RERANK_API}, base_url: http://localhost:8001/v1, model: BAAI/bge-reranker-v2-m3",
    ),
    "tei": (
        "api: tei, base_url: http://localhost:8080, query_prompt: 'query: ', document_prompt: 'passage: '",
        "adapter: remote-reranker, api: tei, base_url: http://localhost:8081, candidates: 50",
    ),
}


DEFAULT_ADAPTER = "sentence-transformers"  # of a bare model name
NONE = "none"
_RERANK = "adapter: cross-encoder, model: NAME, candidates: 50"


@dataclass(frozen=True, slots=True)
class SlotChoice:
    """A slot of the new file."""

    name: str
    adapter: str
    options: Mapping[str, Any]


def parse_choice(slot: str, text: str, specs: Sequence[AdapterSpec]) -> SlotChoice | None:
    """What `--dense` or `--lexical` says: `none`, an adapter, `ADAPTER:MODEL`, or a model of sentence-transformers."""
    names = {variant.name: (spec, choice) for spec in specs for choice, variant in spec.each()}
    names |= {spec.name: (spec, {}) for spec in specs}
    adapter, colon, model = text.partition(":")
    if text == NONE:
        return None
    if text in names:
        spec, choice = names[text]
        options = options_model(spec.with_options(choice))
        required = options.model_fields.get("model") if options else None
        if required is not None and required.is_required():
            raise ConfigError(f"--{slot}: adapter {text!r} needs a model", got=text, do=f"write {text}:MODEL")
        return SlotChoice(slot, spec.name, choice)
    if colon and adapter in names:
        spec, choice = names[adapter]
        return SlotChoice(slot, spec.name, {**choice, "model": model})
    is_model = (
        adapter == "wheel" or "/" in adapter or "\\" in adapter or adapter.startswith(".")
    )  # of a package, or a path
    if DEFAULT_ADAPTER in names and slot == "dense" and (not colon or is_model):
        return SlotChoice(slot, DEFAULT_ADAPTER, {"model": text})
    hints = (nearest(adapter, names), "write ADAPTER, ADAPTER:MODEL or none", "`diptych adapters` lists all")
    raise ConfigError(
        f"--{slot} names no adapter",
        got=text,
        expected=", ".join(sorted(spec.name for spec in specs)),
        do="; ".join(filter(None, hints)),
    )


def render(store: str, collection: str, slots: Sequence[SlotChoice], *, rerank: str = "") -> str:
    """The file's text.

    Args:
        store, collection, slots: what it says.
        rerank: the options of a stage that reranks, which is offered in a comment.

    Raises:
        ConfigError: no slot is left.
    """
    if not slots:
        raise ConfigError("a collection needs a slot", do="name an adapter for --dense or --lexical")
    lines = [f"  {slot.name}: {in_one_line({'adapter': slot.adapter, **slot.options})}" for slot in slots]
    return _FILE.format(
        store=in_one_line(store),
        collection=in_one_line(collection),
        slots="\n".join(lines),
        retrieve=in_one_line({slot.name: 100 for slot in slots}),
        rerank=rerank or _RERANK,
    )


_FILE = """\
# yaml-language-server: $schema=./diptych.schema.json
# What fills and queries a collection.
# `diptych adapters NAME` shows the options of an adapter; diptych.schema.json has every key.

# Where the vectors live. edge:PATH is Qdrant's engine inside this process, in a folder next to this file.
# A server instead:  store: http://localhost:6333   with   api_key: ${{QDRANT_API_KEY}}
store: {store}
collection: {collection}

# One encoder per slot. `diptych adapters` lists what can stand behind `adapter:`.
slots:
{slots}
  # late interaction, for search.rescore below:
  # late: {{adapter: sentence-transformers-multivector, trained_as: dense, model: all-MiniLM-L6-v2}}

search:
  # Candidates of each slot. More find more and cost more; a multiple of limit leaves fusion something to choose from.
  retrieve: {retrieve}
  # dbsf adds the scores, scaled by mean and deviation of each slot's candidates; linear takes weights, rrf goes by
  # ranks. Mean nDCG@10 of MiniLM and BM25 on nine collections and emoji names: .488 by dbsf, .486 by linear without
  # weights, .481 by rrf, .446 by BM25 alone, .422 by MiniLM alone. Unless it is set here, it is dbsf, or linear with
  # little weight for a dense slot whose model cannot read the texts of the first populate. `diptych tune search`
  # measures fusions on your queries.
  # fuse: {{kind: dbsf}}
  # rescore: {{slot: late, candidates: 50}}
  # rerank: [{{{rerank}}}]
  limit: 10

# What `diptych evaluate` reads, relative to this file.
# evaluate:
#   queries: queries.jsonl
#   qrels: qrels.tsv
#   metrics: [nDCG@10, MRR@10, Recall@100]
"""


FILES = ("corpus.jsonl.gz", "queries.jsonl.gz", "qrels/test.tsv", "README.md")
QUESTIONS = (
    "convert audio files between formats",
    "draw molecules in three dimensions",
    "watch who uses my network bandwidth",
)
_WORDS = """\
# Find a Debian package by what it does. Paths start at this file's folder.
store: edge:./qdrant                      # Qdrant's engine inside this process; later https://... with an api_key
collection: debian
slots:
  words: {adapter: bm25, language: english}
"""
_DENSE = "  dense: {adapter: sentence-transformers, model: all-MiniLM-L6-v2}\n"
_REST = """\
search:
  limit: 3
evaluate:
  queries: queries.jsonl.gz
  qrels: qrels/test.tsv
"""


def demo(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder; created if missing.")] = Path(
        "diptych-demo"
    ),
    dense: Annotated[
        bool, option("Add a dense model, from diptych\\[demo]; takes minutes on few cores.", "--dense")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fill a collection with 2,000 descriptions of Debian packages, search it, and measure the results.

    Everything stays in the folder and on this machine. Running it again encodes nothing.

    [dim]Examples:[/dim]

      diptych demo

      diptych demo packages --dense
    """
    config = _prepared(folder, _WORDS + (_DENSE if dense else "") + _REST)
    with session.collection(config, None, None, create=True) as collection:
        from diptych.populate import open_source
        from diptych.populate import populate as bring_in

        with Bars() as bars:
            report = bring_in(collection.handle, open_source(folder / FILES[0]), progress=bars)
        with waiting("searching"):
            answers = collection.search_batch(QUESTIONS)
        measures: Mapping[str, float] = {}
        if importlib.util.find_spec("ir_measures") is not None:  # of the extra `eval`
            from diptych.evaluate import Qrels, evaluate, read_queries
            from diptych.types import Run

            queries = read_queries(folder / FILES[1])
            judged = f"{len(queries)} queries, each with a judged answer"
            with waiting(judged):
                run = Run.from_hits("demo", queries, collection.search_batch(queries, limit=10))
                measures = evaluate(run, Qrels.read(folder / FILES[2]), ("nDCG@10", "MRR@10")).means
    if as_json:
        answer_documents = {
            text: [hit_document(hit) for hit in hits] for text, hits in zip(QUESTIONS, answers, strict=True)
        }
        write_json({"config": str(config), "populate": report, "answers": answer_documents, "measures": measures})
    else:
        show_report(report, as_json=False)
        for question, hits in zip(QUESTIONS, answers, strict=True):
            show(Display(f"\n{question}", [hits_table(hits)]))
        scores = ", ".join(f"{measure} {score:.3f}" for measure, score in measures.items())
        console = stdout()
        console.print(f"\n{judged}: {scores}" if measures else '\nto measure the answers: pip install "diptych[eval]"')
        console.print("\nnow you:", style="bold")
        for command in ('search "your words"', 'search "your words" --explain', "info"):
            console.print(f"  diptych {command} -c {config}", soft_wrap=True)


def _prepared(folder: Path, content: str) -> Path:
    """The config file in a folder with the data. Creates it if it is missing."""
    config = folder / "diptych.yaml"
    if folder.exists() and not (folder / FILES[0]).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("the folder holds something else", where=folder, do="name another one: diptych demo FOLDER")
    # The data of the demo: in the wheel, or in the checkout that an editable install runs from.
    wheel_data = Path(__file__).parents[1] / "demo_data"
    data = wheel_data if wheel_data.is_dir() else Path(__file__).parents[3] / "examples" / "debian"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            shutil.copyfile(data / name, folder / name)
    if config.exists() and config.read_text(encoding="utf-8") != content:
        do = f"name another folder: diptych demo FOLDER; or use it: diptych search -c {config}"
        raise ConfigError("the folder has another config", where=config, do=do)
    config.write_text(content, encoding="utf-8")
    return config
