"""The steps of the recipe: what each needs, how much work it is, what has to be brought, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cytosae.analysis import attribute, classify, compare_counts, compare_groups
from cytosae.artefacts import MANIFEST, Manifest, make_folder, whole_file
from cytosae.backbones import Backbone
from cytosae.cells.datasets import TABLE, find, prepare
from cytosae.cohort import BARCODES, CLASSIFICATION, COHORT
from cytosae.concepts import draw_panel, read_concepts
from cytosae.errors import CytosaeError
from cytosae.reproduction.paper import (
    CHOSEN,
    DATASETS,
    EXAMPLE,
    FIRST,
    PATCH,
    PATIENTS,
    SECOND,
    TRAINING_SET,
    VARIANTS,
)
from cytosae.reproduction.recipe import Recipe
from cytosae.sae.joint import Member, train_together
from cytosae.settings import ClassifyConfig, CompareConfig, StoreConfig
from cytosae.study import RunConfig, Study, encoding, list_to, load_backbone, training, update_tokens
from cytosae.tokens import TokenStore, store_layout

EMBED, ENCODE, TRAIN = "embed", "encode", "train"
"""Kinds of work: an image through the backbone, an image through an autoencoder, a step of training."""


@dataclass(frozen=True)
class Step:
    """One step."""

    name: str
    section: str
    """What of the paper it belongs to."""
    run: Callable[[Collection[str]], Any]
    """Does it; takes the names of all steps that are to be run, of which some are done together."""
    needs: tuple[str, ...] = ()
    """Steps that have to be done before."""
    work: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Units of work by kind and expansion."""
    lacks: str | None = None
    """What has to be brought by the user."""
    done: bool = False


def _alone(function: Callable[..., Any], *arguments: Any) -> Callable[[Collection[str]], Any]:
    """A step that other steps make no difference to."""
    return lambda _: function(*arguments)


def steps(recipe: Recipe) -> list[Step]:
    """All steps of the recipe, in an order in which they can be run."""
    return [
        *_data(recipe),
        *_training(recipe),
        *_study(recipe),
    ]


def _data(recipe: Recipe) -> Iterator[Step]:
    for name in DATASETS:
        source, table = recipe.source(name), recipe.prepared(name) / TABLE
        lacks = None
        if not source.exists():
            lacks = f"{source}: put the data set there as downloaded (`cytosae datasets info {name}` says how)"
        yield Step(f"cells {name}", "section 2", _alone(_prepare, recipe, name), lacks=lacks, done=table.is_file())


def _prepare(recipe: Recipe, name: str) -> None:
    if not (recipe.source(name) / TABLE).is_file():
        prepare(find(name), recipe.source(name), recipe.prepared(name))


def _training(recipe: Recipe) -> Iterator[Step]:
    cells = recipe.cells(TRAINING_SET)
    for layer in dict.fromkeys(VARIANTS[name].layer for name in recipe.variants):
        folder = recipe.tokens(layer)
        yield Step(
            f"tokens {folder.name}",
            "section 2" if layer is None else "section 3.4",
            _alone(_embed, recipe, layer),
            (f"cells {TRAINING_SET}",),
            {(EMBED, 0): cells * recipe.block_fraction(layer)},
            done=(folder / MANIFEST).is_file(),
        )
    for variant, seed in recipe.members:
        config, tokens = recipe.train_config(variant, seed), recipe.tokens(VARIANTS[variant].layer)
        section = "section 2" if variant == CHOSEN else "section 3.4"
        yield Step(
            f"train {variant}-{seed}",
            section,
            partial(_train, recipe, variant, seed),
            (f"tokens {tokens.name}",),
            {(TRAIN, config.expansion): config.steps},
            done=Manifest.load(recipe.sae_folder(variant, seed)) is not None,
        )
        yield Step(
            f"concepts {variant}-{seed}",
            section,
            _alone(_encode, recipe, variant, seed),
            (f"train {variant}-{seed}",),
            {(ENCODE, config.expansion): cells},
            done=Manifest.load(recipe.concepts_folder(variant, seed)) is not None,
        )
    if recipe.ablation:
        needs = tuple(f"concepts {variant}-{seed}" for variant, seed in recipe.members if _by_expansion(variant))
        figure = recipe.folder / "figures" / "figure-2-counts"
        yield Step(
            "counts", "figure 2", _alone(_counts, recipe, figure), needs, done=figure.with_suffix(".png").is_file()
        )


def _by_expansion(variant: str) -> bool:
    return variant == CHOSEN or variant.startswith("expansion")


def _embed(recipe: Recipe, layer: int | None) -> None:
    target = recipe.folder / "cells" / f"{TRAINING_SET}.parquet"
    cells, _ = list_to(recipe.prepared(TRAINING_SET) / TABLE, target, drop_missing=recipe.drop_missing)
    loaded = _cut(recipe, layer)
    layout = store_layout(loaded.info, StoreConfig())
    update_tokens(cells, layout, lambda: loaded, recipe.tokens(layer), StoreConfig())


def _cut(recipe: Recipe, layer: int | None) -> Backbone:
    """The backbone, cut after a block; how many it has is known when it is loaded."""
    loaded = load_backbone(recipe.backbone)
    if layer is None:
        return loaded
    return load_backbone(recipe.backbone_config(layer, loaded.info.depth))


def _train(recipe: Recipe, variant: str, seed: int, chosen: Collection[str]) -> None:
    """Train a member, together with all that are to be trained on the same tokens."""
    layer, device = VARIANTS[variant].layer, recipe.backbone.device
    with closing(TokenStore(recipe.tokens(layer))) as tokens:
        members = [
            Member(f"{variant_name}-{number}", recipe.sae_folder(variant_name, number), config)
            for variant_name, number in recipe.members
            if VARIANTS[variant_name].layer == layer and f"train {variant_name}-{number}" in chosen
            for config in [recipe.train_config(variant_name, number)]
            if training(tokens, recipe.sae_folder(variant_name, number), config, device=device).why_stale()
        ]
        trained = train_together(tokens, members, device=device, restart=recipe.restart)
    if reason := trained.diverged.get(f"{variant}-{seed}"):
        raise CytosaeError(reason)


def _encode(recipe: Recipe, variant: str, seed: int) -> None:
    with closing(TokenStore(recipe.tokens(VARIANTS[variant].layer))) as tokens:
        folder = recipe.concepts_folder(variant, seed)
        encoding(
            tokens, recipe.sae_folder(variant, seed), folder, recipe.encoding, device=recipe.backbone.device
        ).update()


def _counts(recipe: Recipe, figure: Path) -> None:
    folders = [recipe.concepts_folder(variant, seed) for variant, seed in recipe.members if _by_expansion(variant)]
    make_folder(figure.parent)
    compare_counts(folders, figure, TRAINING_SET)


def _study(recipe: Recipe) -> Iterator[Step]:
    study, figures = recipe.study, recipe.folder / "figures"
    present = recipe.present
    cells = sum(recipe.cells(name) for name in present or DATASETS)
    needs = tuple(f"cells {name}" for name in present)
    yield Step(
        "study",
        "figure 2",
        _alone(_run_study, recipe),
        needs if recipe.sae else (*needs, f"train {CHOSEN}-0"),
        {(EMBED, 0): cells, (ENCODE, recipe.training.expansion): cells},
        lacks=None if present else f"{recipe.data}: holds none of the data sets",
        done=(study / "report" / MANIFEST).is_file(),
    )
    panel = recipe.folder / "panel.json"
    yield Step("panel", "section 2", _alone(draw_panel, study / "concepts", panel), ("study",), done=panel.is_file())
    patch = figures / "figure-3"
    yield Step(
        "patch",
        "figure 3",
        _alone(_patch, recipe, patch),
        ("study", f"cells {TRAINING_SET}"),
        done=patch.with_suffix(".png").is_file(),
    )
    cohort_needs = ("study", f"cells {PATIENTS}")
    classified, compared = study / COHORT / CLASSIFICATION, recipe.folder / "comparison"
    yield Step("classify", "figure 4", _alone(_classify, recipe), cohort_needs, done=(classified / MANIFEST).is_file())
    yield Step(
        "compare", "figure 5", _alone(_compare, recipe, compared), cohort_needs, done=(compared / MANIFEST).is_file()
    )


def _run_study(recipe: Recipe) -> None:
    table = recipe.table(*recipe.present)
    make_folder(recipe.study)
    source = recipe.study / TABLE
    with whole_file(source) as temporary:
        table.to_csv(temporary, index=False)
    config = RunConfig(recipe.backbone, StoreConfig(), recipe.training, recipe.encoding)
    Study(recipe.study, config, store=recipe.store, sae=recipe.given, restart=recipe.restart, describe=False).run(
        source, drop_missing=recipe.drop_missing
    )


def _patch(recipe: Recipe, figure: Path) -> None:
    """The first cell of the example's type, and the paper's patch of it."""
    data = read_concepts(recipe.study / "concepts", TRAINING_SET, matrices=False)
    rows = np.flatnonzero((data.obs["label"].astype(str) == EXAMPLE).to_numpy())
    if not len(rows):
        raise CytosaeError(f"{TRAINING_SET}: has no cell with the label {EXAMPLE!r} to show patch by patch.")
    columns = int(data.uns["cytosae"]["backbone"]["grid"][1])
    make_folder(figure.parent)
    attribute(
        recipe.study,
        str(data.obs_names[rows[0]]),
        figure,
        patch=divmod(PATCH, columns),
        device=recipe.backbone.device,
    )


def _classify(recipe: Recipe) -> None:
    folder = recipe.study / COHORT
    tokens = recipe.study / "tokens" if recipe.store else None
    classify(folder / BARCODES, folder / CLASSIFICATION, ClassifyConfig(), tokens=tokens)


def _compare(recipe: Recipe, folder: Path) -> None:
    barcodes = recipe.study / COHORT / BARCODES
    compare_groups(barcodes, folder, FIRST, SECOND, CompareConfig(), study=recipe.study, device=recipe.backbone.device)
