"""Synthetic blood cells whose morphology is planted and therefore known."""

from cytosae.synthetic.cohort import (
    TABLE_COLUMNS,
    CohortSpec,
    Patient,
    disease_concepts,
    draw_patient,
    is_cohort_table,
    read_concept_masks,
    segmentation,
    write_cohort,
)
from cytosae.synthetic.concepts import CONCEPT_MEANINGS, CONCEPTS, has_concept, patch_labels, token_truth
from cytosae.synthetic.fields import NUCLEATED, DrawnField, DrawnObject, FieldSpec, render_field
from cytosae.synthetic.laboratory import LABORATORIES, REFERENCE, Laboratory
from cytosae.synthetic.profiles import DIAGNOSES, PROFILES, Profile
from cytosae.synthetic.recipes import CELL_TYPES, TRAIT_RATES
from cytosae.synthetic.render import RENDERER_VERSION, random_cells, render_cell
from cytosae.synthetic.tuning import BASE, KNOBS, Knob, turned_cell

__all__ = [
    "BASE",
    "CELL_TYPES",
    "CONCEPTS",
    "CONCEPT_MEANINGS",
    "DIAGNOSES",
    "KNOBS",
    "LABORATORIES",
    "NUCLEATED",
    "PROFILES",
    "REFERENCE",
    "RENDERER_VERSION",
    "TABLE_COLUMNS",
    "TRAIT_RATES",
    "CohortSpec",
    "DrawnField",
    "DrawnObject",
    "FieldSpec",
    "Knob",
    "Laboratory",
    "Patient",
    "Profile",
    "disease_concepts",
    "draw_patient",
    "has_concept",
    "is_cohort_table",
    "patch_labels",
    "random_cells",
    "read_concept_masks",
    "render_cell",
    "render_field",
    "segmentation",
    "token_truth",
    "turned_cell",
    "write_cohort",
]
