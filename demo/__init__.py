"""The whole story on a drawn cohort: ``make demo``."""
