"""The outline of the core lies over the source where the map lies in the head, whatever way the slices were taken."""

from __future__ import annotations

import dataclasses
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from conversion.alignment.native import map_to_scanner
from corewatch.findings import CORE_MAP_THRESHOLD, Side
from corewatch.geometry import LPS_TO_RAS, NETWORK_SHAPE, NETWORK_TO_RAS, Matrix, apply, inverse
from corewatch.source_images import SourceImages, SourceSlice
from outputs.case import ReportedCase
from outputs.dicom import segmentation
from outputs.dicom.encoding import Study
from outputs.dicom.object_kinds import ObjectKind
from outputs.dicom.source_outline import OutlinedSlices, outline
from outputs.dicom.writing import GEOMETRY_UNKNOWN, NO_FRAME_OF_REFERENCE, NOTHING_TO_OUTLINE, write_objects
from tests.support.results import MODEL, enhanced, make_case, volumes

CT = "1.2.840.10008.5.1.4.1.1.2"
HU, CORE_MAP = volumes()


def placement(seed: int) -> Matrix:
    """LPS mm -> network voxel of a head that lies turned and shifted on the table."""
    rng = np.random.default_rng(seed)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-15, 15, 3), degrees=True).as_matrix()
    turn[:3, 3] = rng.uniform(-20, 20, 3)
    return inverse(turn @ LPS_TO_RAS @ NETWORK_TO_RAS)


def images(
    row: tuple[float, float, float],
    column: tuple[float, float, float],
    *,
    step: tuple[float, float, float],
    spacing: tuple[float, float] = (0.9, 0.9),
    count: int = 190,
    along: NDArray[np.float64] | None = None,
) -> SourceImages:
    """Slices around the centre of the network's grid; `step` in mm from one to the next."""
    rows, columns = round(250 / spacing[0]), round(250 / spacing[1])
    places = np.arange(count, dtype=np.float64) if along is None else along
    centre = -np.array(row) * spacing[1] * (columns - 1) / 2 - np.array(column) * spacing[0] * (rows - 1) / 2
    positions = centre + np.outer(places - places.mean(), step) + [0.0, 17.0, 14.0]
    slices = tuple(SourceSlice(CT, f"1.2.826.0.1.3.{n + 1}", 1, (p[0], p[1], p[2])) for n, p in enumerate(positions.tolist()))
    return SourceImages("1.2.826.0.1.9", rows, columns, spacing, (*row, *column), slices)


def turned(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = Rotation.from_euler("xyz", (11.0, -7.0, 23.0), degrees=True).apply(vector).tolist()
    return x, y, z


X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
GEOMETRIES = {
    "axial": images(X, Y, step=(0, 0, 1)),
    "oblique": images(turned(X), turned(Y), step=turned(Z)),
    "anisotropic": images(X, Y, step=(0, 0, 0.6), spacing=(0.6, 1.1), count=300),
    "feet first": images((-1.0, 0.0, 0.0), Y, step=(0, 0, -1)),
    "prone": images((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), step=(0, 0, 1)),
    "tilted": images(X, (0.0, np.cos(0.35), np.sin(0.35)), step=(0, 0, 1.06)),
    "irregular steps": images(X, Y, step=(0, 0, 1), along=np.cumsum(np.random.default_rng(5).uniform(0.6, 1.2, 210))),
    "sagittal": images(Y, (0.0, 0.0, -1.0), step=(-1, 0, 0), count=240),
}


def segment(folder: Path, source: SourceImages, lps_to_voxel: Matrix) -> tuple[Dataset, NDArray[np.bool_]]:
    """The Segmentation of such a source, and its frames, (frames, rows, columns)."""
    case = dataclasses.replace(make_case(folder), source_images=source)
    planes = outline(source, CORE_MAP, lps_to_voxel)
    assert planes is not None
    encoded = segmentation.encode(Study.of(case), source, planes, MODEL)
    path = folder / "seg.dcm"
    path.write_bytes(encoded.data)
    ds = dcmread(path)
    return ds, np.atleast_3d(ds.pixel_array).astype(bool).reshape(-1, source.rows, source.columns)


def pixel_to_lps(ds: Dataset, frame: int) -> Matrix:
    """(column, row, 0, 1) -> LPS mm of a frame, out of the object alone (PS3.3 C.7.6.2.1.1)."""
    shared, own = ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence[frame]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, np.float64)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, np.float64)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
    matrix[:3, 2] = np.cross(orientation[:3], orientation[3:])
    matrix[:3, 3] = np.array(own.PlanePositionSequence[0].ImagePositionPatient, np.float64)
    return matrix


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_pixel_says_what_the_map_says_at_its_place(name: str, tmp_path: Path) -> None:
    source, lps_to_voxel = GEOMETRIES[name], placement(3)
    ds, frames = segment(tmp_path, source, lps_to_voxel)
    assert (ds.Rows, ds.Columns) == (source.rows, source.columns)
    column, row = np.meshgrid(np.arange(source.columns), np.arange(source.rows))
    pixels = np.stack([column, row, np.zeros_like(row)], axis=-1).astype(np.float64)
    wrong = total = 0
    for number in range(0, len(frames), 7):
        voxels = apply(lps_to_voxel @ pixel_to_lps(ds, number), pixels)
        values = map_coordinates(CORE_MAP.astype(np.float64), np.moveaxis(voxels, -1, 0), order=1, cval=0.0)
        clear = np.abs(values - CORE_MAP_THRESHOLD - 0.5) > 0.05  # positions are written with 16 characters
        wrong += int((frames[number] != (np.rint(values) > CORE_MAP_THRESHOLD))[clear].sum())
        total += int(frames[number].sum())
    assert total > 1000
    assert wrong == 0


@pytest.mark.parametrize("name", GEOMETRIES)
def test_resampled_back_it_is_the_map(name: str, tmp_path: Path) -> None:
    lps_to_voxel = placement(4)
    ds, frames = segment(tmp_path, GEOMETRIES[name], lps_to_voxel)
    expected = CORE_MAP > CORE_MAP_THRESHOLD
    around = np.zeros(NETWORK_SHAPE, bool)
    around[85:126, 100:151, 50:101] = True
    assert not (expected & ~around).any()
    voxels = np.argwhere(around)
    lps = apply(inverse(lps_to_voxel), voxels.astype(np.float64))
    normal = pixel_to_lps(ds, 0)[:3, 2]
    heights = np.array([pixel_to_lps(ds, n)[:3, 3] for n in range(len(frames))]) @ normal
    order = heights.argsort()
    steps = np.diff(heights[order], prepend=heights.min() - 1, append=heights.max() + 1)
    values = np.zeros(len(voxels))
    for place, number in enumerate(order):  # linear between the frames and within them
        off = lps @ normal - heights[number]
        weight = 1 - np.where(off < 0, -off / steps[place], off / steps[place + 1])
        near = weight > 0
        pixels = apply(inverse(pixel_to_lps(ds, number)), lps[near])
        values[near] += weight[near] * map_coordinates(frames[number].astype(np.float64), pixels[:, 1::-1].T, order=1)
    found, truth = values >= 0.5, expected[around]
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) >= 0.98


def test_on_a_regular_grid_it_is_the_native_map(tmp_path: Path) -> None:
    source, lps_to_voxel = GEOMETRIES["oblique"], placement(5)
    voxel_to_lps = source.pixel_to_lps(0)
    native = map_to_scanner(CORE_MAP, lps_to_voxel, (source.columns, source.rows, len(source.slices)), voxel_to_lps)
    planes = outline(source, CORE_MAP, lps_to_voxel)
    assert planes is not None
    whole = np.zeros((len(source.slices), source.rows, source.columns), bool)
    whole[list(planes.numbers)] = planes.masks.astype(bool)
    expected = native.transpose(2, 1, 0) > CORE_MAP_THRESHOLD
    assert (whole != expected).sum() <= 1e-4 * expected.sum()
    assert planes.largest == expected.sum(axis=(1, 2)).argmax()


@pytest.mark.parametrize("multi_frame", [False, True])
def test_each_frame_names_the_image_it_lies_over(multi_frame: bool, tmp_path: Path) -> None:
    case = make_case(tmp_path)
    case = enhanced(case) if multi_frame else case
    ds = written(case, ObjectKind.SEG)
    source = case.source_images
    assert source is not None
    by_place = {one.position_lps: one for one in source.slices}
    for item in ds.PerFrameFunctionalGroupsSequence:
        x, y, z = (float(v) for v in item.PlanePositionSequence[0].ImagePositionPatient)
        (named,) = item.DerivationImageSequence[0].SourceImageSequence
        expected = by_place[x, y, z]
        assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (expected.sop_class_uid, expected.sop_instance_uid)
        assert named.get("ReferencedFrameNumber") == (expected.frame if multi_frame else None)
    (series,) = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.826.0.1.2"
    assert len(series.ReferencedInstanceSequence) == (1 if multi_frame else ds.NumberOfFrames)
    assert ds.FrameOfReferenceUID == source.frame_of_reference_uid


def written(case: ReportedCase, kind: ObjectKind) -> Dataset:
    manifest = write_objects(case, [], CORE_MAP)
    return dcmread(case.folder.dicom / manifest.made[kind][0])


def test_the_segment_says_what_it_is(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    study, ds = Study.of(case), written(case, ObjectKind.SEG)
    (segment,) = ds.SegmentSequence
    codes = {
        name: segment[name][0].CodeValue
        for name in ("AnatomicRegionSequence", "SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence")
    }
    assert codes == {
        "AnatomicRegionSequence": "12738006",  # brain
        "SegmentedPropertyCategoryCodeSequence": "49755003",  # morphologically abnormal structure
        "SegmentedPropertyTypeCodeSequence": "55641003",  # infarct
    }
    assert (segment.SegmentNumber, segment.SegmentLabel) == (1, "Core: place only, not its volume")
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "phantom-demo")
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("phantom-demo", "1.0")
    assert segment.RecommendedDisplayCIELabValue == [51773, 24929, 26214], "light blue, as the outline on our pages"
    assert (segment.TrackingID, segment.TrackingUID) == ("ischemic core", study.derived_uid("core"))


def test_the_object_is_found_by_its_numbers(tmp_path: Path) -> None:
    long = dataclasses.replace(MODEL, name="m" * 70)
    case = make_case(tmp_path, model=long)
    study, ds = Study.of(case), written(case, ObjectKind.SEG)
    assert (ds.SOPInstanceUID, ds.SeriesInstanceUID) == (study.derived_uid("seg"), study.derived_uid("seg-series"))
    assert (ds.InstanceNumber, ds.SeriesNumber, ds.SegmentationType) == (1, 9720, "BINARY")
    assert (ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber) == ("corewatch", "m" * 64, "0123456789abcdef")
    assert (ds.ContentLabel, ds.ContentQualification, ds.BodyPartExamined) == ("ISCHEMIC_CORE", "RESEARCH", "HEAD")
    assert ds.ContentDescription == "Place only, not volume. Research use only, not for diagnosis"
    assert ds["PixelData"].VR == "OB"
    dimensions = {item.DimensionOrganizationUID for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence)}
    assert dimensions == {study.derived_uid("seg-dimensions")}


@pytest.mark.parametrize(
    ("name", "thickness"), [("axial", 1.0), ("anisotropic", 0.6), ("tilted", 1.06 * np.cos(0.35)), ("irregular steps", 0.9)]
)
def test_frames_have_the_source_s_spacing_and_lie_face_to_face(name: str, thickness: float, tmp_path: Path) -> None:
    """Slice Thickness is the median step along the normal of the slices, in mm with 6 digits."""
    source = GEOMETRIES[name]
    ds, _ = segment(tmp_path, source, placement(3))
    (measures,) = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.PixelSpacing == list(source.spacing_mm)
    assert measures.SliceThickness == pytest.approx(thickness, abs=0.05 if "irregular" in name else 2e-6)
    assert len(str(measures.SliceThickness).partition(".")[2]) <= 6


def test_every_outlined_slice_has_its_frame_even_where_the_mask_is_empty(tmp_path: Path) -> None:
    source = GEOMETRIES["axial"]
    case = dataclasses.replace(make_case(tmp_path), source_images=source)
    masks = np.zeros((3, source.rows, source.columns), np.uint8)
    masks[[0, 2], 10, 10] = 1
    encoded = segmentation.encode(Study.of(case), source, OutlinedSlices((5, 6, 7), masks), MODEL)
    assert (encoded.kind, encoded.instance_number) == (ObjectKind.SEG, 1)
    assert dcmread(BytesIO(encoded.data)).NumberOfFrames == 3


def test_only_slices_with_core_have_a_frame(tmp_path: Path) -> None:
    ds = written(make_case(tmp_path), ObjectKind.SEG)
    assert 5 < ds.NumberOfFrames < 20
    assert ds.pixel_array.any(axis=(1, 2)).all()


def test_the_map_itself_keeps_its_values_and_its_place(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    lps_to_voxel = placement(6)
    case = dataclasses.replace(case, result=dataclasses.replace(case.result, lps_to_voxel=lps_to_voxel))
    ds = written(case, ObjectKind.PMAP)
    found = np.zeros(NETWORK_SHAPE, np.uint16)
    row, column = np.mgrid[: ds.Rows, : ds.Columns]
    pixels = np.stack([column, row, np.zeros_like(row)], axis=-1).astype(np.float64)
    for number, frame in enumerate(ds.pixel_array):
        exact = apply(lps_to_voxel @ pixel_to_lps(ds, number), pixels)
        voxels = np.rint(exact).astype(int)
        assert np.abs(exact - voxels).max() < 1e-3
        found[tuple(np.moveaxis(voxels, -1, 0))] = frame
    assert (found == CORE_MAP).all()
    (mapping,) = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "%"


def test_what_cannot_be_outlined_is_left_out_with_its_reason(tmp_path: Path) -> None:
    whole = make_case(tmp_path)
    assert whole.source_images is not None
    without_frame = dataclasses.replace(whole.source_images, frame_of_reference_uid="")
    cases = {
        GEOMETRY_UNKNOWN: dataclasses.replace(whole, source_images=None),
        NO_FRAME_OF_REFERENCE: dataclasses.replace(whole, source_images=without_frame),
        NOTHING_TO_OUTLINE: make_case(tmp_path / "noise", side=Side.NONE, alert=False),
    }
    for why, case in cases.items():
        manifest = write_objects(case, [], CORE_MAP)
        assert manifest.left_out == {ObjectKind.SEG: why, ObjectKind.PMAP: why}
        assert ObjectKind.SR in manifest.made
        assert not list(case.folder.dicom.glob("seg-*"))
    faint = write_objects(whole, [], np.minimum(CORE_MAP, CORE_MAP_THRESHOLD).astype(np.uint8))
    assert faint.left_out[ObjectKind.SEG] == NOTHING_TO_OUTLINE
