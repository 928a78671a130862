"""The dependency rules of the design, read from the imports of every module without importing it.

Arrows point one way: a module of the host imports its own package and lower layers, and no modules import each other in
a circle. Imports that only type checkers see count as well, and so does `import_module` of a name that stands there.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HOST, GUESTS, TRAINING = (
    ROOT / part for part in ("plugin/diptych", "adapters/diptych_adapters", "adapters/diptych_training")
)
EXPERIMENTAL = ROOT / "adapters/diptych_experimental"
EDGE, LAB, SERVE = (ROOT / part for part in ("plugin/diptych_edge", "plugin/diptych_lab", "plugin/diptych_serve"))
BRIDGES = ("langchain", "llama_index", "haystack", "sklearn")
PUBLIC = (
    *(
        "diptych",
        "diptych.config",
        "diptych.encoders",
        "diptych.search",
        "diptych.errors",
        "diptych.types",
        "diptych.media",
    ),
    "qdrant_client.models",
)
# What a search says of a hit and how media look outside, alike in every framework.
SHARED = ("diptych_adapters.frameworks",)
GUEST_PACKAGES = ("diptych_adapters", "diptych_experimental", "diptych_lab", "diptych_serve", "diptych_training")
PACKAGES = (HOST, EDGE, LAB, SERVE, GUESTS, TRAINING, EXPERIMENTAL)
FORBIDDEN_TO_HOST = ("torch", "sentence_transformers", "transformers", *GUEST_PACKAGES)

LINES, MODULES = 600, 20  # of a module, and of a folder
INSIDES_OF_LAB = 37  # may only fall

# From the ground up; a name stands for a module or a package. A line may import the lines above it, none of its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "display"),
    ("runtime",),
    ("reports",),
    ("media",),
    ("types",),
    ("protocols", "frames", "generation"),
    ("specs", "passages"),
    ("hookspecs", "factory"),
    ("registry", "testing"),
    ("metadata", "config"),
    ("slots", "stores"),
    ("handle",),
    ("encoders", "search", "populate"),
    ("adopt", "clients", "copying", "evaluate", "training"),
    ("swap",),
    ("collection",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


@cache
def imports(path: Path) -> tuple[str, ...]:
    """The absolute dotted names that a module imports, wherever it does, also for type checkers only or by name."""
    return tuple(_imports(ast.parse(path.read_text()).body))


def _imports(nodes: list[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        yield from _imported_by_name(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            for child in ast.iter_child_nodes(node):
                yield from _imports([child] if isinstance(child, ast.stmt) else _statements(child))


def _imported_by_name(node: ast.stmt) -> Iterator[str]:
    """The names in `import_module("a.b")` within a simple statement."""
    calls = [] if _statements(node) else [call for call in ast.walk(node) if isinstance(call, ast.Call)]
    for call in calls:
        if ast.unparse(call.func).endswith("import_module") and isinstance(call.args[0], ast.Constant):
            yield str(call.args[0].value)


def _statements(node: ast.AST) -> list[ast.stmt]:
    """Statements below a node that is none itself, such as an except clause or a match case."""
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def layer_of(dotted: str) -> str:
    """The module or package directly under `diptych` that a dotted name lies in; "" for `diptych` itself."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


def modules(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def all_modules() -> list[Path]:
    return [path for root in PACKAGES for path in modules(root)]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def offenders(paths: Iterable[Path], excess: Callable[[Path], Iterable[str]]) -> dict[str, list[str]]:
    """The modules that do what a rule forbids, and what they do."""
    return {relative(path): found for path in paths if (found := sorted(excess(path)))}


def of_host(path: Path) -> set[str]:
    """The parts of the host that a module imports."""
    return {layer_of(name) for name in imports(path) if name.split(".")[0] == "diptych"}


def of_packages(path: Path, packages: Iterable[str]) -> set[str]:
    """The names of these packages that a module imports."""
    return {name for name in imports(path) if name.split(".")[0] in packages}


def test_every_part_of_the_host_has_its_layer() -> None:
    parts = {path.relative_to(HOST).parts[0].removesuffix(".py") for path in modules(HOST)} - {"__init__"}
    assert parts <= set(RANK), f"give them a layer: {sorted(parts - set(RANK))}"


def test_arrows_of_the_host_point_one_way() -> None:
    def upward(path: Path) -> set[str]:
        own = path.relative_to(HOST).parts[0].removesuffix(".py")
        return {name for name in of_host(path) & set(RANK) - {own} if RANK[name] >= RANK[own]}

    inside = [path for path in modules(HOST) if path.parent != HOST or path.stem != "__init__"]
    assert offenders(inside, upward) == {}, "these import what stands beside or above them"


def test_no_singleimport_each_other_in_a_circle() -> None:
    names = {_dotted(path): path for root in PACKAGES for path in modules(root)}
    arrows = {
        name: {_module_of(target, names) for target in imports(path)} & set(names) for name, path in names.items()
    }
    try:
        list(TopologicalSorter({name: targets - {name} for name, targets in arrows.items()}).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


def test_no_module_and_no_folder_is_too_large_to_be_taken_in() -> None:
    long = {relative(path): lines for path in all_modules() if (lines := len(path.read_text().splitlines())) > LINES}
    assert not long, f"split these modules, or take something away: {long}"
    folders = Counter(path.parent for path in all_modules() if path.stem != "__init__")
    full = {relative(folder): number for folder, number in folders.items() if number > MODULES}
    assert not full, f"give some of the modules of these folders a folder of their own: {full}"


def test_every_package_says_where_to_begin() -> None:
    def unsaid(path: Path) -> list[str]:
        text = path.read_text()
        named = re.search(r"[Bb]egin with\s+`([\w.]+)`", ast.get_docstring(ast.parse(text)) or "")
        if not named:
            return ["say what the room is for, and the module to begin with"]
        module = path.parent.joinpath(*named[1].split("."))
        exists = module.is_dir() or module.with_suffix(".py").exists()
        return [] if exists or re.search(rf"\b{named[1]}\b", text.split('"""')[2]) else [f"no {named[1]}"]

    assert offenders([path for path in all_modules() if path.stem == "__init__"], unsaid) == {}


def _dotted(path: Path) -> str:
    """The module's name: `diptych.search.run`."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module_of(name: str, known: Mapping[str, Path]) -> str:
    """The module that an imported name lies in, or is."""
    return name if name in known else name.rpartition(".")[0]


def test_the_host_imports_no_model_library_and_no_guest() -> None:
    assert offenders(modules(HOST), lambda path: of_packages(path, FORBIDDEN_TO_HOST)) == {}


def test_the_embedded_store_takes_errors_and_small_helpers_of_diptych_alone() -> None:
    assert offenders(modules(EDGE), lambda path: of_host(path) - {"errors", "runtime"}) == {}


def test_the_example_of_the_embedded_store_alone_runs(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (EDGE / "README.md").read_text(), re.DOTALL)
    assert example
    done = subprocess.run([sys.executable, "-c", example[1]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout


def test_the_host_reaches_the_embedded_store_from_its_stores_alone_and_when_one_is_opened() -> None:
    def reached(path: Path) -> set[str]:
        at_once = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        first = set(_imports(list(at_once)))
        stores = path.is_relative_to(HOST / "stores") or path.parent.name == "clients"
        return {name for name in (first if stores else imports(path)) if name.startswith("diptych_edge")}

    assert offenders(modules(HOST), reached) == {}


def test_the_lab_imports_no_guest_but_the_embedded_store() -> None:
    assert offenders(modules(LAB), lambda path: of_packages(path, {*GUEST_PACKAGES} - {"diptych_lab"})) == {}


def test_the_lab_takes_ever_fewer_insides_of_the_host() -> None:
    """Names from below a room's door, such as `diptych.slots.slot.Slot`: what is listed is missing from the door."""

    def insides(path: Path) -> set[str]:
        below = {name for name in imports(path) if re.match(r"diptych\.\w+\.\w+\.\w", name)}
        return {name for name in below if layer_of(name) != "runtime"}

    found = offenders([path for path in modules(LAB) if path.parent.name != "cli"], insides)
    assert sum(map(len, found.values())) <= INSIDES_OF_LAB, found


def test_the_services_import_no_guest_but_the_lab_and_the_embedded_store() -> None:
    foreign = {*GUEST_PACKAGES} - {"diptych_lab", "diptych_serve"}
    assert offenders(modules(SERVE), lambda path: of_packages(path, foreign)) == {}


def test_the_services_reach_ever_fewer_insides_of_the_host() -> None:
    """The number may only fall: what a guest needs and has no public name for is missing from the door, for all."""
    documented = set(re.findall(r'"diptych\.(\w+)"', (ROOT / "docs" / "site.py").read_text()))
    public = {"", "types", "specs", "runtime"} | documented | public_names()

    def inside(name: str) -> bool:
        return name.startswith("diptych.") and (layer_of(name) not in public or name.count(".") > 2)

    runtime = "diptych.runtime."
    reached = {
        name for path in modules(SERVE) for name in imports(path) if inside(name) and not name.startswith(runtime)
    }
    assert len(reached) <= 97, "\n".join(sorted(reached))


def bridges() -> list[Path]:
    """The modules of the bridges to frameworks."""
    return [path for name in BRIDGES for path in modules(GUESTS / name) or [GUESTS / f"{name}.py"]]


def guests() -> list[Path]:
    """The modules of adapters: all guests that serve but the bridges."""
    return [path for path in modules(GUESTS) if path not in bridges()]


def test_encoders_never_import_the_client_of_the_store() -> None:
    def clients(path: Path) -> set[str]:
        # A text index is made of the store's own words, and so are the terms of FastEmbed's BM25.
        return set() if path.stem == "lexical" else of_packages(path, ("qdrant_client", "qdrant_edge"))

    assert offenders(guests(), clients) == {}


def test_guests_use_the_contracts_of_the_host_and_none_of_its_insides() -> None:
    allowed = {"", "types", "media", "errors", "protocols", "specs", "hookspecs", "reports", "runtime"} | public_names()

    def insides(path: Path) -> set[str]:
        shared = {"config", "encoders", "search"} if path.stem == "frameworks" else set()  # of the bridges
        return of_host(path) - allowed - shared

    assert offenders(guests(), insides) == {}


def test_what_was_shown_to_help_stands_without_what_was_not() -> None:
    paths = [*modules(GUESTS), *modules(TRAINING)]
    assert offenders(paths, lambda path: of_packages(path, ("diptych_experimental",))) == {}


def test_training_uses_the_public_host_alone() -> None:
    """What users import, and beside it the specs, hooks, measures and the contract of recipes."""
    allowed = {name.partition(".")[2] for name in PUBLIC if name.startswith("diptych.")} | public_names()
    allowed |= {"", "specs", "generation", "hookspecs", "protocols", "runtime", "evaluate", "media", "training"}
    paths = [*modules(TRAINING), *modules(EXPERIMENTAL)]
    assert offenders(paths, lambda path: of_host(path) - allowed) == {}


def test_bridges_use_the_public_host_alone() -> None:
    """Of the host what users import; of the store's client its values; of the adapters its own and what all share."""
    names = public_names()
    bounded = ("diptych", "qdrant_client", "qdrant_edge", "diptych_adapters", "diptych_training")

    def allowed(name: str, own: str) -> bool:
        module = name.rpartition(".")[0]
        public = name in PUBLIC or (module in PUBLIC and (module != "diptych" or name.split(".")[1] in names))
        return public or f"{name}.".startswith((own, *SHARED))

    def insides(path: Path) -> set[str]:
        own = f"diptych_adapters.{path.relative_to(GUESTS).parts[0]}."
        return {name for name in of_packages(path, bounded) if not allowed(name, own)}

    assert offenders(bridges(), insides) == {}


def public_names() -> set[str]:
    """What `from diptych import ...` gives: the names of its `__all__`."""
    tree = ast.parse((HOST / "__init__.py").read_text())
    listed = [node.value for node in tree.body if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node)]
    return set(ast.literal_eval(listed[0]))


def test_these_rules_see_imports_at_any_depth_and_those_for_type_checkers(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import a.b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hidden\n"
        "def f():\n    try:\n        from c import d\n    except ImportError:\n        import e\n"
        "class K:\n    def g(self):\n        with x:\n            import h\n"
        "y = importlib.import_module('by.name').z\n"
    )
    assert set(imports(module)) == {"a.b", "typing.TYPE_CHECKING", "hidden", "c.d", "e", "h", "by.name"}
