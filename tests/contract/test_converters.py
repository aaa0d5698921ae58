"""The contract of a converter, over each of them: the same volume, or the same refusal; faults are reasons, not crashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dicom2nifti.convert_dicom
import numpy as np
import pytest
from dicom2nifti.exceptions import ConversionError, ConversionValidationError
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from config.series import SeriesSettings
from conversion.converters import CONVERTERS, Converter, ConverterName, compare_converters
from conversion.media import find_files
from conversion.series_checks import WHOLE_HEAD
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from tests.support_conversion import head, image, stack, write

ZS = [20.0, 0.0, 10.0, 5.0, 15.0, 25.0, 30.0]
OTHER = ConverterName.DICOM2NIFTI


@pytest.fixture(params=list(CONVERTERS), ids=str)
def convert(request: pytest.FixtureRequest) -> Converter:
    return CONVERTERS[request.param]


def refused(convert: Converter, paths: list[Path]) -> NotAnalysed:
    with pytest.raises(NotAnalysed) as caught:
        convert(paths)
    return caught.value


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_stack_in_any_order_is_the_volume_that_its_headers_describe(convert: Converter, tmp_path: Path, syntax: str) -> None:
    volume, reference = convert(write(tmp_path, stack(ZS), syntax))
    order = np.argsort(ZS)
    for k, n in enumerate(order):
        np.testing.assert_array_equal(volume.hu[:, :, k], head(seed=int(n)).T)
    assert volume.hu.dtype == np.int16
    wanted = [[0.5, 0, 0, -5], [0, 0.5, 0, -6], [0, 0, 5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.voxel_to_lps, wanted, atol=1e-6)
    assert [one.sop_instance_uid for one in reference.slices] == list(volume.sop_instance_uids)
    assert volume.sop_instance_uids[0].endswith(f".{order[0] + 1}")


def test_strays_and_copies_are_set_aside(convert: Converter, tmp_path: Path) -> None:
    page = image(head(), (0, 0, 0), 90, ImagePositionPatient=None, ImageOrientationPatient=None)
    series = stack(ZS)
    volume, reference = convert(write(tmp_path, [page, *series, series[2]]))
    assert volume.hu.shape == (36, 40, 7)
    assert reference.notes[:2] == (
        "1 of 8 instances set aside. They have no position.",
        "Received again and counted once: 1 instances.",
    )


def without(tag: str) -> Callable[[], list[Dataset]]:
    return lambda: stack(ZS, **{tag: None})


REFUSED: dict[str, tuple[Reason, Callable[[], list[Dataset]]]] = {
    "not a CT": (Reason.NOT_CT, lambda: stack(ZS, Modality="MR")),
    "a gap": (Reason.MISSING_SLICES, lambda: stack([*ZS, 60.0, 65.0, 70.0])),
    "two phases": (Reason.MIXED_SERIES, lambda: [*stack(ZS), *[image(head(), (-5.0, -6.0, z), 50 + n) for n, z in enumerate(ZS)]]),
    "no positions": (Reason.IRREGULAR_GEOMETRY, without("ImagePositionPatient")),
    "no spacing": (Reason.IRREGULAR_GEOMETRY, without("PixelSpacing")),
    "no pixels": (Reason.UNREADABLE, without("PixelData")),
    "too few": (Reason.TOO_FEW_SLICES, lambda: stack([0.0, 5.0])),
    "no air": (Reason.IMPLAUSIBLE_VALUES, lambda: stack(ZS, RescaleIntercept=500)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_volume_is_refused_with_the_same_reason(convert: Converter, tmp_path: Path, kind: str) -> None:
    reason, series = REFUSED[kind]
    assert refused(convert, write(tmp_path, series())).reason is reason


def test_nothing_and_rubbish_are_refused(convert: Converter, tmp_path: Path) -> None:
    assert refused(convert, []).reason is Reason.UNREADABLE
    (tmp_path / "rubbish").write_bytes(b"rubbish" * 100)
    assert refused(convert, [tmp_path / "rubbish"]).reason is Reason.UNREADABLE


def test_requirements_count(convert: Converter, tmp_path: Path) -> None:
    paths = write(tmp_path, stack(ZS))
    with pytest.raises(NotAnalysed) as caught:
        convert(paths, requirements=WHOLE_HEAD)
    assert caught.value.reason is Reason.TOO_LITTLE_COVERAGE


def test_a_real_series(convert: Converter, scanners: Path) -> None:
    assert convert(find_files(scanners / "Philips_phantom_5mm"))[0].hu.shape[2] == 28


# faults of dicom2nifti ------------------------------------------------------------------------------------------------------------


def test_what_it_does_not_resample_is_refused(scanners: Path, tmp_path: Path) -> None:
    tilted = find_files(scanners / "Philips_phantom_tilted")
    error = refused(CONVERTERS[OTHER], tilted)
    assert error.reason is Reason.IRREGULAR_GEOMETRY
    assert "dicom2nifti" in error.detail
    irregular = write(tmp_path, stack([0.0, 1.0, 2.0, 3.0, 5.5, 6.5, 7.5, 8.5]))
    assert refused(CONVERTERS[OTHER], irregular).reason is Reason.IRREGULAR_GEOMETRY


@pytest.mark.parametrize(
    ("fault", "reason", "said"),
    [
        (ConversionValidationError("TOO_FEW_SLICES/LOCALIZER"), Reason.TOO_FEW_SLICES, "TOO_FEW_SLICES/LOCALIZER"),
        (ConversionValidationError("SOMETHING_NEW"), Reason.IRREGULAR_GEOMETRY, "SOMETHING_NEW"),
        (ConversionError("Doe^Jane 1950"), Reason.IRREGULAR_GEOMETRY, "no code"),
        (AttributeError("'FileDataset' object has no attribute 'X'"), Reason.UNREADABLE, "AttributeError"),
        (IndexError("Doe^Jane"), Reason.UNREADABLE, "IndexError"),
        (NotImplementedError(), Reason.UNREADABLE, "NotImplementedError"),
    ],
)
def test_each_fault_is_a_reason_without_patient_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, reason: Reason, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(dicom2nifti.convert_dicom, "dicom_array_to_nifti", fail)
    error = refused(CONVERTERS[OTHER], write(tmp_path, stack(ZS)))
    assert error.reason is reason
    assert error.detail == f"dicom2nifti does not convert it ({said})."


@pytest.mark.parametrize("wrong", [np.diag([1.0, 1.0, 1.1, 1.0]), np.diag([1.0, -1.0, -1.0, 1.0])])
def test_a_volume_at_another_place_than_the_headers_say_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: np.ndarray
) -> None:
    real = dicom2nifti.convert_dicom.dicom_array_to_nifti

    def moved(*arguments: object, **more: object) -> dict[str, object]:
        made = real(*arguments, **more)
        made["NII"].set_sform(made["NII"].affine @ wrong)
        return made

    monkeypatch.setattr(dicom2nifti.convert_dicom, "dicom_array_to_nifti", moved)
    error = refused(CONVERTERS[OTHER], write(tmp_path, stack(ZS)))
    assert error.reason is Reason.IRREGULAR_GEOMETRY
    assert "does not lie where" in error.detail


# comparison -----------------------------------------------------------------------------------------------------------------------


def test_a_comparison_says_where_the_results_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanners: Path) -> None:
    paths = write(tmp_path, stack(ZS))
    (said,) = compare_converters(paths)
    assert said.startswith("The converters agree in every voxel")
    (said,) = compare_converters(find_files(scanners / "Philips_phantom_tilted"))
    assert said.startswith("Converter dicom2nifti refuses the series (irregular_geometry).")

    def brighter(paths: list[Path], **_: object) -> object:
        volume, reference = CONVERTERS[ConverterName.COREWATCH](paths)
        volume.hu[0, 0, 0] += 7
        return volume, reference

    monkeypatch.setitem(CONVERTERS, OTHER, brighter)
    (said,) = compare_converters(paths)
    assert "by at most 7 HU" in said


def test_the_settings_name_every_converter() -> None:
    assert SeriesSettings().converter == ConverterName.COREWATCH
    for name in CONVERTERS:
        assert SeriesSettings(converter=str(name)).converter == name
