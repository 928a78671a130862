"""`diptych serve`: HTTP, the Model Context Protocol, or Qdrant's API of a store. `diptych studio`: in the browser."""

from __future__ import annotations

import importlib
import logging
import re
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from diptych.cli.options import CONFIG, JsonOption, QuietOption, StoreOption, option
from diptych.cli.output import stderr, write_json
from diptych.cli.run_command import Session
from diptych.errors import ConfigError, MissingExtra
from diptych_serve.service.access import Keys, Limits, require_key

if TYPE_CHECKING:
    from diptych_serve.service.application import Extension
    from diptych_serve.service.served import Served

_LOOK = 0.5  # seconds between checks that the store still has a holder

ConfigsOption: TypeAlias = Annotated[
    list[Path] | None,
    option("A config file; repeat for more. [default: diptych.yaml]", "--config", "-c", metavar="FILE"),
]
CollectionsOption: TypeAlias = Annotated[
    list[str] | None, option("With --store: a collection; repeat for more.", "--collection", metavar="NAME")
]
HostOption: TypeAlias = Annotated[str, option("Address to listen at.", metavar="ADDRESS")]
KeysOption: TypeAlias = Annotated[
    str | None, option("Environment variable with the API keys, instead of DIPTYCH_API_KEY.", metavar="NAME")
]
HostsOption: TypeAlias = Annotated[
    list[str] | None, option("A further host name of the server; repeat for more.", "--allowed-host", metavar="NAME")
]
InsecureOption: TypeAlias = Annotated[bool, option("Let other machines call without an API key.", "--insecure")]
GraceOption: TypeAlias = Annotated[
    int, option("After SIGTERM or Ctrl-C: time for running requests to finish.", min=1, metavar="SECONDS")
]
LOCAL = "127.0.0.1"
_USER = re.compile(r"//[^/@]*@")  # of a URL, with a password
MOST = Limits()


def serve(
    context: typer.Context,
    configs: ConfigsOption = None,
    store: StoreOption = None,
    collections: CollectionsOption = None,
    adapters: Annotated[
        list[str] | None, option("A further adapter to serve; repeat for more.", "--adapter", metavar="NAME[:MODEL]")
    ] = None,
    encoders_only: Annotated[
        bool, option("Serve the configs' encoders and rerankers; open no store.", "--encoders-only")
    ] = False,
    mcp: Annotated[
        bool, option("Serve the Model Context Protocol: on standard input, or with --port over HTTP.", "--mcp")
    ] = False,
    tenant: Annotated[str | None, option("With --mcp: serve only this tenant's documents.", metavar="NAME")] = None,
    edge: Annotated[
        Path | None, option("Serve Qdrant's REST API of this embedded store, at a socket and --port.", metavar="PATH")
    ] = None,
    host: HostOption = LOCAL,
    port: Annotated[
        int | None, option("The port; 0 for a free one. [default: 8000]", min=0, max=65535, metavar="N")
    ] = None,
    allow_writes: Annotated[
        bool, option("Let clients write documents: PUT /documents, POST /populate.", "--allow-writes")
    ] = False,
    max_upload: Annotated[int, option("Maximum bytes of a /populate request.", min=1, metavar="N")] = MOST.upload,
    api_keys_env: KeysOption = None,
    insecure: InsecureOption = False,
    allowed_hosts: HostsOption = None,
    cors_origin: Annotated[
        list[str] | None,
        option("Origin of a web page that may call from a browser; repeat for more.", metavar="ORIGIN"),
    ] = None,
    max_body: Annotated[int, option("Maximum bytes of a request.", min=1, metavar="N")] = MOST.body,
    max_inputs: Annotated[int, option("Maximum texts in a request.", min=1, metavar="N")] = MOST.inputs,
    max_characters: Annotated[int, option("Maximum characters of a text.", min=1, metavar="N")] = MOST.characters,
    grace: GraceOption = 30,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve collections, encoders and rerankers over HTTP: /search, /v1/embeddings, /v1/models, /rerank.

    /healthz, /readyz and /metrics serve monitoring. If DIPTYCH_API_KEY holds an API key, requests must send it.

    With --mcp, language models get the tools search, explain and info instead. On standard input, standard output
    carries only the protocol; with --port the address ends with /mcp.

    With --edge, any Qdrant client can connect. Programs of this user that open edge:PATH share the store with or
    without this command; requests to the port must send an API key in the header api-key: the one in DIPTYCH_API_KEY,
    or else a random one that is printed.

    [dim]Examples:[/dim]

      diptych serve

      diptych serve -c packages.yaml -c articles.yaml --port 8080

      diptych serve --store https://qdrant.example.org:6333 --collection packages --host 0.0.0.0

      diptych serve --encoders-only --adapter cross-encoder:./my-reranker

      diptych serve --mcp -c /home/me/packages/diptych.yaml

      diptych serve --edge ./qdrant --port 6333
    """
    session: Session = context.obj
    if edge is not None:
        others = {"--config": configs, "--store": store, "--mcp": mcp, "--adapter": adapters}
        _require_alone("--edge", {**others, "--encoders-only": encoders_only})
        return serve_edge(edge, port, api_keys_env, as_json=as_json)
    keys = Keys.from_environment(api_keys_env)
    limits = Limits(max_body, max_inputs, max_characters, upload=max_upload)
    if mcp:
        _require_alone("--mcp", {"--adapter": adapters, "--encoders-only": encoders_only})
        require("mcp", extra="mcp")
        with closing(opened(session, configs, store, collections, create=allow_writes)) as served:
            from diptych_serve.agents import PATH, http_application, mcp_server, serve_stdio
            from diptych_serve.service.context import warm_in_background
            from diptych_serve.service.server import run

            server = mcp_server(served, allow_populate=allow_writes, tenant=tenant)
            server.listed = partial(warm_in_background, served)
            if port is None:
                if sys.stdin.isatty():
                    stderr().print("waiting for a client on standard input; one usually starts this command itself")
                return serve_stdio(server, served.close, grace=grace)
            with _listening(host, port, keys, insecure=insecure) as (listening, url):
                asked: dict[str, Any] = {"hosts": allowed_hosts or (), "origins": cors_origin or ()}
                tools = http_application(server, keys=keys, host=host, limits=limits, **asked)
                announce({"url": f"{url}{PATH}"}, f"listening on {url}{PATH}", as_json=as_json)
                return run(tools, listening, grace=grace)
    if tenant is not None:
        raise ConfigError("--tenant goes with --mcp", got=tenant, do="add --mcp; requests name their own tenant")
    require("starlette", "uvicorn", "prometheus_client", extra="serve")
    from diptych_serve.service.application import application
    from diptych_serve.service.server import called, run

    with _listening(host, 8000 if port is None else port, keys, insecure=insecure, quiet=quiet) as (listening, url):
        served = opened(
            session, configs, store, collections, adapters=adapters, create=allow_writes, encoders_only=encoders_only
        )
        may_ask: dict[str, Any] = {"origins": cors_origin or (), "hosts": called(host, allowed_hosts or (), keys)}
        app = application(served, keys=keys, limits=limits, writes=allow_writes, **may_ask)
        known, models = list(served.collections), [model.id for model in served.models()]
        names = f"collections: {', '.join(known) or 'none'}; models: {', '.join(models)}"
        document = {"url": url, "collections": known, "models": models}
        announce(document, f"listening on {url}", names, as_json=as_json)
        run(app, listening, grace=grace)
    return None


@contextmanager
def _listening(
    host: str, port: int, keys: Keys, *, insecure: bool, quiet: bool = False
) -> Iterator[tuple[socket, str]]:
    """A socket and its URL, if these keys are enough; what happens is logged to standard error."""
    from diptych_serve.service.server import address, listen, log_to_stderr

    require_key(host, keys, insecure=insecure)
    with listen(host, port) as listening:
        log_to_stderr(logging.WARNING if quiet else logging.INFO)
        yield listening, address(listening, host)


def _require_alone(option: str, others: Mapping[str, object]) -> None:
    """Raise ConfigError for options that do not go with this one."""
    for name in (name for name, value in others.items() if value):
        raise ConfigError(f"{name} does not go with {option}", do="leave one of the two out")


def studio(
    context: typer.Context,
    configs: ConfigsOption = None,
    store: StoreOption = None,
    collections: CollectionsOption = None,
    queries: Annotated[
        list[Path] | None,
        option("queries.jsonl, and qrels/ if they are judged; repeat for more.", "--queries", metavar="FOLDER"),
    ] = None,
    judgements: Annotated[
        Path | None, option("Let people judge, and save their grades there.", "--judgements", metavar="FOLDER")
    ] = None,
    allow_writes: Annotated[
        bool, option("Let the page roll a swap back; by default it only reads.", "--allow-writes")
    ] = False,
    open_browser: Annotated[bool, option("Open the page in the browser.", "--open")] = False,
    host: HostOption = LOCAL,
    port: Annotated[int, option("The port; 0 for a free one.", min=0, max=65535, metavar="N")] = 8002,
    api_keys_env: KeysOption = None,
    insecure: InsecureOption = False,
    allowed_hosts: HostsOption = None,
    grace: GraceOption = 5,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search collections in the browser; compare, explain and judge their answers.

    The page reads only, unless --judgements or --allow-writes say otherwise. Nothing leaves this machine. If
    DIPTYCH_API_KEY holds an API key, the page asks for it.

    [dim]Examples:[/dim]

      diptych studio --open

      diptych studio -c packages.yaml -c articles.yaml --queries judged --judgements judgements

      diptych studio --store edge:./qdrant --collection packages
    """
    require("starlette", "uvicorn", "prometheus_client", extra="serve")
    from diptych_serve.service.application import application
    from diptych_serve.service.server import called, run

    keys = Keys.from_environment(api_keys_env)
    with _listening(host, port, keys, insecure=insecure, quiet=quiet) as (listening, url):
        served = opened(context.obj, configs, store, collections)
        extension = studio_of(served, configs, store, queries, judgements, writes=allow_writes)
        app = application(served, keys=keys, hosts=called(host, allowed_hosts or (), keys), extension=extension)
        page, names = f"{url}/studio/", list(served.collections)
        said = f"Studio of {', '.join(names)} is at {page}", "Ctrl-C ends it"
        announce({"url": page, "collections": names}, *said, as_json=as_json)
        if open_browser:
            # In a thread: a browser for terminals would keep the service from starting.
            threading.Thread(target=webbrowser.open, args=(page,), name="diptych-browser", daemon=True).start()
        run(app, listening, grace=grace)


def studio_of(
    served: Served,
    configs: Sequence[Path] | None,
    store: str | None,
    queries: Sequence[Path] | None,
    judgements: Path | None,
    *,
    writes: bool,
) -> Extension:
    """Studio with these options of a command.

    Raises:
        ConfigError: judgements cannot be saved to a folder of this name.
        EvaluationError: the queries cannot be read.
    """
    from diptych_serve.studio.routes import studio

    if judgements is not None and not (judgements if judgements.exists() else judgements.parent).is_dir():
        expected = "a folder, or a name for a new one in a folder that exists"
        raise ConfigError("grades cannot be saved there", where="--judgements", got=str(judgements), expected=expected)

    names = list(served.collections)
    if store is not None:
        place = _USER.sub("//", store)
        opened = {name: f"{place!r}, {name!r}" for name in names}
    else:
        opened = {name: repr(str(path)) for name, path in zip(names, configs or [CONFIG], strict=True)}
    return studio(queries=queries or (), judgements=judgements, writes=writes, opened=opened)


def opened(
    session: Session,
    configs: Sequence[Path] | None,
    store: str | None,
    names: Sequence[str] | None,
    *,
    adapters: Sequence[str] | None = None,
    create: bool = False,
    encoders_only: bool = False,
) -> Served:
    """The collections that the options name, or only the encoders and rerankers of their configs.

    Raises:
        ConfigError, StoreError, CollectionError: see diptych.collection.collection.
    """
    from diptych_serve.service.served import Served

    if create and (encoders_only or store is not None):
        got = "--encoders-only" if encoders_only else f"--store {store}"
        raise ConfigError("--allow-writes needs configs", got=got, do="name a config by -c FILE")
    if encoders_only and store is not None:
        do = "name a config, or leave one out"
        raise ConfigError("--encoders-only opens no store", got=f"--store {store}", do=do)
    if encoders_only:
        paths = configs or ([CONFIG] if CONFIG.exists() or not adapters else [])
        return Served.of_encoders(paths, adapters=adapters or (), registry=session.registry)
    if store is not None:
        return Served.stored(store, names or [], adapters=adapters or (), registry=session.registry)
    if names:
        raise ConfigError("--collection goes with --store", do="name configs instead: each names its collection")
    return Served.open(configs or [CONFIG], adapters=adapters or (), registry=session.registry, create=create)


def announce(document: Mapping[str, object], *lines: str, as_json: bool) -> None:
    """Say that a service listens: as JSON on standard output, or as lines on standard error."""
    if as_json:
        write_json(document)
        sys.stdout.flush()
        return
    for number, line in enumerate(lines):
        stderr().print(line, style="" if number else "bold", soft_wrap=True)


def require(*modules: str, extra: str) -> None:
    """Raise MissingExtra when one of these modules is not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            what, do = f"this command needs the package {module}", f"pip install 'diptych[{extra}]'"
            raise MissingExtra(what, got=str(error), do=do) from error


def serve_edge(path: Path, port: int | None, api_keys_env: str | None, *, as_json: bool) -> None:
    """Keep an embedded store open and serve Qdrant's REST API at its socket and at a local port; say the addresses."""
    from diptych_edge import SharedEdgeClient
    from diptych_edge.share.address import serve_at

    keys = Keys.from_environment(api_keys_env)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with ExitStack() as stack:
        client = stack.enter_context(SharedEdgeClient(path))
        places, token = [client.url], ""
        if port is not None:
            address = stack.enter_context(serve_at(port, client, has_key=keys.accept_key if keys else None))
            places, token = [*places, address.url], address.token
        lines = ["\n".join(f"{client} answers at {place}" for place in places)]
        lines += [f"api-key of the port, until this command ends: {token}"] if token else []
        announce({"urls": places, **({"api_key": token} if token else {})}, *lines, as_json=as_json)
        while True:
            time.sleep(_LOOK)
            client.info()  # if the holder has ended, this call makes this process the holder
