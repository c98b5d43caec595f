"""A study folder: every stage in turn, skipping what is up to date and saying why the rest is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.artefacts import (
    ANNOTATIONS,
    MANIFEST,
    FileRecord,
    Manifest,
    claim,
    make_folder,
    read_json,
    refuse_foreign,
    sae_weights_digest,
    whole_file,
    write_json,
)
from cytosae.backbones import NAMES, TINY, Backbone, load
from cytosae.cells import (
    Listing,
    difference,
    is_listing,
    list_cells,
    metadata_digest,
    pixels_digest,
    read_cells,
    rejected_beside,
    write_cells,
    write_listing,
)
from cytosae.cohort import BARCODES, COHORT, make_barcodes
from cytosae.concepts import check_fit, encode, encode_inputs
from cytosae.console import progress, say
from cytosae.engines import open_engine
from cytosae.errors import CytosaeError
from cytosae.locks import locked
from cytosae.remembered import FILE as SETTINGS
from cytosae.remembered import write_settings
from cytosae.sae import SAE, adopt, train, training_inputs
from cytosae.sae.checkpoint import CHECKPOINT
from cytosae.sae.former import TrainedWork, former_folder, refusal, transfer
from cytosae.sae.trainer import split_digest
from cytosae.settings import (
    HERE,
    BackboneConfig,
    BarcodeConfig,
    EncodeConfig,
    EngineConfig,
    ImageConfig,
    StoreConfig,
    TrainConfig,
)
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
    images: ImageConfig = field(default_factory=ImageConfig)

    def remembered(self) -> dict[str, Any]:
        """The settings that belong to the study, by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self) if spec.name != "engine"}


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
    from cytosae.synthetic import CohortSpec, is_cohort_table, write_cohort  # half a second that only this needs

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


@dataclass(frozen=True)
class Listed:
    """The cells of a source as they are now, beside the table of the last listing."""

    source: Path
    target: Path
    settings: Mapping[str, Any]
    """Columns, scaling and strictness of the listing, for the table."""
    listing: Listing
    previous: pd.DataFrame | None

    @property
    def cells(self) -> pd.DataFrame:
        """The cells that can be read."""
        return self.listing.cells

    @cached_property
    def reason(self) -> str | None:
        """What is new in the table; None if nothing is."""
        return "not listed yet" if self.previous is None else difference(self.previous, self.cells)

    def refuse_vanished(self) -> None:
        """Raise a `CytosaeError` if cells of the last listing are not there any more."""
        if self.previous is None:
            return
        gone = self.previous[~self.previous["cell_id"].isin(self.cells["cell_id"])]
        if gone.empty:
            return
        first = gone.iloc[0]
        reasons = dict(zip(self.listing.rejected["cell_id"], self.listing.rejected["reason"], strict=True))
        why = reasons.get(first["cell_id"], "not listed any more")
        raise CytosaeError(
            f"{self.source}: {len(gone):,} of the {len(self.previous):,} cells in {self.target} are gone (first: "
            f"{first['path']}: {why}). Nothing was changed. If a disk is not connected or a folder was renamed, put it back "
            "and repeat the command. To go on without these cells, add --drop-missing."
        )

    def write(self) -> dict[str, Any]:
        """Write the table, and the cells left out into ``<name>.rejected.csv`` beside it; the figures of the stage."""
        provenance = {"source": f"{self.source}", **self.settings}
        write_listing(self.listing, self.target, provenance, renew=bool(self.reason or self.listing.inspected))
        if len(self.listing.rejected):
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.listing.reasons().items())
            say(f"cells: {len(self.listing.rejected):,} left out ({reasons}), see {rejected_beside(self.target)}")
        if len(ignored := self.listing.ignored_profiles):
            first = ignored.iloc[0]
            say(
                f"cells: {len(ignored):,} have a broken ICC profile; the first is {first['path']}: {first['file_note']}"
            )
        say(f"cells: {self.reason}" if self.reason else "cells: up to date")
        return {**self.listing.summary(), "skipped": self.reason is None, "why": self.reason}


def look_at(
    source: Path,
    target: Path,
    *,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    drop_missing: bool = False,
    images: ImageConfig | None = None,
) -> Listed:
    """List the cells of a source, and compare them with the table `target`; nothing is written.

    Files that have not changed since the table was last written are not opened again.

    Raises
    ------
    CytosaeError
        Cells of the table are gone, and `drop_missing` does not say that they may be; what `list_cells` raises.
    """
    refuse_foreign(target, "cells", is_listing)
    intensity = images.intensity if images else None
    previous = _previous(target)
    with progress("cells", 1, "cells") as bar:

        def show(done: int, total: int) -> None:
            bar.resize(total)
            bar.to(done)

        listing = list_cells(
            source, columns=columns, strict=strict, intensity=intensity, previous=previous, on_progress=show
        )
    for remark in listing.remarks:
        say(f"cells: {remark}")
    settings = {"columns": dict(columns or {}), "strict": strict, "intensity": intensity}
    listed = Listed(source, target, settings, listing, previous)
    if not drop_missing:
        listed.refuse_vanished()
    return listed


def list_to(
    source: Path,
    target: Path,
    *,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    drop_missing: bool = False,
    images: ImageConfig | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """List the cells of a source into a table, and those left out beside it; see `look_at` and `Listed.write`."""
    make_folder(target.parent)
    listed = look_at(source, target, columns=columns, strict=strict, drop_missing=drop_missing, images=images)
    return listed.cells, listed.write()


def _previous(target: Path) -> pd.DataFrame | None:
    if not target.is_file():
        return None
    try:
        return read_cells(target)
    except CytosaeError:
        return None  # an older table: it is replaced


_DEPENDENT = ("concepts", COHORT, "quality", "report", ANNOTATIONS, f"{ANNOTATIONS}-wal", f"{ANNOTATIONS}-shm")
"""What means nothing without the autoencoder that it was made with."""


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
    restart
        Train anew where the autoencoder that is there has other settings or cells: it is kept in ``former/<digest>/``, a
        study of its own, with all that depends on it.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        *,
        store: bool = True,
        workers: int | None = None,
        sae: Path | None = None,
        restart: bool = False,
    ) -> None:
        self.folder, self.config, self.store, self.workers = folder.absolute(), config, store, workers
        self.given, self.restart = sae and sae.absolute(), restart
        self.stages: dict[str, dict[str, Any]] = {}

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone; loaded when first needed."""
        return load_backbone(self.config.backbone)

    def _remember_backbone(self) -> None:
        """Note the backbone that was loaded, so that a later run need not load it to compare, and how tokens are kept."""
        path, store = self.folder / "backbone.json", asdict(self.config.store)
        if "backbone" in self.__dict__:
            about = layout_of(self.backbone.info, self.config.store).backbone
            write_json(path, {"request": self._request(), "info": about, "store": store})
        elif (known := read_json(path)).get("store") != store:
            write_json(path, {**known, "store": store})

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
                if known.get("store") != asdict(store):  # how whoever makes tokens of this study later rounds them
                    write_json(path, {**known, "store": asdict(store)})
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
        columns: Mapping[str, str] | None = None,
        strict: bool = False,
        drop_missing: bool = False,
        track: Sequence[str] = (),
        checkpoint_seconds: float = 300.0,
    ) -> dict[str, dict[str, Any]]:
        """Fill the study stage by stage.

        Parameters
        ----------
        source
            See `cytosae.cells.read_source`.
        columns
            Names in a table of known columns, see `cytosae.cells.read_source`.
        strict
            An unreadable image is an error.
        track, checkpoint_seconds
            See `cytosae.sae.train`.

        Returns
        -------
        The figures of every stage, with ``skipped`` and ``why``.
        """
        refuse_foreign(self.folder / "cells.parquet", "run", is_listing)
        refuse_foreign(self.folder / "backbone.json", "run", _is_backbone_note)
        refuse_foreign(self.folder / SETTINGS, "run", lambda path: {"settings", "cytosae"} <= read_json(path).keys())
        with locked(self.folder):
            source = rendered(source, self.folder / "cohort")
            table = self.folder / "cells.parquet"
            listed = look_at(
                source, table, columns=columns, strict=strict, drop_missing=drop_missing, images=self.config.images
            )
            self._make_way(listed, self._expected_tokens(listed.cells))
            write_settings(self.folder, self.config.remembered(), self.store, self.given, columns or {})
            self.stages["cells"] = listed.write()
            tokens = self._tokens(listed.cells)
            try:
                self._make_way(listed, tokens.fingerprint)
                self._sae(tokens, track, checkpoint_seconds)
                self._concepts(tokens)
            finally:
                tokens.close()
            if listed.cells["patient"].notna().any():
                self._cohort()
            self._report()
        return self.stages

    def _expected_tokens(self, cells: pd.DataFrame) -> str | None:
        """Fingerprint that the tokens of these cells will have; None where only making them can tell."""
        layout, folder = self.layout(), self.folder / "tokens"
        if not self.store:
            return LiveTokens(cells, lambda: self.backbone, layout).fingerprint
        found = read_manifest(folder)
        if found is None or not found[2]:
            return None
        if found[0].identity() != layout.identity():
            return "other tokens" if found[0].version == layout.version else None
        with closing(TokenStore(folder)) as store:
            return store.fingerprint if pixels_digest(store.cells) == pixels_digest(cells) else "other tokens"

    def _make_way(self, listed: Listed, tokens: str | None) -> None:
        """Before anything is changed: refuse to replace trained work, or put it aside where the user has said so."""
        folder = self.folder / "sae"
        work = TrainedWork.load(folder, fetch=False)
        if work is None:
            return
        if self.given is not None:
            same = sae_weights_digest(self.given) == work.digest
            if not same:
                check_fit(self.layout(), SAE.from_pretrained(self.given))  # before the one that is there has to go
            reason = None if same else f"--sae {self.given} is another autoencoder"
        else:
            inputs = {"split": split_digest(listed.cells, self.config.train)}
            reason = work.why_replaced(self.config.train, inputs if tokens is None else {**inputs, "tokens": tokens})
            if reason and listed.reason and listed.previous is not None:
                reason += f"; {listed.reason}"
        if reason is None:
            longer = self.given is None and work.manifest is not None and work.steps < self.config.train.steps
            if longer and (self.folder / ANNOTATIONS).is_file():
                say(
                    f"sae: the training goes on; the annotated autoencoder is kept in {self._put_aside(work, copy=True)}"
                )
            return
        if not self.restart:
            keep = f"To keep it for these settings and cells, add --sae {folder}; or choose another --study."
            raise refusal(work, reason, self.config.train, former_folder(self.folder, work), keep)
        say(f"sae: replaced ({reason}); the former autoencoder is kept in {self._put_aside(work)}")

    def _put_aside(self, work: TrainedWork, *, copy: bool = False) -> Path:
        """Move an autoencoder and all that depends on it into a study of its own; it goes last, so that a run that is
        killed meanwhile goes on with it. With `copy` the training stays too.
        """
        target = make_folder(former_folder(self.folder, work))
        for name in _DEPENDENT:
            if (self.folder / name).exists():
                transfer(self.folder / name, target / name)
        for name in ("backbone.json", SETTINGS):
            if (self.folder / name).is_file():
                transfer(self.folder / name, target / name, copy=True)
        if (self.folder / "cells.parquet").is_file():
            write_cells(read_cells(self.folder / "cells.parquet"), target / "cells.parquet")
        transfer(self.folder / "sae", target / "sae", copy=copy, without=(CHECKPOINT,))
        return target

    def _tokens(self, cells: pd.DataFrame) -> TokenSource:
        layout = self.layout()
        self._remember_backbone()
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
        self._remember_backbone()
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
            check_fit(tokens.layout, SAE.from_pretrained(self.given))
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
        reason, summary = due("cohort", folder, asdict(config), inputs, asdict(BarcodeConfig()))
        if reason:
            claim(folder, "cohort", [BARCODES])
            (folder / MANIFEST).unlink(missing_ok=True)
            summary = make_barcodes([self.folder / "concepts"], folder / BARCODES, config)
            outputs = {BARCODES: FileRecord.of(folder / BARCODES)}
            Manifest("cohort", asdict(config), inputs, outputs, summary).save(folder)
        self.stages["cohort"] = told({**summary, "barcodes": f"{folder / BARCODES}"}, reason)

    def _report(self) -> None:
        from cytosae.report import PAGE, report_inputs, write_report  # imports matplotlib

        reason, summary = due("report", self.folder / "report", {}, report_inputs(self.folder))
        figures = write_report(self.folder) if reason else {**summary, "page": f"{self.folder / 'report' / PAGE}"}
        self.stages["report"] = told(figures, reason)


def _is_backbone_note(path: Path) -> bool:
    """Whether a file is the ``backbone.json`` of a study, whole."""
    note = read_json(path)
    return {"settings", "files"} <= note["request"].keys() and {"fingerprint", "n_tokens", "d_model"} <= note[
        "info"
    ].keys()


def due(
    name: str,
    folder: Path,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    defaults: Mapping[str, Any] | None = None,
) -> tuple[str | None, dict[str, Any]]:
    """Why a stage has to run, or None and the figures of its last run; says so on the terminal.

    `defaults` are those of its settings, see `Manifest.why_stale`.
    """
    manifest = Manifest.load(folder)
    reason = "not made yet" if manifest is None else manifest.why_stale(folder, parameters, inputs, defaults)
    say(f"{name}: {reason or 'up to date'}")
    for log in [] if manifest is None or reason else manifest.changed_logs(folder):
        say(f"{name}: {folder / log} is missing or was changed since; only making the stage anew would give it again")
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
    with open_engine(engine) as doing:
        return told(embed(cells, load, folder, layout, workers=workers, engine=doing), reason)


def trained(tokens: TokenSource, folder: Path, config: TrainConfig, *, device: str, **given: Any) -> dict[str, Any]:
    """Figures of an autoencoder of these tokens, trained where it is not up to date; `given` goes to `train`."""
    reason, summary = due("sae", folder, config.recorded(), training_inputs(tokens, config), asdict(TrainConfig()))
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
    inputs = encode_inputs(tokens, sae_weights_digest(sae_folder))
    reason, summary = due("concepts", folder, asdict(config), inputs, asdict(EncodeConfig()))
    if reason:
        sae = SAE.from_pretrained(sae_folder)
        check_fit(tokens.layout, sae)
        with open_engine(engine) as doing:
            figures = encode(tokens, sae, folder, config, device=device, engine=doing)
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
