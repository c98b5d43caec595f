"""Many autoencoders on the cells of one study, trained together, and one table of what came out."""

from cytosae.sweeps.running import Sweep, sweep
from cytosae.sweeps.spec import Spec, read_spec

__all__ = ["Spec", "Sweep", "read_spec", "sweep"]
