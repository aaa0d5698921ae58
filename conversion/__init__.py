"""Conversion of DICOM series to checked CT volumes, and their alignment to the network's grid.

`headers` reads the index of a file, `series_checks` checks a series, `volume_grid` plans its voxels, `convert` makes the volume,
`alignment` moves it onto the network's grid, `nifti` reads and writes it, `media` finds DICOM files in folders and zips, and
`series_reference` keeps what later stages need of the series.
"""
