"""How the built-in backbone ``tiny`` is trained, without labels or masks."""
