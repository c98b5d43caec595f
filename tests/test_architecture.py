"""The layout of the code: data moves one way, and nothing from outside is unpickled."""

from __future__ import annotations

import ast
from pathlib import Path

import cytosae

ROOT = Path(cytosae.__file__).parent
STAGES = (
    "synthetic",
    "cells",
    "backbones",
    "tokens",
    "sae",
    "concepts",
    "cohort",
    "report",
    "study",
    "analysis",
    "explorer",
    "reproduction",
    "sweeps",
    "doctor",
    "cli",
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
    for name in ("artefacts", "console", "engines", "errors", "interrupts", "settings", "storage"):
        for path in (ROOT / name).rglob("*.py") if (ROOT / name).is_dir() else [ROOT / f"{name}.py"]:
            assert not imports(path) & set(STAGES), path.relative_to(ROOT)


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
