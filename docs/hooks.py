"""What the documentation takes from the code and the glossary: pages of commands and of the Python API, notebooks of the
tutorials, equations as MathML, and the meaning of a term where it appears."""

from __future__ import annotations

import html
import json
import logging
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

import notebooks
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
_LOG = logging.getLogger("mkdocs.hooks.cytosae")
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
    for path, content in {**pages, **_notebooks(files, config)}.items():
        files.append(File.generated(config, path, content=content))
    return files


def _notebook_of(page: str) -> str:
    return f"{page.removesuffix('.md')}.ipynb"


def _notebooks(files: Files, config: Any) -> dict[str, str]:
    """Every tutorial as a notebook; run, unless that is off, by two readers at a time."""
    pages = [file for file in files.documentation_pages() if file.src_uri.startswith("tutorials/")]
    books = {Path(page.src_uri).stem: notebooks.notebook(page.content_string) for page in pages}
    if config["extra"]["run_tutorials"]:
        with ThreadPoolExecutor(len(notebooks.READERS)) as readers:
            list(readers.map(partial(_read, books), notebooks.READERS))
    return {f"tutorials/{name}.ipynb": json.dumps(book, indent=1) for name, book in books.items()}


def _read(books: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
    """Run some tutorials one after the other, in one folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "blood")
        notebooks.write_images(folder)
        for name in names:
            _LOG.info("Running the tutorial %s; RUN_TUTORIALS=false leaves this out", name)
            try:
                notebooks.execute(books[name], folder)
            except RuntimeError as error:
                raise PluginError(f"{name}: {error}") from error


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Outputs of the tutorials; the meanings of the explained terms as abbreviations, but not on pages from the code."""
    if page.file.src_uri.startswith("tutorials/"):
        book = files.src_uris[_notebook_of(page.file.src_uri)]
        name = Path(book.src_uri).name
        title, text = notebooks.with_outputs(markdown, json.loads(book.content_string)).split("\n", 1)
        note = notebooks.NOTE if config["extra"]["run_tutorials"] else ""
        markdown = f"{title}\n\n[This tutorial as a notebook]({name}){{: download={name} }}. {note}\n{text}"
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
