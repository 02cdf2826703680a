"""What the pages say of the project's files is so: links, functions, make targets."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), PROJECT / "data/README.md"])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]*))?\)")
WAY = re.compile(r"^\|[^|]*\|\s*\[`[^`]+`\]\(\.\./(src/[^)]+)\)\s*\|\s*([^|]+)\|$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path):
    links = [link for link in LINK.findall(page.read_text()) if not re.match(r"https?://|mailto:", link[0])]
    assert [file for file, _ in links if not (page.parent / file).exists()] == []
    assert [link for link in links if link[1] and link[1] not in headings(page.parent / link[0])] == []


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_functions_on_a_prompts_way_are_where_the_architecture_says():
    rows = WAY.findall((PROJECT / "docs/architecture.md").read_text())
    named = {(file, name) for file, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert len(named) > 30
    files = {file: ast.parse((PROJECT / file).read_text()).body for file, _ in named}
    defined = {
        (file, node.name)
        for file, body in files.items()
        for node in body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert named - defined == set()


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert named - targets == set()


def test_every_package_has_a_layer_and_an_api_page():
    packages = {file.parent.name for file in (PROJECT / "src/selfie").glob("*/__init__.py")}
    architecture = (PROJECT / "docs/architecture.md").read_text()
    assert {name for name in packages if f"[`{name}`](" not in architecture} == set()
    assert packages - {"pipelines"} == {page.stem for page in (PROJECT / "docs/api").glob("*.md")}
