"""Are planted concepts found again? Patch-level truth against activations, for latents and for simpler directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cytosae.concepts.quality.alignment import Alignment, align


def recovery(scores: ArrayLike, truth: ArrayLike, images: ArrayLike) -> Alignment:
    """Find the best score for each truth on half of the images and test it on the others.

    Parameters
    ----------
    scores
        ``(n_patches, n_scores)``, such as the activations of latents.
    truth
        ``(n_patches, n_truths)``, boolean: whether the patch shows the planted concept.
    images
        Image of each patch, ``(n_patches,)``; even ones choose, odd ones test, in rising order.
    """
    _, number = np.unique(np.asarray(images), return_inverse=True)
    return align(np.asarray(scores), truth, number % 2 == 0, draws=0)
