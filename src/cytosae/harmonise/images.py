"""Colours of one laboratory brought to those of others: affine maps of a pixel, fitted without labels.

Reinhard's method makes mean and standard deviation of every channel alike, Macenko's the colours and the strength of the
two main dyes. Both are an affine map of a pixel's three numbers here, one for each laboratory and not for each image: the
stain of a laboratory is what its images share, and how dark a single cell is says what cell it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cytosae.artefacts import digest
from cytosae.harmonise.maps import Maps
from cytosae.harmonise.moments import group_moments

Pixels: TypeAlias = NDArray[np.uint8]
Colours: TypeAlias = NDArray[np.float64]

SAMPLE = 400
"""Pixels of an image that are looked at."""
_TINT = 0.15
"""Optical density above which a pixel holds dye (Macenko et al. 2009)."""
_EDGE = 1.0
"""Percentile of the angles at which a dye is taken (Macenko et al. 2009)."""
_SPARSE = 0.1
"""Weight of the sparsity of a pixel's dyes (lambda of Vahadane et al. 2016)."""
_FACTORED = 3000
"""Pixels whose densities are factored."""
_STRONG = 99.0
"""Percentile of a dye's amounts that is made alike (Macenko et al. 2009)."""
_WHITE = 5.0
"""Percentile of the optical densities that is the empty slide."""
_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_TO_OPPONENT = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array([[1.0, 1, 1], [1, 1, -2], [1, -1, 0]])


def density(pixels: NDArray[np.integer]) -> Colours:
    """Natural-log optical density of RGB pixels ``(..., 3)`` (Beer and Lambert); 0 is white."""
    return -np.log((np.asarray(pixels, np.float64) + 1) / 256)


def from_density(densities: Colours) -> Pixels:
    """RGB pixels of an optical density ``(..., 3)``."""
    return np.clip(np.exp(-densities) * 256 - 1, 0, 255).round().astype(np.uint8)


def opponent(pixels: NDArray[np.integer]) -> Colours:
    """The decorrelated space l-alpha-beta of RGB pixels ``(..., 3)`` (Ruderman; Reinhard et al. 2001, eq. 4 to 6)."""
    cones = (np.asarray(pixels, np.float64) + 1) / 256 @ _TO_LMS.T
    return np.asarray(np.log(cones) @ _TO_OPPONENT.T)


def from_opponent(colours: Colours) -> Pixels:
    """RGB pixels of l-alpha-beta ``(..., 3)``."""
    cones = np.exp(colours @ np.linalg.inv(_TO_OPPONENT).T)
    return np.clip(cones @ np.linalg.inv(_TO_LMS).T * 256 - 1, 0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Stain:
    """What a method knows of the pixels of a laboratory: where its colours lie and how they are spread."""

    origin: Colours
    """``(3,)``."""
    axes: Colours
    """The rows are directions of the space with the length of one unit, ``(3, 3)``."""


@dataclass(frozen=True)
class ImageMethod:
    """A way to make colours alike."""

    name: str
    source: str
    enter: Callable[[NDArray[np.integer]], Colours]
    """RGB to the space in which the map is affine."""
    leave: Callable[[Colours], Pixels]
    """And back."""
    stain: Callable[[Colours], Stain]
    """From a sample of a laboratory's pixels in that space ``(n, 3)``."""


def _spread(colours: Colours) -> Stain:
    (own,) = group_moments(colours, np.zeros(len(colours), np.int64), 1)
    return Stain(own.mean, np.diag(np.sqrt(own.variance) + 1e-3))


def _dyes(colours: Colours) -> Stain:
    """The two dyes of Macenko et al. 2009: the extreme directions in the plane of the two main components."""
    white, stained = _stained(colours)
    if len(stained) < 10:  # an empty slide
        return Stain(white, np.eye(3))
    _, _, components = np.linalg.svd(stained, full_matrices=False)
    plane = components[:2] * np.sign(components[:2].sum(axis=1, keepdims=True))
    flat = stained @ plane.T
    angles = np.arctan2(flat[:, 1], flat[:, 0])
    ends = np.percentile(angles, (_EDGE, 100 - _EDGE))
    return _of_dyes(white, stained, np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane)


def _sparse_dyes(colours: Colours) -> Stain:
    """The two dyes of Vahadane et al. 2016: non-negative factors of the densities of which a pixel holds few."""
    from sklearn.decomposition import DictionaryLearning

    white, stained = _stained(colours)
    if len(stained) < 10:  # an empty slide
        return Stain(white, np.eye(3))
    some = stained[np.random.default_rng(19).permutation(len(stained))[:_FACTORED]]
    start = _dyes(colours).axes[:2]
    start = np.maximum(start, 1e-3) / np.linalg.norm(np.maximum(start, 1e-3), axis=1, keepdims=True)
    learning = DictionaryLearning(
        2,
        alpha=_SPARSE,
        max_iter=50,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        positive_code=True,
        positive_dict=True,
        dict_init=start,
        code_init=np.maximum(some @ np.linalg.pinv(start), 0),
        random_state=0,
    )
    dyes = learning.fit(some).components_
    return _of_dyes(white, stained, dyes / np.maximum(np.linalg.norm(dyes, axis=1, keepdims=True), 1e-9))


def _stained(colours: Colours) -> tuple[Colours, Colours]:
    """The empty slide ``(3,)``, and the densities above it of pixels that hold dye ``(n, 3)``."""
    white = np.percentile(colours, _WHITE, axis=0)
    stained = colours - white
    return white, stained[(stained > _TINT).all(axis=1)]


def _of_dyes(white: Colours, stained: Colours, dyes: Colours) -> Stain:
    """Two dyes ``(2, 3)`` with their strengths, and what is across both."""
    dyes = dyes[np.argsort(dyes[:, 2])]  # the dye of the nuclei takes the least blue light, whatever the laboratory
    third = np.cross(dyes[0], dyes[1])
    third /= max(float(np.linalg.norm(third)), 1e-9)
    axes = np.vstack([dyes, third])
    amounts = stained @ np.linalg.pinv(axes)
    strength = np.append(np.maximum(np.percentile(amounts[:, :2], _STRONG, axis=0), 0.05), 1.0)
    return Stain(white, axes * strength[:, None])


IMAGE_METHODS: Mapping[str, ImageMethod] = {
    method.name: method
    for method in (
        ImageMethod(
            "reinhard",
            "Reinhard et al., IEEE Computer Graphics 2001, in optical density",
            density,
            from_density,
            _spread,
        ),
        ImageMethod(
            "reinhard-lab",
            "Reinhard et al., IEEE Computer Graphics 2001, in l-alpha-beta",
            opponent,
            from_opponent,
            _spread,
        ),
        ImageMethod("macenko", "Macenko et al., ISBI 2009, the residual kept", density, from_density, _dyes),
        ImageMethod(
            "vahadane",
            "Vahadane et al., IEEE Transactions on Medical Imaging 2016, the residual kept; factored by scikit-learn",
            density,
            from_density,
            _sparse_dyes,
        ),
    )
}
"""By name."""


def sample_pixels(image: Pixels, seed: int = 0) -> Pixels:
    """A seeded draw of `SAMPLE` pixels of an image ``(height, width, 3)``; ``(n, 3)``."""
    flat = image.reshape(-1, 3)
    if len(flat) <= SAMPLE:
        return flat
    return flat[np.random.default_rng(seed).integers(0, len(flat), SAMPLE)]


@dataclass(frozen=True)
class ImageMaps:
    """Colours of laboratories mapped to those of the mean laboratory."""

    method: str
    maps: Maps

    def apply(self, image: Pixels, code: int) -> Pixels:
        """An image ``(height, width, 3)`` of the laboratory with this number, as the mean laboratory would show it."""
        if code < 0:
            return image
        method = IMAGE_METHODS[self.method]
        colours = method.enter(image).reshape(-1, 3)
        mapped = (colours - self.maps.mean[code]) @ self.maps.scale[code] + self.maps.target
        return method.leave(mapped).reshape(image.shape)


@dataclass(frozen=True)
class Recolouring:
    """Which map each cell of a listing goes through."""

    maps: ImageMaps
    codes: NDArray[np.int64]
    """Number of each cell's map, negative where it stays as it is, ``(n_cells,)``."""

    @property
    def digest(self) -> str:
        """Of all that it does."""
        own = self.maps.maps
        return digest(
            [self.maps.method, *(values.tolist() for values in (own.mean, own.scale, own.target, self.codes))]
        )

    def apply(self, image: Pixels, row: int) -> Pixels:
        """The image of a cell ``(height, width, 3)`` in its other colours."""
        return self.maps.apply(image, int(self.codes[row]))

    def part(self, rows: range) -> Recolouring:
        """The same for some cells, one after the other."""
        return Recolouring(self.maps, self.codes[rows.start : rows.stop])


def mean_stain(stains: list[Stain]) -> Stain:
    """The reference: the mean of the laboratories, each counting once."""
    return Stain(np.mean([one.origin for one in stains], axis=0), np.mean([one.axes for one in stains], axis=0))


def fit_image_maps(method: str, samples: list[Pixels], reference: Stain | None = None) -> ImageMaps:
    """Maps of the laboratories whose pixels are given.

    Parameters
    ----------
    method
        One of `IMAGE_METHODS`.
    samples
        RGB pixels of each laboratory, ``(n_pixels, 3)``, such as `sample_pixels` of its images.
    reference
        Colours that all are mapped to; the mean of these laboratories if None.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> cells = rng.integers(60, 200, (2000, 3)).astype(np.uint8)
    >>> dark = (cells * 0.7).astype(np.uint8)
    >>> maps = fit_image_maps("reinhard", [cells, dark])
    >>> first, second = maps.apply(cells[None], 0), maps.apply(dark[None], 1)
    >>> bool(abs(first.astype(int) - second).mean() < 3)
    True
    """
    known = IMAGE_METHODS[method]
    stains = [known.stain(known.enter(sample)) for sample in samples]
    return stain_maps(method, stains, reference or mean_stain(stains))


def stain_maps(method: str, stains: list[Stain], target: Stain) -> ImageMaps:
    """Maps of laboratories with these stains to the colours of a reference."""
    scales = np.stack([np.linalg.solve(one.axes, target.axes) for one in stains])
    return ImageMaps(method, Maps(np.stack([one.origin for one in stains]), scales, target.origin))
