"""Run a sweep on a study: tokens of every layer, all autoencoders together, their concepts, the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cytosae.analysis import saved_backbone, study_store, study_tokens
from cytosae.artefacts import read_json
from cytosae.backbones import resolve_layer
from cytosae.cells import frame_rule, read_attributes, read_cells
from cytosae.concepts import evaluate_study
from cytosae.concepts.evaluation import quality_inputs
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.interrupts import StopFlag
from cytosae.locks import locked
from cytosae.sae.joint import Member, Trained, train_together
from cytosae.settings import BackboneConfig, EncodeConfig, EvaluateConfig, StoreConfig, from_stored, to_stored
from cytosae.study import encoding as encoding_stage
from cytosae.study import load_backbone, training, update_tokens
from cytosae.study.stage import Stage
from cytosae.sweeps.spec import Run, Spec
from cytosae.sweeps.table import claim_results, write_results
from cytosae.tokens import LiveTokens, TokenSource, TokenStore, store_layout

TOKENS, MEMBERS = "tokens", "members"


@dataclass(frozen=True)
class Sweep:
    """A sweep over one study.

    Attributes
    ----------
    folder
        Everything that is made goes there.
    study
        The study: its cells, its backbone and, for its layer, its tokens.
    spec
        What is varied.
    """

    folder: Path
    study: Path
    spec: Spec
    device: str = "auto"

    @property
    def about(self) -> dict[str, Any]:
        """The study's backbone, as it is kept in ``backbone.json``."""
        path = self.study / "backbone.json"
        if not path.is_file():
            raise CytosaeError(f"{path}: missing. Is {self.study} a study, made by `cytosae run`?")
        return dict(read_json(path))

    @property
    def depth(self) -> int:
        """Blocks of the backbone."""
        return int(self.about["info"]["depth"])

    @property
    def base_layer(self) -> int:
        """The study's block, from 1."""
        return int(self.about["info"]["layer"]) + 1

    def runs(self) -> list[Run]:
        """Every training, all seeds of a setting one after the other."""
        runs = []
        for setting in self.spec.settings:
            layer = self.base_layer if setting.layer is None else resolve_layer(setting.layer, self.depth) + 1
            for seed in self.spec.seeds:
                name = re.sub(r"[^\w.+=-]+", "_", f"{setting.name}_seed={seed}")
                folder = self.folder / MEMBERS / name
                runs.append(Run(setting, layer, replace(setting.config, seed=seed), folder))
        return runs

    @contextmanager
    def tokens(self, layer: int) -> Iterator[TokenSource]:
        """Tokens of the study's cells after a block: the study's, or made here, and kept where the study keeps its own."""
        if layer == self.base_layer:
            with study_tokens(self.study, device=self.device) as source:
                yield source
            return
        settings = from_stored(BackboneConfig, self.about["request"]["settings"])
        backbone = load_backbone(BackboneConfig(**{**settings, "device": self.device, "layer": layer}))
        cells, store = read_cells(self.study / "cells.parquet"), study_store(self.study)
        layout = store_layout(backbone.info, store, frame_rule(cells))
        if (self.study / "tokens").is_dir():
            folder = self.folder / TOKENS / f"layer-{layer}"
            update_tokens(
                cells,
                layout,
                lambda: backbone,
                folder,
                StoreConfig(layout.dtype, layout.cells_per_shard, layout.batch_size),
            )
            source = TokenStore(folder)
        else:
            source = LiveTokens(cells, lambda: backbone, layout)
        try:
            yield source
        finally:
            source.close()


def sweep(
    plan: Sweep,
    encoding: EncodeConfig | None = None,
    *,
    evaluation: EvaluateConfig | None = None,
    attributes: Path | None = None,
    checkpoint_seconds: float = 300.0,
    stop: StopFlag | None = None,
    restart: bool = False,
) -> dict[str, Any]:
    """Train every setting with every seed, encode the study's cells with each, and write the table.

    What is up to date is not made again; what was interrupted goes on where it was. A training that diverges is named in
    the table and does no harm to the others.

    Parameters
    ----------
    plan
        The sweep.
    encoding
        Settings of the concepts.
    evaluation
        Settings of the quality measures (`cytosae.concepts.evaluate_study`); they are left out if None.
    attributes
        Table of expert attributes, for these.
    checkpoint_seconds, stop, restart
        See `cytosae.sae.train`.

    Returns
    -------
    Paths of table and page, ``trained``, ``skipped`` and ``diverged`` runs by name, and the rows of the table.
    """
    with locked(plan.folder):
        return _sweep(plan, encoding, evaluation, attributes, checkpoint_seconds, stop, restart)


def _sweep(
    plan: Sweep,
    encoding: EncodeConfig | None,
    evaluation: EvaluateConfig | None,
    attributes: Path | None,
    checkpoint_seconds: float,
    stop: StopFlag | None,
    restart: bool,
) -> dict[str, Any]:
    runs = plan.runs()
    claim_results(plan.folder, runs, read_cells(plan.study / "cells.parquet")["dataset"].nunique())
    trained, skipped = Trained(), []
    for layer in sorted({run.layer for run in runs}):
        layer_runs = [run for run in runs if run.layer == layer]
        with plan.tokens(layer) as source:
            if attributes is not None:
                read_attributes(attributes, source.cells)  # what can be refused is looked at before anything takes time
            to_train = [run for run in layer_runs if _stage(plan, source, run).why_stale()]
            skipped += [run.name for run in layer_runs if run not in to_train]
            say(f"sweep: layer {layer}: {len(to_train)} to train, {len(layer_runs) - len(to_train)} up to date")
            members = [Member(run.name, run.folder / "sae", run.config) for run in to_train]
            done = train_together(
                source,
                members,
                device=plan.device,
                checkpoint_seconds=checkpoint_seconds,
                stop=stop,
                restart=restart,
            )
            trained.figures |= done.figures
            trained.diverged |= done.diverged
            whole = [run for run in layer_runs if run.name not in done.diverged]
            for run in whole:
                config = encoding or EncodeConfig()
                encoding_stage(source, run.folder / "sae", run.folder / "concepts", config, device=plan.device).update()
            if evaluation is not None:
                _evaluate(plan, source, layer, whole, evaluation, attributes)
    result = write_results(plan.folder, plan.spec, runs, trained.diverged, (plan.base_layer, plan.depth), evaluation)
    return {**result, "trained": sorted(trained.figures), "skipped": skipped, "diverged": trained.diverged}


def _stage(plan: Sweep, source: TokenSource, run: Run) -> Stage:
    return training(source, run.folder / "sae", run.config, device=plan.device)


def _evaluate(
    plan: Sweep,
    source: TokenSource,
    layer: int,
    runs: list[Run],
    config: EvaluateConfig,
    attributes: Path | None,
) -> None:
    """The quality measures of every run, each beside the other seeds of its setting."""
    backbone = None
    if layer == plan.base_layer:
        try:
            backbone = saved_backbone(plan.study, plan.device)
        except CytosaeError as error:
            say(f"quality: the backbone cannot be loaded: {error}")
    for run in runs:
        others = [one.folder / "sae" for one in runs if one.setting == run.setting and one != run]
        try:
            Stage(
                f"quality {run.name}",
                run.folder / "quality",
                to_stored(config),
                quality_inputs(run.folder, attributes, others),
                partial(
                    evaluate_study, run.folder, source, config, backbone=backbone, attributes=attributes, against=others
                ),
            ).update()
        except CytosaeError as error:
            say(f"quality {run.name}: left out: {error}")
