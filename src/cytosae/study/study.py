"""A study folder: every stage in turn, skipping what is up to date and saying why the rest is not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cytosae.artefacts import Manifest, read_json, refuse_foreign, write_json
from cytosae.backbones import BUILT_IN, Backbone, choose_device
from cytosae.cells import is_listing, pixels_digest
from cytosae.cohort import BARCODES, COHORT
from cytosae.concepts import read_taught
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.locks import locked
from cytosae.morphometry import measure_inputs
from cytosae.remembered import FILE as SETTINGS
from cytosae.remembered import READABLE, READABLE_HEAD, write_settings
from cytosae.sae.former import TrainedWork
from cytosae.settings import TrainConfig, to_stored
from cytosae.study import stages
from cytosae.study.backbone import backbone_for, load_backbone
from cytosae.study.config import RunConfig
from cytosae.study.forecast import described, forecast, measuring_span
from cytosae.study.listing import Listed, look_at, refuse_drawing_over, rendered
from cytosae.study.replacing import make_way
from cytosae.study.stage import Stage
from cytosae.tokens import Layout, LiveTokens, TokenSource, TokenStore, store_layout
from cytosae.tokens.store import read_manifest


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
    describe
        Measure every cell and describe every concept in words.
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
        describe: bool = True,
    ) -> None:
        self.folder, self.config, self.store, self.workers = folder.absolute(), config, store, workers
        self.given, self.restart, self.describe = sae and sae.absolute(), restart, describe
        self.stages: dict[str, dict[str, Any]] = {}

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone; loaded when first needed."""
        return load_backbone(self.config.backbone)

    def _remember_backbone(self) -> None:
        """Note the backbone that was loaded, so that a later run need not load it to compare, and how tokens are kept."""
        path, rule = self.folder / "backbone.json", self.config.framing.rule
        now = {"store": to_stored(self.config.store), **({} if rule is None else {"frame": rule})}
        if "backbone" in self.__dict__:
            about = store_layout(self.backbone.info, self.config.store).backbone
            write_json(path, {"request": self._request(), "info": about, **now})
            return
        known = read_json(path)
        if {key: known[key] for key in ("store", "frame") if key in known} != now:
            write_json(path, {"request": known["request"], "info": known["info"], **now})

    def _request(self) -> dict[str, Any]:
        """The backbone's settings and the state of the local files that they name."""
        config = self.config.backbone
        files: dict[str, list[int]] = {}
        for path in (BUILT_IN.get(config.backbone, Path(config.backbone)), config.weights):
            if path is None or not path.exists():
                continue
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                stat = file.stat()
                files[str(file)] = [stat.st_size, stat.st_mtime_ns]
        return {"settings": to_stored(config), "files": files}

    def layout(self) -> Layout:
        """Layout of the tokens; without loading a backbone that has not changed."""
        path = self.folder / "backbone.json"
        if "backbone" not in self.__dict__ and path.is_file():
            known = read_json(path)
            if known.get("request") == json.loads(json.dumps(self._request())):
                info, store = known["info"], self.config.store
                self._remember_backbone()  # how whoever makes tokens of this study later rounds them
                return Layout(
                    info,
                    info["n_tokens"],
                    info["d_model"],
                    store.store_dtype,
                    store.cells_per_shard,
                    store.batch_size,
                    frame=self.config.framing.rule,
                )
        return store_layout(self.backbone.info, self.config.store, self.config.framing.rule)

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
        if not self.store and self.config.harmonise.harmonise != "none":
            raise CytosaeError(
                f"--harmonise {self.config.harmonise.harmonise}: needs tokens on disk. Leave --no-store or --harmonise "
                "out."
            )
        refuse_foreign(self.folder / "cells.parquet", "run", is_listing)
        refuse_foreign(self.folder / "backbone.json", "run", _is_backbone_note)
        refuse_foreign(self.folder / SETTINGS, "run", lambda path: {"settings", "cytosae"} <= read_json(path).keys())
        refuse_foreign(self.folder / READABLE, "run", lambda path: path.read_text("utf-8").startswith(READABLE_HEAD))
        with locked(self.folder):
            if not drop_missing:
                refuse_drawing_over(source, self.folder)
            source = rendered(source, self.folder / "cohort")
            table = self.folder / "cells.parquet"
            listed = look_at(
                source,
                table,
                columns=columns,
                strict=strict,
                drop_missing=drop_missing,
                images=self.config.images,
                framing=self.config.framing,
            )
            if self.describe:
                measure_inputs(listed.cells)  # a mask that is missing is named before the long work
            self._make_way(listed, self._expected_tokens(listed.cells))
            write_settings(self.folder, self.config.remembered(), self.store, self.given, columns or {}, self.describe)
            self.stages["cells"] = listed.write()
            self._announce(listed.cells)
            tokens = self._tokens(listed.cells)
            try:
                self._make_way(listed, tokens.fingerprint)
                sae = self._autoencoder(tokens, track=track, checkpoint_seconds=checkpoint_seconds)
                self.stages["sae"] = sae.update()
                self.stages["concepts"] = self._concepts(tokens).update()
                self.stages["familiarity"] = stages.familiarity(tokens, self.folder).update()
                if self.given is not None:
                    warnings = stages.say_unfamiliar(tokens, self.folder, self.given.parent)
                    self.stages["familiarity"]["warnings"] = warnings
            finally:
                tokens.close()
            if self.describe:
                self.stages |= stages.words(self.folder, listed.cells, self.config.engine)
            if listed.cells["patient"].notna().any():
                made = stages.barcodes(self.folder, self.config.barcodes).update()
                self.stages["cohort"] = {**made, "barcodes": f"{self.folder / COHORT / BARCODES}"}
            page = self.folder / "report" / "index.html"
            self.stages["report"] = {"page": f"{page}", **stages.report(self.folder).update()}
        return self.stages

    def _expected_tokens(self, cells: pd.DataFrame) -> str | None:
        """Fingerprint that the tokens of these cells will have; None where only making them can tell."""
        layout, folder = self.layout(), self.folder / "tokens"
        if not self.store:
            return LiveTokens(cells, lambda: self.backbone, layout).fingerprint
        manifest = read_manifest(folder)
        if manifest is None or not manifest[2]:
            return None
        if manifest[0].identity() != layout.identity():
            return "other tokens" if manifest[0].version == layout.version else None
        with closing(TokenStore(folder)) as store:
            own, asked = store.harmonisation, self.config.harmonise
            same = asked.harmonise == ("none" if own is None else own.method)
            same = same and (own is None or own.column == asked.laboratory)
            same = same and pixels_digest(store.cells) == pixels_digest(cells)
            return store.fingerprint if same else "other tokens"

    def _announce(self, cells: pd.DataFrame) -> None:
        """Say what a new study understood and how long it takes, before the long work begins."""
        if Manifest.load(self.folder / "sae") is not None:
            return
        layout = self.layout()
        say(f"run: {described(cells, str(layout.backbone['name']))}")
        known = read_manifest(self.folder / "tokens")
        embedded = sum(shard.stop - shard.start for shard in known[1]) if known else 0
        begun = TrainedWork.load(self.folder / "sae")
        config = None if self.given else self._training_config(len(cells))
        device = torch.device(choose_device(self.config.backbone.device))
        done = begun.steps if begun else 0
        processes = max(1, stages.measuring_engine(len(cells), self.config.engine).replicas)
        measuring = partial(measuring_span, cells, processes) if self.describe else None
        expected = forecast(len(cells) - embedded, lambda: self.backbone, layout, device, config, done, measuring)
        if expected is not None:
            say(f"run: {expected}")

    def _training_config(self, n_cells: int) -> TrainConfig:
        layout = self.layout()
        return self.config.train.scaled_to(n_cells, layout.n_tokens)

    def _make_way(self, listed: Listed, tokens: str | None) -> None:
        config = self._training_config(len(listed.cells))
        make_way(self.folder, config, self.layout, listed, tokens, given=self.given, restart=self.restart)

    def _tokens(self, cells: pd.DataFrame) -> TokenSource:
        layout = self.layout()
        self._remember_backbone()
        if not self.store:
            config = self.config
            load = backbone_for(config.engine, lambda: self.backbone, config.backbone, layout)
            return LiveTokens(cells, load, layout, self.workers)
        self.stages["tokens"] = stages.update_tokens(
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
        stages.update_harmonisation(self.folder / "tokens", self.config.harmonise)
        return TokenStore(self.folder / "tokens")

    def _autoencoder(self, tokens: TokenSource, **options: Any) -> Stage:
        config, folder = self.config.train, self.folder / "sae"
        if self.given is not None:
            return stages.importing(tokens, self.given, folder, config)
        return stages.training(tokens, folder, config, device=self.config.backbone.device, **options)

    def _concepts(self, tokens: TokenSource) -> Stage:
        return stages.encoding(
            tokens,
            self.folder / "sae",
            self.folder / "concepts",
            self.config.encode,
            device=self.config.backbone.device,
            engine=self.config.engine,
            taught=read_taught(self.folder),
        )


def _is_backbone_note(path: Path) -> bool:
    """Whether a file is the ``backbone.json`` of a study, whole."""
    note = read_json(path)
    return {"settings", "files"} <= note["request"].keys() and {"fingerprint", "n_tokens", "d_model"} <= note[
        "info"
    ].keys()
