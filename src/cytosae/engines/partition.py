"""A partition of the work units, for processes that know nothing of one another: the tasks of a Slurm array, say."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class Partition:
    """Every `count`-th unit of work.

    Which units these are depends on their numbers alone, not on what is missing when a process starts: so all partitions
    together are all units, whenever each process starts, and no unit is in two.
    """

    number: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Read ``I/N``.

        Raises
        ------
        CytosaeError
            Not such a fraction, or no such partition.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal()) or not 1 <= int(number) <= int(count):
            raise CytosaeError(f"--shard {text}: write I/N with I from 1 to N, such as 3/8.")
        return cls(int(number), int(count))

    def has(self, unit: int) -> bool:
        """Whether the unit with this number, from 0, is in it."""
        return unit % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
