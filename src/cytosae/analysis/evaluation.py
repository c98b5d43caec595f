"""Are the concepts of a study to be believed, and how many does each autoencoder find?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.viewing import saved_backbone, study_tokens
from cytosae.artefacts import MANIFEST, claim, refuse_strangers
from cytosae.concepts import evaluate_study, means_by_rule, read_concepts, read_datasets
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.report import density_histogram, figure_files, quality_summary, save, threshold_counts, write_report
from cytosae.settings import BackboneConfig, EncodeConfig, EvaluateConfig, from_stored
from cytosae.study import load_backbone


def evaluate(
    folder: Path,
    config: EvaluateConfig | None = None,
    *,
    attributes: Path | None = None,
    against: Sequence[Path] = (),
    judge: BackboneConfig | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure the concepts of a study, draw the summary and renew the report; see `cytosae.concepts.evaluate_study`.

    With `judge` monosemanticity is measured by the embeddings of that backbone.

    Where tokens are kept on disk, a backbone that cannot be loaded any more costs only the measures that need it.

    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    drawn = [*figure_files("summary"), *figure_files("density")]
    refuse_strangers(folder / "quality", "quality", drawn, unnamed=drawn)
    backbone = None
    try:
        backbone = saved_backbone(folder, device)
    except CytosaeError as error:
        if not (folder / "tokens" / MANIFEST).is_file():
            raise
        say(f"quality: the backbone cannot be loaded: {error}")
    judging = None if judge is None else load_backbone(replace(judge, device=device), whole=True)
    with study_tokens(folder, backbone) as source:
        options: dict[str, Any] = {"backbone": backbone, "attributes": attributes, "against": against, "judge": judging}
        result = evaluate_study(folder, source, config, **options)
    claim(folder / "quality", "quality", drawn, unnamed=drawn)
    figures = pd.DataFrame(result["figures"])
    save(quality_summary(figures, title=folder.absolute().name), folder / "quality" / "summary")
    frequency = pd.read_parquet(folder / "quality" / "latents.parquet")["token_frequency"].to_numpy()
    save(density_histogram(frequency), folder / "quality" / "density")
    write_report(folder)
    return result


def compare_counts(folders: Sequence[Path], figure: Path, dataset: str | None = None) -> dict[str, Any]:
    """Draw the number of concepts at each threshold of mean activation for several autoencoders on one data set.

    The rest of the rule of concepts (`cytosae.concepts.means_by_rule`) is that of each encoding.

    Parameters
    ----------
    folders
        Of concepts, one of each autoencoder. Those with equal expansion and layer, as of several seeds, are one line.
    figure
        Where the figure goes (``.png`` and ``.svg``).
    dataset
        Its name; the first of the first folder if None.

    Returns
    -------
    Discovered concepts of each folder.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    name = dataset or next(iter(read_datasets(folders[0])))
    lines: dict[str, list[NDArray[np.float64]]] = {}
    counts: dict[str, int] = {}
    for folder in folders:
        if name not in read_datasets(folder):
            raise CytosaeError(f"{folder}: has no data set {name!r}; it has {', '.join(read_datasets(folder))}.")
        data = read_concepts(folder, name, matrices=False)
        backbone = data.uns["cytosae"]["backbone"]
        line = f"expansion {data.n_vars / backbone['d_model']:g}, layer {int(backbone['layer']) + 1}"
        config = EncodeConfig(**from_stored(EncodeConfig, data.uns["cytosae"]["parameters"]))
        lines.setdefault(line, []).append(means_by_rule(data.var, config, data.n_obs))
        counts[f"{folder}"] = int(data.var["is_concept"].sum())
    save(threshold_counts({line: np.stack(means) for line, means in lines.items()}), figure)
    return {"dataset": name, "concepts": counts, "figure": f"{figure}.png"}
