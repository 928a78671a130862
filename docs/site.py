"""Hooks of mkdocs: the start page from the README, links into the repository, the Python API, llms.txt."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PROJECT = "project"  # the site's folder for files of the repository that are not under docs/
LINK = re.compile(r"(?P<before>\[[^\]]*\]\()(?P<target>[^)#\s]+)(?P<after>[^)]*\))")
ELSEWHERE = {"errors", "DiptychError"}  # names of `diptych` that the page of errors shows
HELPERS = {"brief", "is_frame"}  # of modules without an `__all__`
API = {
    "diptych": ("diptych", ["diptych"], "What `import diptych` offers, besides the [errors](errors.md)."),
    "errors": (
        "Errors",
        ["diptych.errors"],
        "Every error is a `DiptychError` that says what, where, got, expected and what to do.",
    ),
    "search": (
        "Search",
        ["diptych.search"],
        "Stages of a pipeline, and what a search is made of. See [the guide](../../search.md).",
    ),
    "populate": (
        "Populate",
        ["diptych.populate", "diptych.frames"],
        "Sources, progress, reports, and data frames. See [the guide](../../populate.md).",
    ),
    "swap": ("Swap", ["diptych.swap"], "Plans, reports and options of a swap. See [the guide](../../swap.md)."),
    "evaluate": (
        "Evaluate and tune",
        ["diptych.evaluate", "diptych_lab.judge", "diptych_lab.tune"],
        "Measures, comparisons and setups. See [evaluation](../../evaluate.md) and [stores](../../stores.md).",
    ),
    "stores": (
        "Stores, copy, adopt",
        ["diptych.stores", "diptych.copying", "diptych.adopt"],
        "Opening stores, copying collections and files, and taking collections over. See [stores](../../stores.md).",
    ),
    "encoders": (
        "Encoders",
        ["diptych.encoders", "diptych.clients"],
        "Encoders and rerankers by name; clients that use them. See [qdrant-client](../../qdrant-client.md).",
    ),
    "media": (
        "Media",
        ["diptych.media"],
        "Pictures, sounds and clips. See [the guide](../../populate.md#pictures-sounds-and-other-media).",
    ),
    "plugins": (
        "Plugins",
        ["diptych.protocols", "diptych.reports", "diptych.generation", "diptych.passages", "diptych.training"],
        "What adapters may offer beyond their contract, and what hooks get. The contracts and specs are on the page "
        "[diptych](diptych.md). See [hooks](../hooks.md) and [write an adapter](../../adapters.md#write-an-adapter).",
    ),
    "config": ("Config", ["diptych.config"], "The models behind [diptych.yaml](../config.md), and how it is read."),
    "integrations": (
        "Integrations",
        [f"diptych_adapters.{name}" for name in ("langchain", "llama_index", "haystack", "sklearn")],
        "The classes for LangChain, LlamaIndex, Haystack and scikit-learn. Each needs its extra.",
    ),
    "training": (
        "Training",
        ["diptych_training.losses", "diptych_training.rows"],
        "Losses and samplers for the trainers of sentence-transformers. They need the extra `train`.",
    ),
    "testing": (
        "Test kit",
        ["diptych.testing"],
        "For authors of adapters: contract classes for pytest, checks and deterministic fakes.",
    ),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace `folder/*.md` in the navigation by the pages of that folder, its README first."""
    config.nav = _expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the start page, the API pages and each file of the repository that a page links to."""
    start = _moved((ROOT / "README.md").read_text(encoding="utf-8"), ROOT, "index.md")
    files.append(File.generated(config, "index.md", content=start))
    for name in API:
        files.append(File.generated(config, f"reference/api/{name}.md", content=api_page(name)))
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    done: set[Path] = set()
    while pages:
        page = pages.pop()
        for target in _outside(page) - done:
            done.add(target)
            text = target.read_text(encoding="utf-8")
            if target.suffix == ".md":
                pages.append(target)
                text = _moved(text, target.parent, _uri(target))
            files.append(File.generated(config, _uri(target), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point a page's links to files outside `docs/` at their copies in the site."""
    if page.file.generated_by:
        return markdown
    source = ROOT / "docs" / page.file.src_uri
    return _moved(markdown, source.parent, page.file.src_uri)


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt, the list of pages for language models (https://llmstxt.org)."""
    text = llms_txt(config.nav, config.site_name, config.site_description)
    Path(config.site_dir, "llms.txt").write_text(text, encoding="utf-8")


def llms_txt(nav: Any, name: str, about: str | None) -> str:
    """Each page of the navigation with its title and first sentence, under the headings of the tabs."""
    parts: list[tuple[str, list[str]]] = [("Start", [])]
    for entry in nav:
        if isinstance(entry, dict):
            (title, inner), *_ = entry.items()
            parts.append((title, list(_pages(inner))))
        else:
            parts[0][1].append(entry)
    lines = [f"# {name}", "", f"> {about}", ""]
    for title, pages in parts:
        lines += [f"## {title}", "", *map(_llms_line, pages), ""]
    return "\n".join(lines)


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for inner in nav.values() if isinstance(nav, dict) else nav:
        yield from _pages(inner)


def _llms_line(page: str) -> str:
    text = _source(page)
    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), page)
    paragraphs = (part for part in text.split("\n\n")[1:] if re.match(r"(?!```)[A-Za-z`*\[]", part))
    sentence = re.split(r"(?<=[.:])\s", " ".join(next(paragraphs, "").split()))[0]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", sentence)
    folder, _, file = page.rpartition("/")
    file = "index.html" if file == "README.md" else f"{file.removesuffix('.md')}.html"
    return f"- [{title}]({folder}/{file}): {plain}" if folder else f"- [{title}]({file}): {plain}"


def _source(page: str) -> str:
    """The Markdown behind a page of the navigation."""
    if page.startswith("reference/api/"):
        return api_page(Path(page).stem)
    if page == "index.md":
        path = ROOT / "README.md"
    elif page.startswith(f"{PROJECT}/"):
        path = ROOT / page.removeprefix(f"{PROJECT}/")
    else:
        path = ROOT / "docs" / page
    return path.read_text(encoding="utf-8")


def api_page(name: str) -> str:
    """The Markdown of one page of the Python API, with a directive for each public name."""
    title, modules, about = API[name]
    lines = [f"# {title}", "", about, ""]
    for module in modules:
        if len(modules) > 1:
            lines += [f"## `{module}`", ""]
        known = set() if module == "diptych" else set(public_paths("diptych"))  # on its own page
        lines += [f"::: {path}\n" for path in public_paths(module) if path not in known]
    return "\n".join(lines)


def public_paths(module: str) -> list[str]:
    """Where each name of a module's `__all__` is defined, read without importing it."""
    base = next(ROOT / top for top in ("plugin", "adapters") if (ROOT / top / module.split(".")[0]).is_dir())
    path = base.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    origin = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    elsewhere = ELSEWHERE if module == "diptych" else set()
    names = [name for name in _all(tree) if not name.startswith("__") and name not in elsewhere]
    return [_defined(origin.get(name, f"{module}.{name}")) for name in names]


def _all(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    defined = (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return [node.name for node in defined if not node.name.startswith("_") and node.name not in HELPERS]


def _defined(path: str) -> str:
    """The same for a name that its module takes from another one."""
    module, _, name = path.rpartition(".")
    for top in ("plugin", "adapters"):
        folder = ROOT.joinpath(top, *module.split("."))
        if (folder / "__init__.py").is_file():
            for node in ast.walk(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.ImportFrom)
                    and node.module != module
                    and any((a.asname or a.name) == name for a in node.names)
                ):
                    return _defined(f"{node.module}.{name}")
    return path


def _expanded(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(inner) for title, inner in nav.items()}
    if isinstance(nav, list):
        return [_expanded(inner) for inner in nav]
    if isinstance(nav, str) and nav.endswith("/*.md"):
        found = sorted(p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").glob(nav))
        return sorted(found, key=lambda page: not page.endswith("README.md"))
    return nav


def _uri(path: Path) -> str:
    """Where a file of the repository stands in the site."""
    if path == ROOT / "README.md":
        return "index.md"
    docs = ROOT / "docs"
    return (
        path.relative_to(docs).as_posix()
        if path.is_relative_to(docs)
        else f"{PROJECT}/{path.relative_to(ROOT).as_posix()}"
    )


def _outside(page: Path) -> set[Path]:
    """The files outside `docs/` that a page links to; a folder stands for its README."""
    return {path for path in _targets(page) if not path.is_relative_to(ROOT / "docs") and path != ROOT / "README.md"}


def _targets(page: Path) -> set[Path]:
    links = (match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8")))
    found = {(page.parent / link).resolve() for link in links if "://" not in link}
    return {path / "README.md" if path.is_dir() else path for path in found if path.exists()}


def _moved(markdown: str, folder: Path, uri: str) -> str:
    """A page's text with its links, which hold in `folder` of the repository, made for its place in the site."""

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        path = (folder / target).resolve()
        if "://" in target or not path.exists():
            return match[0]
        path = path / "README.md" if path.is_dir() else path
        return match["before"] + posixpath.relpath(_uri(path), posixpath.dirname(uri) or ".") + match["after"]

    return LINK.sub(link, markdown)
