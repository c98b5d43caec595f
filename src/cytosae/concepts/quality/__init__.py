"""Should one believe the concepts? Measures with their sources: arrays in, numbers out.

Left out on purpose: targeted probe perturbation and spurious correlation removal, which have been found to be unreliable.
"""

from cytosae.concepts.quality.absorption import Absorption, absorption
from cytosae.concepts.quality.alignment import Alignment, align, auroc, auroc_draws
from cytosae.concepts.quality.coherence import spatial_coherence
from cytosae.concepts.quality.consistency import column_correlation, consistency, label_profiles
from cytosae.concepts.quality.downstream import Finish, OutputProbe, changed, pooled_output, reconstructed
from cytosae.concepts.quality.geometry import best_cosines, matched_cosines, redundancy_groups
from cytosae.concepts.quality.monosemanticity import monosemanticity
from cytosae.concepts.quality.naming import detection, intruder
from cytosae.concepts.quality.probing import ALL, sparse_probes
from cytosae.concepts.quality.reconstruction import DENSE_ABOVE, Reconstruction, reconstruct
from cytosae.concepts.quality.recovery import recovery
from cytosae.concepts.quality.resampling import Estimate, bootstrap_weights, group_codes, halves
from cytosae.sae.matching import reproducibility

__all__ = [
    "ALL",
    "DENSE_ABOVE",
    "Absorption",
    "Alignment",
    "Estimate",
    "Finish",
    "OutputProbe",
    "Reconstruction",
    "absorption",
    "align",
    "auroc",
    "auroc_draws",
    "best_cosines",
    "bootstrap_weights",
    "changed",
    "column_correlation",
    "consistency",
    "detection",
    "group_codes",
    "halves",
    "intruder",
    "label_profiles",
    "matched_cosines",
    "monosemanticity",
    "pooled_output",
    "reconstruct",
    "reconstructed",
    "recovery",
    "redundancy_groups",
    "reproducibility",
    "sparse_probes",
    "spatial_coherence",
]
