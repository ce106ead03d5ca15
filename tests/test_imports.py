"""Data flows one way: no module imports a floor above its own, and no cellar is shared."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("hw_templates", "search_spaces", "evaluators", "codesign")
ALLOWED = {floor: set(FLOORS[: position + 1]) for position, floor in enumerate(FLOORS)}
ALLOWED["codesign"].add("studies")  # data: the study files that ship


def imported_floors(source: str) -> set[str]:
    """Return the top-level names that a source text imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found & {*FLOORS, "studies", "tests"}


@pytest.mark.parametrize(
    "path",
    sorted(p for floor in FLOORS for p in (ROOT / floor).rglob("*.py")),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_no_module_imports_a_floor_above_its_own(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    assert imported_floors(path.read_text()) <= ALLOWED[floor]


def test_the_check_would_notice_an_upward_import() -> None:
    assert imported_floors("def f():\n    from codesign.front import knee") == {"codesign"}


@pytest.mark.parametrize(
    "statement", ["import codesign.cli", "import codesign", "import codesign.study_file"]
)
def test_the_top_floor_loads_neither_torch_nor_ray(statement: str) -> None:
    check = f"import sys; {statement}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
