"""``cytosae barcodes``, ``classify``, ``predict`` and ``compare``: what the patients of a cohort show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytosae.cli.answers import Json, answer, with_interval
from cytosae.cli.options import (
    Column,
    Commands,
    Device,
    Source,
    Strict,
    Weights,
    study_settings,
    with_ending,
    with_settings,
)
from cytosae.settings import (
    BarcodeConfig,
    ClassifyConfig,
    CompareConfig,
    DrawnConfig,
    ImageConfig,
    PredictConfig,
)

patients_app = Commands()

CellType = Annotated[
    str | None, typer.Option("--cell-type", help="Cell type to use, if the barcodes are by cell type.")
]


@patients_app.command()
@with_settings
def barcodes(
    concepts: Annotated[list[Path], typer.Argument(help="Folders of concepts, all encoded with one autoencoder.")],
    settings: BarcodeConfig,
    drawing: DrawnConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .h5ad file to write.")] = Path("barcodes.h5ad"),
    dataset: Annotated[list[str], typer.Option("--dataset", help="Data sets to use; by default all.")] = [],  # noqa: B006
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Folder for diseases, correlation and map of the patients.")
    ] = None,
    group_by: Annotated[str, typer.Option("--group-by", help="Column by which the figures group.")] = "diagnosis",
    as_json: Json = False,
) -> None:
    """Count the concepts of every patient: the mean over the patient's images (Eq. 3), patients x latents as AnnData.

    Needs a column 'patient' in the table of cells; 'diagnosis' and every other column of the patients are kept.
    """
    from cytosae.artefacts import refuse_foreign
    from cytosae.cohort import is_barcodes, make_barcodes, read_barcodes
    from cytosae.report import BARCODE_FIGURES, barcode_figures, refuse_foreign_figure

    refuse_foreign(with_ending(output, ".h5ad"), "barcodes", is_barcodes)
    if figures is not None:
        for name in BARCODE_FIGURES:
            refuse_foreign_figure(figures / name, "barcodes --figures")
    result = {"barcodes": f"{output}", **make_barcodes(concepts, output, settings, datasets=dataset)}
    if figures is not None:
        drawn = barcode_figures(read_barcodes(output, pooled=True), figures, group_by, config=drawing)
        result["figures"] = {name: f"{path}.png" for name, path in drawn.items()}
    answer(result, as_json)


@patients_app.command()
@with_settings
def classify(
    barcodes: Annotated[Path, typer.Argument(help="File made by `cytosae barcodes`.")],
    settings: ClassifyConfig,
    target: Annotated[
        str, typer.Option(help="Column to predict: classes, a number, or with --event the time to an event.")
    ] = "diagnosis",
    event: Annotated[
        str | None, typer.Option("--event", help="Column that says whether the event was seen at the time of --target.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(help="What --target holds: classes, number or survival; auto: more than 10 numbers are a number."),
    ] = "auto",
    tokens: Annotated[
        Path | None,
        typer.Option("--tokens", help="Tokens of these cells, to compare with means and attention over them."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="labels.csv of `cytosae label`, to compare with predicted fractions of cell types."
        ),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            "--folds",
            help="Column with the fold of each patient; or a table, a .json file or a folder of published folds.",
        ),
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option("--leave-out", help="Column such as laboratory: also leave out each value in turn."),
    ] = None,
    centre: Annotated[
        str | None,
        typer.Option(
            "--centre",
            help="Column such as laboratory: add a method that subtracts the mean of its patients from their barcodes.",
        ),
    ] = None,
    without: Annotated[
        list[str],
        typer.Option(
            "--without", metavar="LATENT", help="Strike out a concept, by its number or name. Can be repeated."
        ),
    ] = [],  # noqa: B006
    cell_type: CellType = None,
    device: Device = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; 'classification' beside the barcodes if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict the diagnosis of patients from their barcodes, or another column, cross-validated over patients.

    Warnings of leaks and confounders come first. Weighted F1 with interval and permutation null, beside the paper's form
    and baselines in the same folds; representation and penalty are chosen inside the training patients.
    """
    from cytosae.analysis import classification_in_words, predict_outcome
    from cytosae.analysis import classify as classify_patients
    from cytosae.cohort import CLASSES, CLASSIFICATION, outcome_folder, outcome_kind, read_patient_columns
    from cytosae.errors import CytosaeError

    shared: dict[str, Any] = {
        "tokens": tokens,
        "folds": folds,
        "cell_type": cell_type,
        "device": device,
        "labels": labels,
    }
    if outcome_kind(read_patient_columns(barcodes), target, event, kind) != CLASSES:
        if leave_out is not None:
            raise CytosaeError(f"--leave-out: belongs to classes; give --folds {leave_out} to leave each out in turn.")
        if centre is not None:
            raise CytosaeError(f"--centre {centre}: belongs to classes; leave it out.")
        if without:
            raise CytosaeError("--without: belongs to classes; leave it out.")
        folder = output or barcodes.parent / outcome_folder(target)
        result = predict_outcome(barcodes, folder, settings, target=target, event=event, **shared)
        answer(result if as_json else _outcome_lines(result, folder), as_json)
        return
    folder = output or barcodes.parent / CLASSIFICATION
    shared |= {"leave_out": leave_out, "centre": centre, "without": without}
    result = classify_patients(barcodes, folder, settings, target=target, **shared)
    if as_json:
        answer(result, as_json)
        return
    lines = {row["method"]: f"{with_interval(row)}, AUROC {row['auroc']:.3g}" for row in result["methods"]}
    if "left_out" in result:
        column = result["left_out"]["column"]
        lines |= {f"{row['method']}, {column} left out": with_interval(row) for row in result["left_out"]["methods"]}
    if (null := result["null"]) is not None:
        lines["permuted labels"] = f"{null['mean']:.4g} ({null['low']:.4g} to {null['high']:.4g}), p {null['p']:.3g}"
    sets = result["conformal"]
    covered = with_interval({"value": sets["coverage"], "low": sets["low"], "high": sets["high"]})
    lines = {f"weighted F1 | {name}": line for name, line in lines.items()}
    lines["conformal sets"] = f"coverage {covered} at {sets['nominal']:g}, {sets['size']:.3g} classes each"
    answer({**lines, "folder": f"{folder}"}, as_json, classification_in_words(result))


def _outcome_lines(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What is said of a predicted number or time."""
    lines = {f"{row['score']} | {row['method']}": with_interval(row) for row in result["methods"]}
    if (null := result["null"]) is not None:
        shuffled = f"{null['mean']:.4g} ({null['low']:.4g} to {null['high']:.4g}), p {null['p']:.3g}"
        lines[f"{result['methods'][0]['score']} | permuted patients"] = shuffled
    return {**lines, "folder": f"{folder}"}


@patients_app.command()
@with_settings(remembered=study_settings)
def predict(
    study: Annotated[Path, typer.Argument(help="Folder of a study with a classification.")],
    cells: Source,
    images: ImageConfig,
    settings: PredictConfig,
    target: Annotated[
        str | None,
        typer.Option(
            help="Column with a number or a time that `cytosae classify --target` predicts; by default the "
            "classification."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the answer.")] = Path("prediction"),
    weights: Weights = None,
    column: Column = [],  # noqa: B006
    strict: Strict = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Predict new patients with an unchanged study: its backbone, autoencoder, barcodes and classifier.

    Writes probabilities and the set of classes that a patient may have, or with --target a number with its interval, or
    the risk of an event; also the concepts and cells behind the prediction, and how far the patients lie from those of
    the study. Needs the study's folder after `cytosae classify`, but neither its images nor its tokens.
    """
    from cytosae.analysis import predict_patients
    from cytosae.cells import chosen_columns

    result = predict_patients(
        study,
        cells,
        output,
        settings,
        target=target,
        columns=chosen_columns(column),
        strict=strict,
        images=images,
        device=device,
        weights=weights,
    )
    if as_json:
        answer(result, as_json)
        return
    lines = {patient["patient"]: _predicted(patient) for patient in result["patients"]}
    answer({**lines, "as a whole": result["novelty"]["text"], "folder": f"{output}"}, as_json)


def _predicted(patient: dict[str, Any]) -> str:
    """What is predicted of a patient, in a line."""
    if "set" in patient:
        probability = patient["probability"][patient["predicted"]]
        return f"{patient['predicted']} ({probability:.0%}), set: {', '.join(patient['set']) or 'empty'}"
    if "third" in patient:
        return f"{patient['third']} risk, above {patient['riskier_than']:.0%} of the training patients"
    if patient["low"] is None:
        return f"{patient['predicted']:.3g}, no interval"
    return f"{patient['predicted']:.3g} ({patient['low']:.3g} to {patient['high']:.3g})"


@patients_app.command()
@with_settings
def compare(
    barcodes: Annotated[Path, typer.Argument(help="File made by `cytosae barcodes`.")],
    first: Annotated[str, typer.Argument(help="A group of patients, such as CBFB_MYH11.")],
    settings: CompareConfig,
    second: Annotated[str, typer.Argument(help="The other group; all other patients if left out.")] = "rest",
    target: Annotated[str, typer.Option(help="Column of the groups.")] = "diagnosis",
    adjust: Annotated[
        str | None, typer.Option("--adjust", help="Column such as laboratory: compare within each of its values.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="Study of the barcodes, to draw cells of both sides.")
    ] = None,
    cell_type: CellType = None,
    device: Device = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; 'compare-FIRST-SECOND' beside the barcodes if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two groups of patients latent by latent: the 50 most in favour of each, with effect, interval, p and FDR."""
    from cytosae.analysis import compare_groups, comparison_in_words
    from cytosae.concepts import file_name

    folder = output or barcodes.parent / f"compare-{file_name(first)}-{file_name(second)}"
    result = compare_groups(
        barcodes,
        folder,
        first,
        second,
        settings,
        target=target,
        adjust=adjust,
        study=study,
        cell_type=cell_type,
        device=device,
    )
    if as_json:
        answer(result, as_json)
        return
    lines = {
        f"{side['name']} | latent {row['latent']}": f"{row['difference']:+.3g} ({row['low']:.3g} to "
        f"{row['high']:.3g}), AUROC {row['auroc']:.2f}, FDR {row['fdr']:.2g}"
        for side in (result["first"], result["second"])
        for row in side["latents"][:10]
    }
    lines |= {key: result[key] for key in ("table", "figure")}
    answer(lines, as_json, comparison_in_words(result, settings))
