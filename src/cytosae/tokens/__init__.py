"""How are millions of tokens kept and read shuffled? Leaves shards and ``manifest.json``."""

from cytosae.tokens.bags import bag_cells
from cytosae.tokens.centring import CentredTokens, centred, position_offset
from cytosae.tokens.embedding import embed, store_layout
from cytosae.tokens.harmonisation import (
    HARMONISATION,
    Harmonisation,
    fit_harmonisation,
    read_harmonisation,
    write_harmonisation,
)
from cytosae.tokens.importing import import_tokens
from cytosae.tokens.layout import Layout
from cytosae.tokens.live import LiveTokens
from cytosae.tokens.shuffling import in_order, shuffled_batches
from cytosae.tokens.store import TokenStore

TokenSource = TokenStore | LiveTokens | CentredTokens

__all__ = [
    "HARMONISATION",
    "CentredTokens",
    "Harmonisation",
    "Layout",
    "LiveTokens",
    "TokenSource",
    "TokenStore",
    "bag_cells",
    "centred",
    "embed",
    "fit_harmonisation",
    "import_tokens",
    "in_order",
    "position_offset",
    "read_harmonisation",
    "shuffled_batches",
    "store_layout",
    "write_harmonisation",
]
