"""Training of generators (needs the ``train`` extra)."""
