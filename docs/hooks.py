"""What the documentation takes from the code and the glossary: pages of commands and of the Python API, equations as MathML,
and the meaning of a term where it appears."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from cytosae.cli.commands import app
from cytosae.cli.help import show_all

API = {
    "backbones": "Vision transformers, and the tokens that they make.",
    "cells": "Images and tables of cells.",
    "tokens": "Tokens on disk, or made on the fly.",
    "sae": "The autoencoder and its training.",
    "concepts": "Counts, statistics, reference images and maps of the concepts.",
    "teaching": "Concepts learned from marks.",
    "cohort": "Barcodes of patients, classification, comparison.",
    "report": "Figures and the page of a study.",
    "study": "A study as a whole.",
    "analysis": "Questions to a finished study.",
}
EXPLAINED = (
    *("AUROC", "CLS", "L0", "backbone", "barcode", "concept map", "conformal set", "dead latent", "decoder direction"),
    *("expansion factor", "explained variance", "harmonisation", "label entropy", "latent", "manifest"),
    *("reference images", "shard", "taught concept", "token", "worklist"),
)
"""Terms of the glossary that other pages explain when you point at them."""
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"^\| ([^|]+) \| (.+) \|$", re.MULTILINE)
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the code."""
    command = typer.main.get_command(app)
    show_all(command)
    context = typer.Context(command, info_name="cytosae")
    commands = get_docs_for_click(obj=command, ctx=context, name="cytosae", title="Commands")
    pages = {"reference/cli.md": commands.replace(r"\[", "[")}  # escaped for the terminal
    for stage, about in API.items():
        pages[f"reference/api/{stage}.md"] = f"# cytosae.{stage}\n\n{about}\n\n::: cytosae.{stage}\n"
    for file in files.documentation_pages():
        if file.src_uri.startswith("tutorials/"):
            pages[_notebook_of(file.src_uri)] = json.dumps(notebook(file.content_string), indent=1)
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def _notebook_of(page: str) -> str:
    return f"{page.removesuffix('.md')}.ipynb"


def notebook(markdown: str) -> dict[str, Any]:
    """A tutorial as a Jupyter notebook (nbformat 4): its text, and a cell for each block that you run."""
    cells, end = [], 0
    for block in _BLOCK.finditer(markdown):
        cells.append(("markdown", markdown[end : block.start()]))
        cells.append(("code", block[2] if block[1] == "python" else f"%%bash\n{block[2]}"))
        end = block.end()
    cells.append(("markdown", markdown[end:]))
    return {
        "cells": [
            {
                "cell_type": kind,
                "id": f"cell-{number}",
                "metadata": {},
                "source": text.strip().splitlines(keepends=True),
                **({"execution_count": None, "outputs": []} if kind == "code" else {}),
            }
            for number, (kind, text) in enumerate((kind, text) for kind, text in cells if text.strip())
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Append the meanings of the explained terms as abbreviations, but not to the glossary and pages from the code."""
    if page.file.src_uri.startswith("tutorials/"):
        title, text = markdown.split("\n", 1)
        name = Path(_notebook_of(page.file.src_uri)).name
        markdown = f"{title}\n\n[This tutorial as a notebook]({name}){{: download={name} }}\n{text}"
    if page.file.src_uri == "reference/glossary.md" or page.file.generated_by is not None:
        return markdown
    glossary = (Path(config["docs_dir"]) / "reference" / "glossary.md").read_text(encoding="utf-8")
    meanings = {
        term: re.sub(r"; \[[^\]]+\]\([^)]+\)$|[\[\]]|\([^)]*\.md[^)]*\)", "", text)
        for term, text in _ENTRY.findall(glossary)
    }
    forms = [(form, meanings[term]) for term in EXPLAINED for form in (term, f"{term}s")]
    return markdown + "\n\n" + "\n".join(f"*[{form}]: {meaning}" for form, meaning in forms) + "\n"


def on_page_content(content: str, **_: Any) -> str:
    """Every equation as MathML, which browsers show without a script."""
    return _EQUATION.sub(lambda match: _mathml(match[2], block=match[1] == "div"), content)


def _mathml(equation: str, block: bool) -> str:
    return str(convert(html.unescape(equation).strip(), display="block" if block else "inline"))
