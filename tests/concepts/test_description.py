"""Descriptions name what is planted, and nothing where nothing is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats

from cytosae.concepts import read_concepts, read_descriptions, read_facts
from cytosae.concepts.description import words
from cytosae.concepts.description.associations import classes, correlations, ratio_to_others
from cytosae.concepts.description.places import ALL_PLACES, Usual, locate, usual_looks
from cytosae.concepts.quality import auroc
from cytosae.explorer.annotations.vocabulary import VOCABULARY
from cytosae.morphometry import LOOKS, PLACES
from cytosae.segmentation import MEASUREMENTS
from support.commands import assert_user_error, cytosae, figures
from support.studies import SET


def planted_places(n: int = 8) -> np.ndarray:
    """Maps of places: nucleus in the middle, cytoplasm around, background else."""
    maps = np.zeros((n, 64, 64), np.uint8)
    maps[:, 12:52, 12:52] = PLACES.index("cytoplasm")
    maps[:, 24:40, 24:40] = PLACES.index("nucleus")
    return maps


def usual(looks: np.ndarray) -> Usual:
    return usual_looks(planted_places(), looks, (16, 16))


def test_places_are_found_and_evenness_is_none() -> None:
    cells = np.tile(np.arange(8), (3, 1))
    maps = np.zeros((3, 8, 16, 16), np.float32)
    maps[0, :, 7:9, 7:9] = 2  # nucleus
    maps[1] = 1  # everywhere
    maps[2, :, 0] = 1  # upper border
    looks = np.zeros((8, len(LOOKS), 16, 16), np.uint8)
    found = locate(maps, cells, planted_places(), looks, usual(looks))
    nucleus = ALL_PLACES.index("nucleus")
    assert found.share[0, nucleus] == pytest.approx(1)
    assert found.null[0, nucleus] == pytest.approx(16**2 / 64**2)
    assert found.low[0, nucleus] == pytest.approx(1)
    np.testing.assert_allclose(found.excess[1], 0, atol=1e-6)
    assert found.share[2, ALL_PLACES.index("image border")] == pytest.approx(1)
    assert found.patches[1] == pytest.approx(1)
    assert found.patches[0] == pytest.approx(4 / 256)
    less = cells.copy()
    less[0, 3:] = -1  # fewer reference images
    assert locate(maps, less, planted_places(), looks, usual(looks)).share[0, nucleus] == pytest.approx(1)


def test_looks_are_those_of_the_patches_against_the_rest_of_the_tissue() -> None:
    maps = np.zeros((1, 8, 16, 16), np.float32)
    maps[0, :, 4, 4:8] = 1  # cytoplasm
    looks = np.full((8, len(LOOKS), 16, 16), 20, np.uint8)
    looks[:, LOOKS.index("eosin"), 4, 4:8] = 120
    other = np.random.default_rng(0).integers(0, 40, looks.shape, dtype=np.uint8)
    other[:, LOOKS.index("azure")] += 100
    found = locate(maps, np.arange(8)[None], planted_places(), looks, usual(other))
    cytoplasm = found.look[0, 1]
    assert cytoplasm[LOOKS.index("eosin")] > 1
    assert found.look_low[0, 1, LOOKS.index("eosin")] > 1
    assert abs(cytoplasm[LOOKS.index("azure")]) < 1e-3
    assert found.redness[0] > 0.5
    assert found.appearance_low[0, 1, LOOKS.index("eosin")] > 3
    assert found.appearance_high[0, 1, LOOKS.index("azure")] < -3  # as all of its cells, not as others


def test_associations_are_those_of_plain_formulas() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 400)
    dense = rng.random((400, 5)) * (rng.random((400, 5)) < 0.4)
    dense[label == 2, 1] += 1
    means, choosing = sp.csr_matrix(dense), np.arange(400) % 2 == 0
    truth = label[:, None] == np.arange(3)
    found = classes(means, truth, np.ones_like(truth), choosing)
    assert found.best[1] == 2
    assert found.value[1] == pytest.approx(auroc(dense[~choosing], truth[~choosing])[1, 2])
    assert found.q[1] < 1e-6
    assert (found.q[[0, 2, 3, 4]] > 0.01).all()
    ratio = ratio_to_others((means > 0).astype(float), truth, found.best)
    shown = dense[:, 1] > 0
    assert ratio[1] == pytest.approx(shown[label == 2].mean() / shown[label != 2].mean(), rel=0.02)
    measured = rng.normal(size=(400, 4))
    measured[:, 2] += 3 * dense[:, 1]
    measured[::7, 0] = np.nan
    chosen, tested, q = correlations(means, measured, choosing)
    assert np.abs(chosen[1]).argmax() == 2
    plain = stats.spearmanr(dense[~choosing, 1], measured[~choosing, 2]).statistic
    most = stats.spearmanr(dense[~choosing, 1], dense[~choosing, 1] + np.linspace(0, 1e-9, 200)).statistic
    assert tested[1, 2] == pytest.approx(plain / most, abs=1e-3)
    assert most < 0.99  # the zeros are ties
    there = sp.csr_matrix((dense > 1).astype(float))
    area = auroc(measured[~choosing][:, [2]], dense[~choosing][:, [1]] > 1)[0, 0]
    assert correlations(there, measured, choosing)[1][1, 2] == pytest.approx(2 * area - 1)
    assert q[1, 2] < 1e-6
    assert np.nanmin(np.delete(q, 2, axis=1)) > 0.01


def test_words_are_of_what_is_measured() -> None:
    names = {m.name for m in MEASUREMENTS}
    assert {name for name, _ in words.MEASUREMENT_WORDS} <= names
    assert {*words.PLACE_WORDS} == {*ALL_PLACES}
    assert {look for _, look, _ in words.LOOK_WORDS} <= {*LOOKS}
    terms = {term for group in VOCABULARY.values() for term in group}
    assert {
        "red blood cell beside",
        "empty background",
        "image border",
        "nuclear border",
        "cytoplasmic border",
    } <= terms
    assert words.theme_of("vacuole_contrast") == words.theme_of("vacuole_share")
    assert words.theme_of("nucleus_area") == words.theme_of("cell_size_in_red_cells") == "size"
    assert words.theme_of("red_cells") == words.theme_of("background_share")
    assert words.sentence([]) == words.NOTHING


@pytest.fixture(scope="module")
def described(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn study, measured and described."""
    study = Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("described") / "study"))
    (study / "morphometry").rename(study / "aside")
    done = cytosae("describe", study, check=False)
    assert_user_error(done, "no measurements there", "cytosae measure")
    (study / "aside").rename(study / "morphometry")
    cytosae("describe", study)
    return study


def test_a_study_is_described(described: Path) -> None:
    table, facts = read_descriptions(described), read_facts(described)
    var = read_concepts(described / "concepts", SET).var
    assert len(table) == var["is_concept"].sum()
    known = table[table["known"]]
    assert 0.3 < len(known) / len(table) <= 1
    assert (table.loc[~table["known"], "description"] == words.NOTHING).all()
    assert var["description"].dropna().tolist() == table.sort_values("latent")["description"].tolist()
    passing = facts[facts["passes"]]
    over_cells = passing["kind"].isin(["measurement", "cell type"])
    assert (passing.loc[over_cells, "q"] < 0.01).all()
    assert passing.loc[passing["kind"] == "measurement", "value"].abs().min() > 0.3
    assert passing.loc[passing["kind"] == "cell type", "value"].min() > 0.8
    assert (passing.groupby("latent")["kind"].apply(lambda kinds: (kinds == "place").sum()) <= 1).all()


def test_shuffled_cells_have_no_types_and_measurements(described: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(described, tmp_path / "study"))
    path = study / "morphometry" / "measurements.parquet"
    before = read_facts(study)
    with pytest.MonkeyPatch.context() as patch:
        from cytosae.concepts.description import describing

        real = describing.read_measurements

        def shuffled(folder: Path) -> pd.DataFrame:
            table = real(folder)
            order = np.random.default_rng(0).permutation(len(table))
            return table.iloc[order].set_index(table.index)

        patch.setattr(describing, "read_measurements", shuffled)
        describing.describe_concepts(study)
    after = read_facts(study)
    counts = [int(((t["kind"] == "measurement") & t["passes"]).sum()) for t in (before, after)]
    assert counts[0] > 20
    assert counts[1] <= 0.02 * counts[0]
    assert path.is_file()


def test_the_passport_has_what_is_known(described: Path, tmp_path: Path) -> None:
    facts = read_facts(described)
    latent = int(facts.loc[facts["passes"], "latent"].iloc[0])
    said = figures(cytosae("concept", described, latent, "-o", tmp_path / "figure", "--json"))
    entry = said["datasets"][SET]
    assert entry["description"] == read_descriptions(described).set_index("latent")["description"][latent]
    assert entry["evidence"]
    assert "by chance" in next(iter(entry["evidence"].values()))
    assert said["quality"] == {}  # nobody evaluated it
