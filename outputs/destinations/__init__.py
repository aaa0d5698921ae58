"""Where results go: one file per kind of destination, all behind `base.Destination`."""
