"""`diptych init`: a first config file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.setup.template import NONE, SlotChoice, parse_choice, render, scalar
from diptych.cli.ui.options import CONFIG, ConfigOption, JsonOption
from diptych.cli.ui.output import stdout, warn, write_json
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError
from diptych.plugins.extras import to_install
from diptych.runtime.validation_messages import nearest

if TYPE_CHECKING:
    from diptych.registry import Registry

SCHEMA = "diptych.schema.json"
DENSE = "all-MiniLM-L6-v2"
CODE = "code"  # program code instead of a language
MULTILINGUAL = "paraphrase-multilingual-MiniLM-L12-v2"
ENGLISH_MODELS = (
    *("all-MiniLM-L6-v2", "all-MiniLM-L12-v2", "all-mpnet-base-v2", "all-distilroberta-v1"),
    *("multi-qa-MiniLM-L6-cos-v1", "multi-qa-mpnet-base-cos-v1", "multi-qa-mpnet-base-dot-v1"),
    *("paraphrase-MiniLM-L3-v2", "paraphrase-MiniLM-L6-v2", "msmarco-distilbert-base-v4"),
    *("bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5"),
    *("e5-small-v2", "e5-base-v2", "e5-large-v2", "gte-small", "gte-base", "gte-large"),
    *("snowflake-arctic-embed-xs", "snowflake-arctic-embed-s", "snowflake-arctic-embed-m"),
    *("nomic-embed-text-v1", "nomic-embed-text-v1.5", "mxbai-embed-large-v1", "static-retrieval-mrl-en-v1"),
)
PATIENCE = 3  # seconds for a server that is asked for its version


def init(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    dense: Annotated[str, typer.Option(help="Dense encoder: MODEL, ADAPTER, ADAPTER:MODEL, or none.")] = DENSE,
    provider: Annotated[
        str | None, typer.Option(help=f"Use the encoders of a service or server: {', '.join(PROVIDERS)}.")
    ] = None,
    lexical: Annotated[str, typer.Option(help="Lexical encoder: ADAPTER, ADAPTER:MODEL, or none.")] = "bm25",
    language: Annotated[
        str, typer.Option(help="Language of the texts, for stemming; code for program code.")
    ] = "english",
    store: Annotated[str, typer.Option(help="edge:PATH, http(s)://HOST:PORT or grpc://HOST:PORT.")] = "edge:./qdrant",
    collection: Annotated[str, typer.Option(help="Name of the collection.")] = "documents",
    schema: Annotated[
        bool, typer.Option(help=f"Also write {SCHEMA}, which lets editors complete and check the file.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented diptych.yaml with careful defaults.

    [dim]Examples:[/dim]

      diptych init

      diptych init --dense fastembed:BAAI/bge-small-en-v1.5 --collection articles

      diptych init --provider cohere

      diptych init --language german --dense paraphrase-multilingual-MiniLM-L12-v2

      diptych init --language code

      diptych init --dense ./my-model --lexical none --store http://localhost:6333
    """
    session: Session = context.obj
    if config.exists() and not force:
        raise ConfigError("the config file exists", where=config, do="edit it, or overwrite it with --force")
    if provider is not None and dense != DENSE:
        raise ConfigError(
            "--provider already names the dense encoder", got=f"--dense {dense}", do="give one of the two"
        )
    remote = provider_of(provider) if provider is not None else None
    specs = [spec for spec in session.registry.specs() if spec.kind != "reranker"]
    chosen = [parse_choice("dense", dense if remote is None else NONE, specs), parse_choice("lexical", lexical, specs)]
    slots = [_with_language(session.registry, slot, language) for slot in chosen if slot]
    slots = [remote.slot, *slots] if remote else slots
    rerank = remote.stage if remote else ""
    text = render(store, collection, slots, schema=f"./{SCHEMA}" if schema else None, rerank=rerank)
    _require_valid(text, config, session.registry)
    written = [_write(config, text)]
    if schema:
        written.append(_write(config.parent / SCHEMA, _schema(session.registry)))
    warnings = [*_other_language(slots, language), *_lacks(text, session.registry)]
    _report(session.registry, slots, written, warnings, as_json)


def _with_language(registry: Registry, slot: SlotChoice, language: str) -> SlotChoice:
    from diptych.plugins.factory import options_model

    model = options_model(registry.spec(slot.adapter))
    if model is None or "language" not in model.model_fields:
        return slot
    chosen = getattr(model, "FOR_CODE", {}) if language == CODE else {"language": language}
    return SlotChoice(slot.name, slot.adapter, {**slot.options, **chosen})


def _other_language(slots: Sequence[SlotChoice], language: str) -> list[str]:
    """A warning where a dense model knows English alone and the texts are in another language."""
    if language in ("english", CODE):
        return []
    return [
        f"slot {slot.name!r}: {model} was trained on English texts, and yours are {language}: take a multilingual "
        f"model, such as --dense {MULTILINGUAL}, or search by words alone with --dense none"
        for slot in slots
        if (model := str(slot.options.get("model", ""))).rpartition("/")[2] in ENGLISH_MODELS
    ]


def _require_valid(text: str, path: Path, registry: Registry) -> None:
    """Refuse to write what `diptych` would refuse to read, such as an unknown language."""
    from diptych.config.adapters import check_text

    check_text(text, registry)


def _write(path: Path, text: str) -> Path:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError("cannot write the file", where=path, got=error.strerror or str(error)) from error
    return path


def _schema(registry: Registry) -> str:
    from diptych.config import json_schema

    return json.dumps(json_schema(registry), indent=1) + "\n"


def _lacks(text: str, registry: Registry) -> list[str]:
    """What the server that the file names lacks for its slots; nothing where it does not answer yet."""
    from diptych.config import parse_config
    from diptych.config.written import plain_values
    from diptych.errors import DiptychError
    from diptych.stores import is_server, open_store_of
    from diptych.stores.versions import version_warnings

    config = parse_config(plain_values(text)).model_copy(update={"timeout": PATIENCE})
    if not is_server(config.urls[0]):
        return []
    try:
        client = open_store_of(config, registry=registry, create=False)
    except DiptychError:
        return []
    try:
        kinds = [registry.spec(slot.adapter).kind for slot in config.slots.values()]
        return version_warnings(client, kinds, tenants=config.tenant is not None)
    finally:
        client.close()


def _report(
    registry: Registry, slots: list[SlotChoice], written: list[Path], warnings: list[str], as_json: bool
) -> None:
    install = [do for slot in slots if (do := to_install(registry.spec(slot.adapter), slot.options))]
    keys = [f"export {slot.options['api_key_env']}=..." for slot in slots if "api_key_env" in slot.options]
    steps = [*dict.fromkeys(install), *keys, "diptych populate SOURCE", 'diptych search "some words"']
    if as_json:
        return write_json({"written": [str(path) for path in written], "next": steps, "warnings": warnings})
    console = stdout()
    console.print(f"wrote {' and '.join(map(str, written))}", soft_wrap=True)
    console.print("next:")
    for step in steps:
        console.print(f"  {step}", soft_wrap=True)
    warn(warnings)
    return None


@dataclass(frozen=True, slots=True)
class Provider:
    """A dense slot, and a reranker where the provider has one.

    Each follows the provider's documentation of 2026-11-27. The models are suggestions; others work, too.
    """

    options: Mapping[str, Any]
    reranker: Mapping[str, Any] | None = None

    @property
    def slot(self) -> SlotChoice:
        """The slot of the new file."""
        return SlotChoice("dense", "remote", self.options)

    @property
    def stage(self) -> str:
        """The reranker as a stage in one line of YAML; empty without one."""
        if self.reranker is None:
            return ""
        return f"rerank: [{{{', '.join(f'{key}: {scalar(value)}' for key, value in self.reranker.items())}}}]"


def _rerank_api(base_url: str, model: str, **options: Any) -> dict[str, Any]:
    return {
        "adapter": "remote-reranker",
        "api": "cohere",
        "base_url": base_url,
        "model": model,
        **options,
        "candidates": 50,
    }


PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        {
            "api": "openai",
            "api_key_env": "OPENAI_API_KEY",
            "model": "text-embedding-3-small",
            "encoding_format": "base64",
        }
    ),
    "cohere": Provider(
        {"api": "cohere", "api_key_env": "COHERE_API_KEY", "model": "embed-v4.0"},
        _rerank_api("https://api.cohere.com/v2", "rerank-v3.5", api_key_env="COHERE_API_KEY"),
    ),
    "jina": Provider(
        {
            "api": "openai",
            "base_url": "https://api.jina.ai/v1",
            "api_key_env": "JINA_API_KEY",
            "model": "jina-embeddings-v3",
            "query_fields": {"task": "retrieval.query"},
            "document_fields": {"task": "retrieval.passage"},
        },
        _rerank_api(
            "https://api.jina.ai/v1",
            "jina-reranker-v2-base-multilingual",
            api_key_env="JINA_API_KEY",
            fields={"return_documents": False},
        ),
    ),
    "voyage": Provider(
        {
            "api": "openai",
            "base_url": "https://api.voyageai.com/v1",
            "api_key_env": "VOYAGE_API_KEY",
            "model": "voyage-3.5",
            "encoding_format": "base64",
            "query_fields": {"input_type": "query"},
            "document_fields": {"input_type": "document"},
        },
        _rerank_api("https://api.voyageai.com/v1", "rerank-2.5", api_key_env="VOYAGE_API_KEY", count_field="top_k"),
    ),
    "mistral": Provider(
        {
            "api": "openai",
            "base_url": "https://api.mistral.ai/v1",
            "api_key_env": "MISTRAL_API_KEY",
            "model": "mistral-embed",
            "batch_size": 32,
        },
    ),
    "ollama": Provider(
        {
            "api": "openai",
            "base_url": "http://localhost:11434/v1",
            "model": "nomic-embed-text",
            "batch_size": 32,
            "query_prompt": "search_query: ",
            "document_prompt": "search_document: ",
        },
    ),
    "vllm": Provider(
        {
            "api": "openai",
            "base_url": "http://localhost:8000/v1",
            "model": "intfloat/e5-base-v2",
            "query_prompt": "query: ",
            "document_prompt": "passage: ",
        },
        _rerank_api("http://localhost:8001/v1", "BAAI/bge-reranker-v2-m3"),
    ),
    "tei": Provider(
        {"api": "tei", "base_url": "http://localhost:8080", "query_prompt": "query: ", "document_prompt": "passage: "},
        {"adapter": "remote-reranker", "api": "tei", "base_url": "http://localhost:8081", "candidates": 50},
    ),
}


def provider_of(name: str) -> Provider:
    """The provider of that name.

    Raises:
        ConfigError: there is no such provider.
    """
    if name not in PROVIDERS:
        expected = ", ".join(PROVIDERS)
        raise ConfigError("--provider names no provider", got=name, expected=expected, do=nearest(name, PROVIDERS))
    return PROVIDERS[name]
