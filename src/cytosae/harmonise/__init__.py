"""What makes cells of different laboratories comparable? Methods for images, tokens and barcodes, fitted without labels."""

from cytosae.harmonise.images import (
    IMAGE_METHODS,
    ImageMaps,
    Recolouring,
    Stain,
    fit_image_maps,
    mean_stain,
    sample_pixels,
    stain_maps,
)
from cytosae.harmonise.laboratories import DEFAULT_COLUMN, Laboratories, inseparable, laboratories, single_class
from cytosae.harmonise.maps import METHODS, Maps, Method, fit_maps, nearest
from cytosae.harmonise.moments import LEAST, Moments, MomentSums, group_moments, mean_moments
from cytosae.harmonise.shares import VarianceShare, variance_share

__all__ = [
    "DEFAULT_COLUMN",
    "IMAGE_METHODS",
    "LEAST",
    "METHODS",
    "ImageMaps",
    "Laboratories",
    "Maps",
    "Method",
    "MomentSums",
    "Moments",
    "Recolouring",
    "Stain",
    "VarianceShare",
    "fit_image_maps",
    "fit_maps",
    "group_moments",
    "inseparable",
    "laboratories",
    "mean_moments",
    "mean_stain",
    "nearest",
    "sample_pixels",
    "single_class",
    "stain_maps",
    "variance_share",
]
