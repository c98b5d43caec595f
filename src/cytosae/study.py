"""A study folder: every stage in turn, skipping what is up to date and saying why the rest is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.artefacts import (
    CONFIG,
    MANIFEST,
    WEIGHTS,
    FileRecord,
    Manifest,
    claim,
    make_folder,
    read_json,
    refuse_foreign,
    sha256_file,
    whole_file,
    write_json,
)
from cytosae.backbones import NAMES, TINY, Backbone, load
from cytosae.cells import (
    difference,
    is_listing,
    list_cells,
    metadata_digest,
    pixels_digest,
    read_cells,
    rejected_beside,
    write_listing,
)
from cytosae.cohort import BARCODES, COHORT, make_barcodes
from cytosae.concepts import check_fit, encode, encode_inputs
from cytosae.console import progress, say
from cytosae.engines import opened
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, adopt, train, training_inputs
from cytosae.settings import HERE, BackboneConfig, BarcodeConfig, EncodeConfig, EngineConfig, StoreConfig, TrainConfig
from cytosae.tokens import Layout, LiveTokens, TokenSource, TokenStore, embed, layout_of
from cytosae.tokens.store import read_manifest


@dataclass(frozen=True)
class RunConfig:
    """Settings of all stages of a run."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    barcodes: BarcodeConfig = field(default_factory=BarcodeConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)


def load_backbone(config: BackboneConfig, *, whole: bool = False) -> Backbone:
    """Load the backbone that the settings name."""
    return load(
        config.backbone,
        layer=config.layer,
        dtype=config.dtype,
        device=config.device,
        revision=config.revision,
        weights=config.weights,
        whole=whole,
    )


@cache
def loaded_backbone(config: BackboneConfig) -> Backbone:
    """The same, once in a process: what a replica of an engine is told to call."""
    return load_backbone(config)


def backbone_for(
    engine: EngineConfig, here: Callable[[], Backbone], config: BackboneConfig, layout: Layout
) -> Callable[[], Backbone]:
    """What gives the backbone to whoever embeds: this process, or replicas, each of which loads it in the layout's
    precision, whatever folder it works in.
    """
    if engine.here:
        return here
    name, weights = config.backbone, config.weights
    if name not in NAMES and (folder := Path(name).expanduser()).exists():
        name = str(folder.absolute())
    weights = weights and weights.expanduser().absolute()
    return partial(loaded_backbone, replace(config, backbone=name, weights=weights, dtype=layout.backbone["dtype"]))


def rendered(source: Path, folder: Path) -> Path:
    """Draw the cohort of a source ``synthetic:patients=60,cells=40,seed=0`` into `folder`; its table takes its place.

    Any other source is returned as it is. Cells that are there already are not drawn again.
    """
    kind, colon, wish = str(source).partition(":")
    if kind != "synthetic" or not colon:
        return source
    from cytosae.cells.synthetic import CohortSpec, is_cohort_table, write_cohort  # half a second that only this needs

    spec = CohortSpec.parse(wish)
    path = folder / "cohort.csv"
    refuse_foreign(path, "cells", is_cohort_table)
    make_folder(folder)
    with progress("drawing", 1, "cells") as bar:

        def show(done: int, total: int) -> None:
            bar.resize(total)
            bar.to(done)

        table = write_cohort(spec, folder, show)
    with whole_file(path) as partial:
        table.to_csv(partial, index=False)
    return path


def list_to(source: Path, target: Path, *, strict: bool = False) -> tuple[pd.DataFrame, dict[str, Any]]:
    """List the cells of a source into a table, and those left out into ``<name>.rejected.csv`` beside it.

    Files that have not changed since the table was last written are not opened again.
    """
    refuse_foreign(target, "cells", is_listing)
    make_folder(target.parent)
    previous = _previous(target)
    with progress("cells", 1, "cells") as bar:

        def show(done: int, total: int) -> None:
            bar.resize(total)
            bar.to(done)

        listing = list_cells(source, strict=strict, previous=previous, on_progress=show)
    reason = "not listed yet" if previous is None else difference(previous, listing.cells)
    write_listing(listing, target, {"source": f"{source}", "strict": strict}, renew=bool(reason or listing.inspected))
    if len(listing.rejected):
        say(f"cells: {len(listing.rejected):,} cannot be read and are left out, see {rejected_beside(target)}")
    say(f"cells: {reason}" if reason else "cells: up to date")
    return listing.cells, {**listing.summary(), "skipped": reason is None, "why": reason}


def _previous(target: Path) -> pd.DataFrame | None:
    if not target.is_file():
        return None
    try:
        return read_cells(target)
    except CytosaeError:
        return None  # an older table: it is replaced


class Study:
    """The stages of one study, in one folder.

    Parameters
    ----------
    folder
        Holds ``cells.parquet``, ``tokens/``, ``sae/``, ``concepts/``, ``cohort/`` and ``report/``; made where it does
        not exist.
    config
        Settings of all stages.
    store
        Keep tokens on disk; otherwise they are made again whenever they are read.
    sae
        Folder of an autoencoder that is taken instead of training one.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        *,
        store: bool = True,
        workers: int | None = None,
        sae: Path | None = None,
    ) -> None:
        self.folder, self.config, self.store, self.workers = folder.absolute(), config, store, workers
        self.given = sae
        self.stages: dict[str, dict[str, Any]] = {}

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone; loaded when first needed, and remembered so that a later run need not load it to compare."""
        backbone = load_backbone(self.config.backbone)
        write_json(
            self.folder / "backbone.json",
            {"request": self._request(), "info": layout_of(backbone.info, self.config.store).backbone},
        )
        return backbone

    def _request(self) -> dict[str, Any]:
        """The backbone's settings and the state of the local files that they name."""
        config = self.config.backbone
        files: dict[str, list[int]] = {}
        for path in (TINY if config.backbone == "tiny" else Path(config.backbone), config.weights):
            if path is None or not path.exists():
                continue
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                stat = file.stat()
                files[str(file)] = [stat.st_size, stat.st_mtime_ns]
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
        return {"settings": settings, "files": files}

    def layout(self) -> Layout:
        """Layout of the tokens; without loading a backbone that has not changed."""
        path = self.folder / "backbone.json"
        if "backbone" not in self.__dict__ and path.is_file():
            known = read_json(path)
            if known.get("request") == json.loads(json.dumps(self._request())):
                info, store = known["info"], self.config.store
                return Layout(
                    info,
                    info["n_tokens"],
                    info["d_model"],
                    store.store_dtype,
                    store.cells_per_shard,
                    store.batch_size,
                )
        return layout_of(self.backbone.info, self.config.store)

    def run(
        self,
        source: Path,
        *,
        strict: bool = False,
        track: Sequence[str] = (),
        checkpoint_seconds: float = 300.0,
    ) -> dict[str, dict[str, Any]]:
        """Fill the study stage by stage.

        Parameters
        ----------
        source
            See `cytosae.cells.read_source`.
        strict
            An unreadable image is an error.
        track, checkpoint_seconds
            See `cytosae.sae.train`.

        Returns
        -------
        The figures of every stage, with ``skipped`` and ``why``.
        """
        refuse_foreign(self.folder / "cells.parquet", "run", is_listing)
        refuse_foreign(self.folder / "backbone.json", "run", lambda path: {"request", "info"} <= read_json(path).keys())
        make_folder(self.folder)
        source = rendered(source, self.folder / "cohort")
        cells, self.stages["cells"] = list_to(source, self.folder / "cells.parquet", strict=strict)
        tokens = self._tokens(cells)
        try:
            self._sae(tokens, track, checkpoint_seconds)
            self._concepts(tokens)
        finally:
            tokens.close()
        if cells["patient"].notna().any():
            self._cohort()
        self._report()
        return self.stages

    def _tokens(self, cells: pd.DataFrame) -> TokenSource:
        layout = self.layout()
        if not self.store:
            config = self.config
            load = backbone_for(config.engine, lambda: self.backbone, config.backbone, layout)
            return LiveTokens(cells, load, layout, self.workers)
        self.stages["tokens"] = embedded(
            cells,
            layout,
            lambda: self.backbone,
            self.folder / "tokens",
            self.config.store,
            workers=self.workers,
            engine=self.config.engine,
            settings=self.config.backbone,
        )
        return TokenStore(self.folder / "tokens")

    def _sae(self, tokens: TokenSource, track: Sequence[str], checkpoint_seconds: float) -> None:
        config, folder = self.config.train, self.folder / "sae"
        if self.given is None:
            device = self.config.backbone.device
            self.stages["sae"] = trained(
                tokens, folder, config, device=device, track=track, checkpoint_seconds=checkpoint_seconds
            )
            return
        inputs = {**training_inputs(tokens, config), "given": sae_weights_digest(self.given)}
        reason, summary = due("sae", folder, {"given": True}, inputs)
        if reason:
            check_fit(tokens, SAE.from_pretrained(self.given))
            summary = adopt(tokens, self.given, folder, config, inputs)
        self.stages["sae"] = told(summary, reason)

    def _concepts(self, tokens: TokenSource) -> None:
        device = self.config.backbone.device
        self.stages["concepts"] = encoded(
            tokens,
            self.folder / "sae",
            self.folder / "concepts",
            self.config.encode,
            device=device,
            engine=self.config.engine,
        )

    def _cohort(self) -> None:
        folder, config = self.folder / COHORT, self.config.barcodes
        concepts = Manifest.load(self.folder / "concepts")
        assert concepts is not None
        inputs = {"concepts": concepts.fingerprint()}
        reason, summary = due("cohort", folder, asdict(config), inputs)
        if reason:
            claim(folder, "cohort", [BARCODES])
            (folder / MANIFEST).unlink(missing_ok=True)
            summary = make_barcodes([self.folder / "concepts"], folder / BARCODES, config)
            outputs = {BARCODES: FileRecord.of(folder / BARCODES)}
            Manifest("cohort", asdict(config), inputs, outputs, summary).save(folder)
        self.stages["cohort"] = told(summary, reason)

    def _report(self) -> None:
        from cytosae.report import report_inputs, write_report  # imports matplotlib

        reason, summary = due("report", self.folder / "report", {}, report_inputs(self.folder))
        self.stages["report"] = told(write_report(self.folder) if reason else summary, reason)


def due(
    name: str, folder: Path, parameters: Mapping[str, Any], inputs: Mapping[str, str]
) -> tuple[str | None, dict[str, Any]]:
    """Why a stage has to run, or None and the figures of its last run; says so on the terminal."""
    manifest = Manifest.load(folder)
    reason = "not made yet" if manifest is None else manifest.why_stale(folder, parameters, inputs)
    say(f"{name}: {reason or 'up to date'}")
    return reason, {} if manifest is None else dict(manifest.summary)


def told(summary: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    """Figures of a stage with ``skipped`` and ``why`` it was not."""
    return {**summary, "skipped": reason is None, "why": reason}


def embedded(
    cells: pd.DataFrame,
    layout: Layout,
    backbone: Callable[[], Backbone],
    folder: Path,
    config: StoreConfig,
    *,
    workers: int | None = None,
    engine: EngineConfig = HERE,
    settings: BackboneConfig | None = None,
) -> dict[str, Any]:
    """Figures of a token store of these cells, made where it is not up to date; the backbone is loaded only then.

    Replicas of the engine load it by its settings.
    """
    reason = tokens_stale(folder, cells, layout)
    say(f"tokens: {reason or 'up to date'}")
    if reason is None:
        return told({"cells": len(cells)}, None)
    loaded = backbone()
    layout = layout_of(loaded.info, config)
    load = backbone_for(engine, lambda: loaded, settings or BackboneConfig(), layout)
    with opened(engine) as doing:
        return told(embed(cells, load, folder, layout, workers=workers, engine=doing), reason)


def trained(tokens: TokenSource, folder: Path, config: TrainConfig, *, device: str, **given: Any) -> dict[str, Any]:
    """Figures of an autoencoder of these tokens, trained where it is not up to date; `given` goes to `train`."""
    reason, summary = due("sae", folder, config.recorded(), training_inputs(tokens, config))
    return told(train(tokens, folder, config, device=device, **given) if reason else summary, reason)


def encoded(
    tokens: TokenSource,
    sae_folder: Path,
    folder: Path,
    config: EncodeConfig,
    *,
    device: str,
    engine: EngineConfig = HERE,
) -> dict[str, Any]:
    """Figures of the concepts of an autoencoder on these tokens, made where they are not up to date."""
    sae_digest = sae_weights_digest(sae_folder)
    reason, summary = due("concepts", folder, asdict(config), encode_inputs(tokens, sae_digest))
    if reason:
        sae = SAE.from_pretrained(sae_folder)
        check_fit(tokens, sae)
        with opened(engine) as doing:
            figures = encode(tokens, sae, folder, config, sae_digest=sae_digest, device=device, engine=doing)
        summary = {"datasets": figures}
    return told(summary, reason)


def tokens_stale(folder: Path, cells: pd.DataFrame, layout: Layout) -> str | None:
    """Why a store does not hold the tokens of these cells in this layout; None if it does."""
    found = read_manifest(folder)
    if found is None:
        return "not made yet"
    before, _, complete = found
    if not complete:
        return "not finished"
    if before.identity() != layout.identity():
        return "backbone or layout changed"
    store = TokenStore(folder)
    if pixels_digest(store.cells) != pixels_digest(cells):
        return difference(store.cells, cells) or "cells changed"
    if metadata_digest(store.cells) != metadata_digest(cells):
        return "labels or other columns of the cells changed"
    return None if store.untouched() else "a shard is missing or was changed"


def sae_weights_digest(folder: Path) -> str:
    """SHA-256 of an autoencoder's weights, from its manifest where there is one."""
    if not (folder / WEIGHTS).is_file():
        raise CytosaeError(f"{folder / WEIGHTS}: missing. An autoencoder is a folder with {WEIGHTS} and {CONFIG}.")
    manifest = Manifest.load(folder)
    if manifest is not None and WEIGHTS in manifest.outputs and manifest.outputs[WEIGHTS].matches(folder / WEIGHTS):
        return manifest.outputs[WEIGHTS].sha256
    return sha256_file(folder / WEIGHTS)
