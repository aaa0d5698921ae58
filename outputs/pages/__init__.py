"""Pages for people: the summary page, the alignment page and the overlay slices, drawn with Pillow."""
