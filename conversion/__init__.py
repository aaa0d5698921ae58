"""From DICOM files to a CT volume that can be trusted, and on to the network's grid.

`headers` indexes a file, `checks` judges a series, `convert` makes the volume, `alignment` brings it onto the network's grid,
`nifti` reads and writes it, `media` finds DICOM in what people drop, and `source` keeps what later stages need of the series.
"""
