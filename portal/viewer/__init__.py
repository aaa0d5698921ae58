"""Slices of a case as pictures for a browser: the source's own images, or the aligned head, with the core map over them."""
