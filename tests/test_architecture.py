"""The layout of the code: data moves one way, and nothing from outside is unpickled."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cytosae

ROOT = Path(cytosae.__file__).parent
STAGES = (
    "synthetic",
    "segmentation",
    "cells",
    "morphometry",
    "fields",
    "harmonise",
    "backbones",
    "tokens",
    "sae",
    "concepts",
    "teaching",
    "cohort",
    "report",
    "remembered",
    "study",
    "analysis",
    "explorer",
    "reproduction",
    "sweeps",
    "doctor",
    "cli",
)
SHARED = (
    "artefacts",
    "console",
    "downloads",
    "engines",
    "errors",
    "interrupts",
    "learned",
    "locks",
    "settings",
    "storage",
)


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cytosae."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("cytosae.")}
    return found


def test_a_stage_imports_only_from_stages_to_its_left() -> None:
    for place, stage in enumerate(STAGES):
        files = [ROOT / f"{stage}.py"] if (ROOT / f"{stage}.py").is_file() else list((ROOT / stage).rglob("*.py"))
        assert files, stage
        for path in files:
            wrong = imports(path) & set(STAGES[place + 1 :])
            assert not wrong, f"{path.relative_to(ROOT)} imports from {', '.join(sorted(wrong))}"


def test_shared_modules_import_no_stage() -> None:
    for name in SHARED:
        for path in (ROOT / name).rglob("*.py") if (ROOT / name).is_dir() else [ROOT / f"{name}.py"]:
            assert not imports(path) & set(STAGES), path.relative_to(ROOT)


def test_everything_is_a_stage_or_shared() -> None:
    there = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert there - {"__init__", "__main__"} == {*STAGES, *SHARED}


def module_files(package: Path) -> dict[str, Path]:
    """Files by module; of a package whose names come from a stub (imported on first use), the stub."""
    files = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        stub = path.with_suffix(".pyi")
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = stub if stub.is_file() else path
    return files


def imported_names(module: str, path: Path) -> Iterator[tuple[str, str, str]]:
    """Every import of a file, also inside functions and for types alone: the name it has here, module and name there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + path.stem.startswith("__init__")]
            there = ".".join([*(above if node.level else []), *([node.module] if node.module else [])])
            yield from ((name.asname or name.name, there, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, name.name, "") for name in node.names)


def import_graph(package: Path) -> dict[str, set[str]]:
    """The modules that each module imports from, a name that a package passes on being the one of its module."""
    files = module_files(package)
    named = {module: list(imported_names(module, path)) for module, path in files.items()}
    passed_on = {
        module: {here: (there, name) for here, there, name in named[module]}
        for module, path in files.items()
        if path.stem == "__init__"
    }

    def home(module: str, name: str) -> str | None:
        if f"{module}.{name}" in files:
            return f"{module}.{name}"
        there, original = passed_on.get(module, {}).get(name, ("", ""))
        return home(there, original) if there in files and there != module else module if module in files else None

    return {
        module: {found for _, there, name in names if (found := home(there, name)) and found != module}
        for module, names in named.items()
    }


def test_no_module_imports_itself_by_way_of_others() -> None:
    try:
        TopologicalSorter(import_graph(ROOT)).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from error


def test_a_circle_of_imports_is_found_also_behind_a_package_and_inside_a_function(tmp_path: Path) -> None:
    package = tmp_path / "house"
    (package / "left").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "left" / "__init__.py").write_text("import lazy_loader")
    (package / "left" / "__init__.pyi").write_text("from .inner import A as A")
    (package / "left" / "inner.py").write_text("def f():\n    from house.right import B\n")
    (package / "right.py").write_text("from house.left import A\nB = A\n")
    graph = import_graph(package)
    assert graph["house.left.inner"] == {"house.right"}
    assert graph["house.right"] == {"house.left.inner"}
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


def test_nothing_is_unpickled_unsafely() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert not called.startswith(("pickle.load", "joblib.load", "dill.", "yaml.load"))
            assert called != "torch.load" or given.get("weights_only") == "True", path
            assert given.get("allow_pickle") != "True", path
            assert given.get("trust_remote_code") != "True", path
