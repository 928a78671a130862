"""`diptych serve`: the HTTP service."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.serve.served_collections import (
    LOCAL,
    CollectionsOption,
    ConfigsOption,
    ConnectionsOption,
    GraceOption,
    HeaderSecondsOption,
    HostOption,
    HostsOption,
    IdleSecondsOption,
    InsecureOption,
    JudgedFoldersOption,
    JudgementsOption,
    KeysOption,
    OriginsOption,
    announce,
    opened,
    require,
)
from diptych.cli.serve.studio import require_folders, studio_of
from diptych.cli.ui.options import CONFIG, JsonOption, QuietOption, StoreOption
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError
from diptych.service.limits import Bounds, Limits

if TYPE_CHECKING:
    from diptych.service.served import Served


MOST, BOUNDS = Limits(), Bounds()


def serve(
    context: typer.Context,
    configs: ConfigsOption = None,
    store: StoreOption = None,
    collections: CollectionsOption = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME[:MODEL]", help="A further adapter to serve; repeat for more."),
    ] = None,
    encoders_only: Annotated[
        bool, typer.Option("--encoders-only", help="Serve the configs' encoders and rerankers; open no store.")
    ] = False,
    host: HostOption = LOCAL,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The port; 0 for a free one.")] = 8000,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let clients write documents: PUT /documents, POST /populate.")
    ] = False,
    max_upload: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum bytes of a /populate request.")
    ] = MOST.upload,
    with_studio: Annotated[
        bool, typer.Option("--studio", help="Also serve the page of diptych studio, at /studio/.")
    ] = False,
    queries: JudgedFoldersOption = None,
    judgements: JudgementsOption = None,
    api_keys_env: KeysOption = None,
    insecure: InsecureOption = False,
    allowed_hosts: HostsOption = None,
    cors_origin: OriginsOption = None,
    max_body: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum bytes of a request.")] = MOST.body,
    max_inputs: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum texts in a request.")] = MOST.inputs,
    max_characters: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum characters of a text.")
    ] = MOST.characters,
    max_concurrent: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum requests at once.")
    ] = MOST.concurrent,
    max_connections: ConnectionsOption = BOUNDS.connections,
    header_seconds: HeaderSecondsOption = BOUNDS.header_seconds,
    idle_seconds: IdleSecondsOption = BOUNDS.idle_seconds,
    grace: GraceOption = 30,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve collections, encoders and rerankers over HTTP: /search, /v1/embeddings, /v1/models, /rerank.

    /healthz, /readyz and /metrics serve monitoring. If DIPTYCH_API_KEY holds an API key, requests must send it.

    [dim]Examples:[/dim]

      diptych serve

      diptych serve -c packages.yaml -c articles.yaml --port 8080

      diptych serve --store https://qdrant.example.org:6333 --collection packages --host 0.0.0.0

      diptych serve --encoders-only --adapter cross-encoder:./my-reranker

      diptych serve --studio --queries judged
    """
    require("starlette", "uvicorn", "prometheus_client", extra="serve")
    from diptych.service.api_keys import Keys, require_key
    from diptych.service.application import application
    from diptych.service.server import address, called, listen, log_to_stderr, run

    keys = Keys.from_environment(api_keys_env)
    require_key(host, keys, insecure=insecure)
    if not with_studio and (queries or judgements):
        got = "--queries" if queries else "--judgements"
        raise ConfigError("judged queries are for Studio", got=got, do="add --studio")
    if with_studio and encoders_only:
        raise ConfigError("Studio shows collections", got="--encoders-only", do="leave one of the two out")
    require_folders(queries, judgements)
    limits = Limits(max_body, max_inputs, max_characters, concurrent=max_concurrent, upload=max_upload)
    session: Session = context.obj
    with listen(host, port) as listening:
        served = _served(
            session, configs, store, collections, adapters, encoders_only=encoders_only, writes=allow_writes
        )
        judged = (queries, judgements)
        extension = studio_of(served, configs, store, *judged, writes=allow_writes) if with_studio else None
        may_ask = {"origins": cors_origin or (), "hosts": called(host, allowed_hosts or (), keys)}
        app = application(served, keys=keys, limits=limits, writes=allow_writes, extension=extension, **may_ask)
        log_to_stderr(logging.WARNING if quiet else logging.INFO)
        _announce(address(listening, host), served, as_json=as_json)
        run(app, listening, grace=grace, bounds=Bounds(max_connections, header_seconds, idle_seconds))


def _served(
    session: Session,
    configs: list[Path] | None,
    store: str | None,
    collections: list[str] | None,
    adapters: list[str] | None,
    *,
    encoders_only: bool,
    writes: bool,
) -> Served:
    from diptych.service.served import Served

    if writes and (encoders_only or store is not None):
        got = "--encoders-only" if encoders_only else f"--store {store}"
        raise ConfigError("--allow-writes needs configs", got=got, do="name a config by -c FILE")

    if not encoders_only:
        return opened(session, configs, store, collections, adapters=adapters or (), create=writes)
    if store is not None:
        raise ConfigError(
            "--encoders-only opens no store", got=f"--store {store}", do="name a config, or leave one out"
        )
    paths = configs or ([CONFIG] if CONFIG.exists() or not adapters else [])
    return Served.of_encoders(paths, adapters=adapters or (), registry=session.registry)


def _announce(url: str, served: Served, *, as_json: bool) -> None:
    models = [model.id for model in served.models()]
    document = {"url": url, "collections": list(served.collections), "models": models}
    names = f"collections: {', '.join(served.collections) or 'none'}; models: {', '.join(models)}"
    announce(document, f"listening on {url}", names, as_json=as_json)
