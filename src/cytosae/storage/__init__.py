"""Files and folders at URLs: ``s3://``, ``gs://``, ``hf://`` and whatever else fsspec reads.

Nothing here is imported by local work beyond these names; fsspec itself is loaded with the first URL.
"""

from cytosae.storage.objects import contents, ranges
from cytosae.storage.paths import StoredPath, address, below, place, release, remove_tree, state

__all__ = ["StoredPath", "address", "below", "contents", "place", "ranges", "release", "remove_tree", "state"]
