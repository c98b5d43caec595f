"""What goes over the wire: requests with their limits, answers, in the words of the interface."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from cytosae.explorer.annotations.vocabulary import VOCABULARY, outside

LARGEST = 2**31 - 1  # of an integer column
TERMS = 50  # of one vocabulary
ITEMS = 10_000  # of a worklist

_NO_NUL = r"^[^\x00]*$"  # PostgreSQL cannot store it
_UNSEEN = "\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"  # take no room
_SAYS_SOMETHING = rf"^[^\x00]*[^\x00\s{_UNSEEN}][^\x00]*$"


def _whole(value: object) -> object:
    """1.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _composed(value: object) -> object:
    """One form for letters that can be written in two: a rater is the same person on every keyboard."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


Id = Annotated[int, Field(ge=1, le=LARGEST), BeforeValidator(_whole)]
Latent = Annotated[int, Field(ge=0, le=LARGEST), BeforeValidator(_whole)]
Version = Annotated[int, Field(ge=0, lt=LARGEST), BeforeValidator(_whole)]
Dataset = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_NUL)]
Rater = Annotated[
    str,
    BeforeValidator(_composed),
    StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=_SAYS_SOMETHING),
]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_SAYS_SOMETHING)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=_NO_NUL)]
Line = Annotated[str, StringConstraints(max_length=200, pattern=_NO_NUL)]
Comment = Annotated[str, StringConstraints(max_length=5000, pattern=_NO_NUL)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Scalars = dict[Line, bool | int | Finite | Line | None]
Verdict = Literal["meaningful", "artefact", "cannot tell"]
Counts = Annotated[
    dict[Verdict, int],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {verdict: {"type": "integer"} for verdict in get_args(Verdict)},
            "required": list(get_args(Verdict)),
        }
    ),
]
"""Raters by verdict."""


def _in_vocabulary(terms: dict[str, list[str]]) -> dict[str, list[str]]:
    if wrong := outside(terms):
        raise ValueError(wrong)
    if any(len(chosen) > TERMS for chosen in terms.values()):
        raise ValueError(f"more than {TERMS} terms of one vocabulary")
    return {name: list(dict.fromkeys(chosen)) for name, chosen in terms.items() if chosen}


Terms = Annotated[
    dict[str, list[str]],
    AfterValidator(_in_vocabulary),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                name: {"type": "array", "items": {"type": "string", "enum": list(terms)}, "maxItems": TERMS}
                for name, terms in VOCABULARY.items()
            },
            "additionalProperties": False,
        }
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True)


class _Answer(BaseModel):
    """A field that has a default is in every answer."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Content(_Answer):
    """What a rater says of a latent."""

    verdict: Verdict | None = None
    name: Name = ""
    comment: Comment = ""
    terms: dict[str, list[str]] = {}
    specific_for: Line | None = None


class AnnotationKey(_Answer):
    """What identifies an annotation: worklist (or none), data set, latent and rater."""

    worklist: Id | None = None
    dataset: Dataset
    latent: Latent
    rater: Rater


class AnnotationRequest(Content, AnnotationKey, _Request):
    """An annotation as it is to be, and the version that the rater saw; 0 where there was none."""

    terms: Terms = {}
    version: Version


class Annotation(Content, AnnotationKey):
    """The current state of an annotation."""

    version: int
    created: AwareDatetime
    updated: AwareDatetime


class Change(Content, AnnotationKey):
    """A state that an annotation was put into at some time."""

    version: int
    time: AwareDatetime


class Conflict(BaseModel):
    """Somebody else, or another window, wrote first."""

    detail: str
    current: Annotation | None


class ItemRequest(_Request):
    """A latent to be judged."""

    dataset: Dataset
    latent: Latent


class WorklistRequest(_Request):
    """A new worklist."""

    title: Title
    items: Annotated[list[ItemRequest], Field(min_length=1, max_length=ITEMS)]
    blind_labels: bool = False
    blind_raters: bool = False
    disease: Line | None = None
    source: Line = ""


class WorklistChange(_Request):
    """What can be changed of a worklist; what is left out stays."""

    title: Title | None = None
    blind_labels: bool | None = None
    blind_raters: bool | None = None


class PanelItem(ItemRequest):
    """A latent of a panel; why it was drawn is kept, but not shown to raters."""

    cluster: int | None = None
    rank: int | None = None
    mean_activation: Finite | None = None
    activation_frequency: Finite | None = None


class WorklistFile(_Request):
    """A file of `cytosae panel` (see `cytosae.concepts.panel`)."""

    format: Literal["cytosae-worklist"]
    inputs: dict[Line, Line]
    items: Annotated[list[PanelItem], Field(min_length=1, max_length=ITEMS)]
    questions: Annotated[list[Line], Field(max_length=20)] = []
    parameters: Scalars = {}


class Facts(BaseModel):
    """A worklist without its items."""

    id: int
    uid: str
    title: str
    created: AwareDatetime
    source: str
    questions: list[str]
    blind_labels: bool
    blind_raters: bool
    disease: str | None
    raters: Annotated[dict[str, int], Field(description="items with a verdict, by rater")]


class WorklistSummary(Facts):
    """A worklist in the list of all."""

    items: Annotated[int, Field(description="number of items")]


class WorklistItem(BaseModel):
    """A latent of a worklist, with what the asking rater and the others say of it."""

    position: int
    dataset: str
    latent: int
    annotation: Annotation | None
    others: list[Annotation]


class Worklist(Facts):
    """A worklist with its items, in the order in which they are to be judged."""

    items: list[WorklistItem]


class GivenName(BaseModel):
    """A name and the raters who gave it."""

    name: str
    raters: list[str]


class Named(_Answer):
    """What the raters call a latent: the name that most gave, that of the rater who asks, and all, the usual first."""

    name: str
    own: str = ""
    given: list[GivenName] = []
    raters: int
    verdicts: Counts


class NamedLatent(BaseModel):
    """The names that a latent of a data set was given."""

    dataset: str
    latent: int
    given: list[GivenName]


class RaterFigures(BaseModel):
    """What one rater did."""

    name: str
    done: int
    meaningful: int
    artefact: int
    cannot_tell: int


class Fraction(BaseModel):
    """x of y."""

    x: int
    y: int


class Fractions(Fraction):
    """x of y, and of those among the first ten of the list."""

    first_ten: Fraction


class Specific(Fractions):
    """Concepts that the majority finds specific for the worklist's disease."""

    disease: str


class Pair(BaseModel):
    """Cohen's kappa of two raters over the items that both judged."""

    raters: tuple[str, str]
    kappa: float | None
    n: int


class Fleiss(BaseModel):
    """Fleiss' kappa over the items that were judged by the same number of raters."""

    kappa: float | None
    raters: int
    items: int


class Agreement(BaseModel):
    """Agreement of the raters; null where it is not defined."""

    cohen: list[Pair]
    fleiss: Fleiss | None


class Summary(BaseModel):
    """What came of a worklist."""

    worklist: int | None
    items: int
    raters: list[RaterFigures]
    meaningful: Fractions
    specific: Specific | None
    agreement: Agreement
    names: list[NamedLatent]
