"""Which stages of a study are due, and why? Fills a folder stage by stage."""

from cytosae.study.backbone import backbone_for, load_backbone
from cytosae.study.config import RunConfig
from cytosae.study.listing import check_wish, list_to, look_at, rendered
from cytosae.study.stages import encoding, training, update_harmonisation, update_tokens
from cytosae.study.study import Study

__all__ = [
    "RunConfig",
    "Study",
    "backbone_for",
    "check_wish",
    "encoding",
    "list_to",
    "load_backbone",
    "look_at",
    "rendered",
    "training",
    "update_harmonisation",
    "update_tokens",
]
