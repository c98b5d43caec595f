"""Files and folders at URLs: ``s3://``, ``gs://``, ``hf://`` and whatever else fsspec reads.

Nothing here is imported by local work beyond these names; fsspec itself is loaded with the first URL.
"""

from cytosae.storage.objects import contents, ranges
from cytosae.storage.paths import StoredPath, address, below, drop_working_copy, remove_tree, resolve_path, state

__all__ = [
    "StoredPath",
    "address",
    "below",
    "contents",
    "drop_working_copy",
    "ranges",
    "remove_tree",
    "resolve_path",
    "state",
]
