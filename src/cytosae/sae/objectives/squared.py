"""Squared error summed over dimensions, ReLU and L1 norm: Eq. 1 of CytoSAE as it is printed."""

from cytosae.sae.objectives.base import Objective, squared_error
from cytosae.sae.objectives.release import ReLU

OBJECTIVE = Objective(squared_error, ReLU)
