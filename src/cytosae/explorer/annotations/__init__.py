"""What experts say of the latents, and the concepts that they teach by pointing. Leaves ``annotations.sqlite``."""

from cytosae.explorer.annotations.addresses import default_address
from cytosae.explorer.annotations.agreement import cohen_kappa, fleiss, fleiss_kappa, majority, pairwise
from cytosae.explorer.annotations.database import (
    Database,
    OtherAutoencoder,
    Unknown,
    open_database,
    read_database,
)
from cytosae.explorer.annotations.exchange import everything, export, is_export, take
from cytosae.explorer.annotations.former import Former, former_studies
from cytosae.explorer.annotations.marking import PlacedMark, current_marks, mark_history, marks_agreement, save_marks
from cytosae.explorer.annotations.naming import agreed_names, agreed_verdict, name_latents
from cytosae.explorer.annotations.recording import Stale, current_annotations, history, save_annotation
from cytosae.explorer.annotations.summary import summarise
from cytosae.explorer.annotations.vocabulary import VOCABULARY
from cytosae.explorer.annotations.worklists import Plan, add, from_comparison, from_list, from_panel

__all__ = [
    "VOCABULARY",
    "Database",
    "Former",
    "OtherAutoencoder",
    "PlacedMark",
    "Plan",
    "Stale",
    "Unknown",
    "add",
    "agreed_names",
    "agreed_verdict",
    "cohen_kappa",
    "current_annotations",
    "current_marks",
    "default_address",
    "everything",
    "export",
    "fleiss",
    "fleiss_kappa",
    "former_studies",
    "from_comparison",
    "from_list",
    "from_panel",
    "history",
    "is_export",
    "majority",
    "mark_history",
    "marks_agreement",
    "name_latents",
    "open_database",
    "pairwise",
    "read_database",
    "save_annotation",
    "save_marks",
    "summarise",
    "take",
]
