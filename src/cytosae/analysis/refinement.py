"""Refine a study's dictionary: what experts said of its latents counts in a short further training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytosae.analysis import refinement_judging as judging
from cytosae.analysis.refinement_halves import ShownHalves, draw_halves, show_halves
from cytosae.analysis.refinement_judging import AFTER, BEFORE, LONGER
from cytosae.analysis.refinement_lessons import judging_cells, make_lessons
from cytosae.analysis.viewing import Viewer, study_tokens
from cytosae.artefacts import (
    CONFIG,
    WEIGHTS,
    FileRecord,
    Manifest,
    claim,
    digest,
    sae_weights_digest,
    write_csv,
    write_json,
)
from cytosae.cohort import BARCODES, COHORT
from cytosae.concepts import (
    TAUGHT_FOLDER,
    latent_called,
    read_concepts,
    read_datasets,
    read_names,
    read_parameters,
    read_taught,
)
from cytosae.concepts.quality.resampling import group_codes
from cytosae.concepts.schema import VERDICT
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.locks import locked
from cytosae.sae import SAE, evaluate
from cytosae.sae.editing import edit
from cytosae.sae.metrics import PREFIXES
from cytosae.sae.refining import refine, training_settings
from cytosae.sae.trainer import split_rows
from cytosae.settings import RefineConfig, to_stored
from cytosae.teaching import ConceptMarks, read_marks, usable_marks
from cytosae.tokens import TokenSource, centred

REFINED = "refined"
"""Where a refined autoencoder lies in its parent's study if nothing else is said."""
RESULT, TABLE = "refinement.json", "comparison.csv"
_MARKS = "marks.csv"
_CELLS = 128  # whose tokens say what is active and what is reconstructed badly


@dataclass(frozen=True)
class _Study:
    """What a refinement reads of its study."""

    folder: Path
    source: TokenSource
    """Tokens as the backbone gives them."""
    tokens: TokenSource
    """As the autoencoder takes them."""
    sae: SAE
    units: NDArray[np.int64]
    """Patient of each cell, or the cell where it is unknown."""
    meaningful: list[int]
    artefacts: list[int]
    frequency: NDArray[np.float64]
    """Share of the cells in which each own latent is active."""
    names: Mapping[int, str]

    @classmethod
    def read(cls, folder: Path, source: TokenSource) -> _Study:
        sae = SAE.from_pretrained(folder / "sae").requires_grad_(False)
        cells = source.cells
        known = cells["patient"].notna().to_numpy()
        codes = np.where(known, np.unique(cells["patient"].astype(str), return_inverse=True)[1], -1)
        tables = [
            read_concepts(folder / "concepts", name, matrices=False) for name in read_datasets(folder / "concepts")
        ]
        own = sae.n_latents
        verdicts: dict[str, list[int]] = {"meaningful": [], "artefact": []}
        for verdict, latents in verdicts.items():
            marked = [(t.var[VERDICT] == verdict).to_numpy(bool)[:own] for t in tables if VERDICT in t.var]
            latents += np.flatnonzero(np.any(marked, axis=0)).tolist() if marked else []
        both = set(verdicts["meaningful"]) & set(verdicts["artefact"])
        sizes = np.array([table.n_obs for table in tables], float)
        shares = np.stack([table.var["activation_frequency"].to_numpy(float)[:own] for table in tables])
        return cls(
            folder,
            source,
            centred(source, sae.position_offset),
            sae,
            group_codes(len(cells), codes),
            [latent for latent in verdicts["meaningful"] if latent not in both],
            [latent for latent in verdicts["artefact"] if latent not in both],
            sizes @ shares / sizes.sum(),
            read_names(folder / "concepts"),
        )

    def latent(self, text: str, option: str) -> int:
        latent = latent_called(text, self.names, self.sae.n_latents + len(self.names))
        if latent >= self.sae.n_latents:
            raise CytosaeError(f"{option} {text}: is a taught latent. Only the autoencoder's own can be changed.")
        return latent


def refine_study(
    study: Path,
    folder: Path | None = None,
    config: RefineConfig | None = None,
    *,
    merge: Sequence[str] = (),
    split: Sequence[str] = (),
    apply: bool = False,
    control: bool = True,
    patients: bool = True,
    device: str = "auto",
) -> dict[str, Any]:
    """Refine the autoencoder of a study, or say what would be done.

    Leaves a new autoencoder in `folder`, which knows its parent and what was asked, and a comparison with it. The study
    stays as it is; ``cytosae run CELLS --study NEW --sae FOLDER`` makes a study with the new one.

    Parameters
    ----------
    study
        The study, after ``cytosae annotations apply`` where verdicts shall count.
    folder
        Where the refined autoencoder goes; ``refined`` in the study if None.
    config
        Settings.
    merge
        Pairs ``A,B`` of latents, by number or name, that are the same: the first becomes both, the second begins anew.
    split
        Latents that are two things; both halves are drawn as ``split-N.png`` in the folder.
    apply
        Train. Without, nothing but the drawn halves is written.
    control
        Train once more, as long, without what was asked: what is due to the training alone.
    patients
        Compare weighted F1 of the diagnoses too, where there are patients.
    device
        Where a backbone runs, if the study has no tokens.

    Raises
    ------
    CytosaeError
        No study, nothing is asked, a latent that is not there or is asked for twice, an autoencoder that does not say how it
        was trained.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or RefineConfig()
    folder = folder or study / REFINED
    if not (study / "backbone.json").is_file():
        raise CytosaeError(f"{study / 'backbone.json'}: missing. Give the folder of a finished study.")
    if folder.resolve() in {study.resolve(), (study / "sae").resolve()}:
        raise CytosaeError(f"{folder}: is the parent's folder. Give another with --output.")
    with study_tokens(study, device=device) as source:
        known = _Study.read(study, source)
        training_settings(known.sae)
        pairs = [_pair(known, text) for text in merge]
        latents = [known.latent(text, "--split") for text in split]
        marks = _marks(study, source)
        freed, block = (known.artefacts, []) if config.artefacts == "free" else ([], known.artefacts)
        changed = {*latents, *(one for pair in pairs for one in pair)}
        asked = {
            "meaningful": [one for one in known.meaningful if one not in changed],
            "artefacts": [one for one in freed if one not in changed],
            "block": [one for one in block if one not in changed],
            "merge": [list(pair) for pair in pairs],
            "split": latents,
            "taught": {one.concept: one.counts() for one in marks},
        }
        if not any(asked.values()):
            raise CytosaeError(
                f"{study}: nothing to do. Judge latents (`cytosae annotations apply`), teach concepts (`cytosae "
                "teach`), or give --merge or --split."
            )
        with locked(folder):
            halves = {latent: show_halves(Viewer(study, source), known.tokens, latent) for latent in latents}
            figures = [name for latent in latents for name in draw_halves(folder, latent, halves[latent])]
            result = {"asked": asked, "halves": {str(n): one.record() for n, one in halves.items()}, "drawn": figures}
            if not apply:
                return {**result, "applied": False}
            return {
                **result,
                **_refined(known, folder, config, asked, pairs, halves, marks, control, patients, figures),
            }


def _pair(known: _Study, text: str) -> tuple[int, int]:
    parts = [known.latent(part, "--merge") for part in text.split(",")]
    if len(parts) != 2 or parts[0] == parts[1]:
        raise CytosaeError(f"--merge {text}: give two different latents as A,B.")
    return parts[0], parts[1]


def _marks(study: Path, source: TokenSource) -> list[ConceptMarks]:
    path = study / TAUGHT_FOLDER / _MARKS
    if not path.is_file():
        return []
    taught = read_taught(study)
    names = () if taught is None else taught.names  # marks of a removed concept stay, but nobody asks for it any more
    marks = usable_marks(read_marks(path), source.cells, source.layout.n_tokens - 1)
    return [one for one in marks if one.concept in names and one.positive.any()]


def _refined(
    known: _Study,
    folder: Path,
    config: RefineConfig,
    asked: Mapping[str, Any],
    pairs: Sequence[tuple[int, int]],
    halves: Mapping[int, ShownHalves],
    marks: Sequence[ConceptMarks],
    control: bool,
    patients: bool,
    figures: Sequence[str],
) -> dict[str, Any]:
    sae, settings = known.sae, training_settings(known.sae)
    claim(folder, "refined", [WEIGHTS, CONFIG, RESULT, TABLE, *figures])
    training, evaluation, measured_on = split_rows(known.source, settings)
    judges = judging_cells(known.units, marks, config)
    rows = training[~judges[training]]
    lessons = make_lessons(known.source, known.tokens, sae, marks, known.units, judges, config)
    x = _tokens(known, rows, config.refine_seed)
    verdicts = [*asked["meaningful"], *asked["artefacts"], *asked["block"]]
    changed = {*verdicts, *asked["split"], *(one for pair in pairs for one in pair)}
    spare = [int(one) for one in np.argsort(known.frequency, kind="stable") if int(one) not in changed]
    edited = edit(
        sae,
        x,
        spare=spare,
        free=asked["artefacts"],
        merge=pairs,
        split={latent: one.halves for latent, one in halves.items()},
        taught={one.concept: one.direction for one in lessons},
        seed=config.refine_seed,
    )
    marked = {edited.taught[one.concept]: one.marked for one in lessons}
    say(
        f"refine: {len(rows):,} cells to train on, {int(judges.sum()):,} judge marks, measured on {len(evaluation):,} "
        f"{measured_on}"
    )
    after = refine(known.source, edited.sae, rows, config, meaningful=asked["meaningful"], marked=marked)
    saes = {BEFORE: sae}
    if control:
        saes[LONGER] = refine(known.source, sae, rows, config)
    saes[AFTER] = after
    compared = {
        name: evaluate(one, known.tokens.stream(_batches(evaluation)), settings.objective) for name, one in saes.items()
    }
    areas = {one.concept: one.areas(saes, edited.taught[one.concept]) for one in lessons}
    held = _tokens(known, evaluation, config.refine_seed)
    likeness = {
        name: judging.kept_likeness(sae, one, asked["meaningful"], held) for name, one in saes.items() if name != BEFORE
    }
    barcodes = judging.barcodes_of(known.folder / COHORT / BARCODES) if patients else None
    of_patients = None
    if barcodes is not None:
        tau = float(read_parameters(known.folder / "concepts")["threshold"])
        of_patients = judging.patient_figures(known.tokens, saes, barcodes, tau, judging.quick(config.refine_seed))
    parent = sae_weights_digest(known.folder / "sae")
    result = {
        "parent": parent,
        "taught": dict(edited.taught),
        "second_halves": {str(one): other for one, other in edited.split.items()},
        "anew": list(edited.anew),
        "measured_on": measured_on,
        "dictionaries": compared,
        "concepts": areas,
        "meaningful": likeness,
        "patients": of_patients,
    }
    after.metadata = {
        **sae.metadata,
        PREFIXES[measured_on]: {**sae.metadata.get(PREFIXES[measured_on], {}), **compared[AFTER]},
        "refined": {"parent": parent, "asked": asked, "taught": dict(edited.taught), "settings": to_stored(config)},
    }
    after.save_pretrained(folder)
    write_json(folder / RESULT, {"asked": asked, **result})
    write_csv(folder / TABLE, judging.comparison_table(result))
    names = [WEIGHTS, CONFIG, RESULT, TABLE]
    inputs = {"sae": parent, "tokens": known.source.fingerprint, "asked": digest(asked)}
    outputs = {name: FileRecord.from_file(folder / name) for name in names}
    Manifest("refined", to_stored(config), inputs, outputs, compared[AFTER]).save(folder)
    return {**result, "applied": True, "folder": f"{folder}"}


def _batches(rows: NDArray[np.int64]) -> Any:
    return (rows[i : i + 32] for i in range(0, len(rows), 32))


def _tokens(known: _Study, rows: NDArray[np.int64], seed: int) -> Tensor:
    """All patches of some of these cells, ``(n_tokens, d_model)``."""
    chosen = np.sort(np.random.default_rng([seed, 23]).permutation(rows)[:_CELLS])
    return torch.cat([batch[:, 1:].float() for batch in known.tokens.stream(_batches(chosen))]).flatten(0, 1)
