"""What the documentation takes from the code and the glossary: pages of commands and of the Python API, equations as MathML,
and the meaning of a term where it appears."""

from __future__ import annotations

import html
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
_ENTRY = re.compile(r"^\| ([^|]+) \| (.+) \|$", re.MULTILINE)
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the code."""
    command = typer.main.get_command(app)
    show_all(command)
    context = typer.Context(command, info_name="cytosae")
    pages = {"reference/cli.md": get_docs_for_click(obj=command, ctx=context, name="cytosae", title="Commands")}
    for stage, about in API.items():
        pages[f"reference/api/{stage}.md"] = f"# cytosae.{stage}\n\n{about}\n\n::: cytosae.{stage}\n"
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Append the meanings of the explained terms as abbreviations, but not to the glossary and pages from the code."""
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
