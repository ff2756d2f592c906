"""DICOM files made to order: encodings, frames, functional groups, windows, tables, people."""

import warnings

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medlike.errors import ImageError
from medlike.imaging import Lut, Window, read, render

RAMP = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)


def one(path):
    (image,) = read(path)
    return image


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian],
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
def test_encodings(write_dicom, syntax, kind):
    pixels = (RAMP.astype(np.int64) % 256 - (100 if kind == np.int16 else 0)).astype(kind)
    stored = pixels.astype(">i2") if syntax == ExplicitVRBigEndian and kind == np.int16 else pixels
    if syntax == ExplicitVRBigEndian and kind == np.uint16:
        stored = pixels.astype(">u2")
    if syntax == ExplicitVRBigEndian and kind == np.uint8:
        # OW is swapped in pairs of bytes.
        stored = pixels.reshape(-1, 2)[:, ::-1].reshape(pixels.shape)
    image = one(write_dicom("a.dcm", stored.astype(stored.dtype), syntax=syntax))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == kind


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_without_preamble_and_without_meta(write_dicom, tmp_path, syntax):
    whole = write_dicom("a.dcm", RAMP, syntax=syntax).read_bytes()
    (tmp_path / "headless.dcm").write_bytes(whole[132:])
    np.testing.assert_array_equal(one(tmp_path / "headless.dcm").pixels, RAMP)
    meta_end = 132 + 12 + int.from_bytes(whole[140:144], "little")
    (tmp_path / "bare").write_bytes(whole[meta_end:])
    np.testing.assert_array_equal(one(tmp_path / "bare").pixels, RAMP)


def test_compressed_multi_frame(write_dicom, tmp_path):
    stack = np.stack([RAMP + 100 * k for k in range(5)])
    dataset = pydicom.dcmread(write_dicom("a.dcm", stack))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    for name in ("a.dcm", "rle.dcm"):
        images = list(read(tmp_path / name, frames="all"))
        assert [image.frame for image in images] == [0, 1, 2, 3, 4]
        assert {image.frames for image in images} == {5}
        np.testing.assert_array_equal(np.stack([image.pixels for image in images]), stack)
        assert [image.frame for image in read(tmp_path / name)] == [2]
        assert [image.frame for image in read(tmp_path / name, frames=2)] == [0, 2, 4]
        assert [image.frame for image in read(tmp_path / name, frames=7)] == [0]


@pytest.mark.parametrize("frames", ["first", 0, -1, 1.5, None, True])
def test_unknown_frame_setting(write_dicom, frames):
    with pytest.raises(ImageError, match="every n-th"):
        list(read(write_dicom("a.dcm", RAMP), frames=frames))


def item(**elements) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def test_functional_groups_give_each_frame_its_own_photometry(write_dicom):
    per_frame = [
        item(
            FrameVOILUTSequence=Sequence([item(WindowCenter=100 * k + 50, WindowWidth=200)]),
            PixelValueTransformationSequence=Sequence([item(RescaleSlope=k + 1, RescaleIntercept=-k)]),
        )
        for k in range(2)
    ] + [item()]
    shared = item(
        FrameVOILUTSequence=Sequence([item(WindowCenter=7, WindowWidth=9)]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.5, 0.25])]),
    )
    path = write_dicom(
        "a.dcm",
        np.stack([RAMP] * 3),
        PerFrameFunctionalGroupsSequence=Sequence(per_frame),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        RescaleSlope=5,
        RescaleIntercept=0,
    )
    first, second, third = read(path, frames="all")
    assert first.photometry.windows == (Window(50, 200),)
    assert second.photometry.windows == (Window(150, 200),)
    assert third.photometry.windows == (Window(7, 9),)
    assert (first.photometry.slope, second.photometry.slope, third.photometry.slope) == (1, 2, 5)
    assert second.photometry.intercept == -1
    assert third.spacing == (0.5, 0.25)
    assert not np.array_equal(render(first), render(second))


def test_windows_and_tables(write_dicom):
    path = write_dicom(
        "a.dcm",
        RAMP,
        WindowCenter=[40, 300],
        WindowWidth=[400, 1500],
        VOILUTFunction="SIGMOID",
        RescaleSlope="2",
        RescaleIntercept="-1024",
        PixelSpacing=["0.5", "0.7"],
        BitsStored=12,
        HighBit=11,
    )
    image = one(path)
    assert image.photometry.windows == (Window(40, 400, "SIGMOID"), Window(300, 1500, "SIGMOID"))
    assert (image.photometry.slope, image.photometry.intercept, image.photometry.bits) == (2, -1024, 12)
    assert image.spacing == (0.5, 0.7)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("representation", ["OW", "US"])
def test_voi_tables(write_dicom, syntax, representation):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 10, 12])
    entries = [0, 100, 2000, 4095]
    packed = np.array(entries, ">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    table.add_new("LUTData", representation, packed if representation == "OW" else entries)
    stored = RAMP.astype(">u2") if syntax == ExplicitVRBigEndian else RAMP
    image = one(
        write_dicom(
            "b.dcm", stored, syntax=syntax, VOILUTSequence=Sequence([table]), WindowCenter=1, WindowWidth=2
        )
    )
    assert image.photometry.voi_lut == Lut(10, (0, 100, 2000, 4095), 12)
    assert [int(v) for v in render(image).ravel()[9:15]] == [0, 0, 6, 125, 255, 255]


def test_modality_table_with_signed_first_value(write_dicom):
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [3, -1, 16])
    table.add_new("LUTData", "US", [10, 20, 60000])
    signed = RAMP.astype(np.int16) - 5
    image = one(write_dicom("a.dcm", signed, ModalityLUTSequence=Sequence([table])))
    assert image.photometry.modality_lut == Lut(-1, (10, 20, 60000), 16)
    np.testing.assert_array_equal(image.pixels, signed)


def test_damaged_photometry_is_left_out(write_dicom, tmp_path):
    path = write_dicom(
        "a.dcm", RAMP, WindowCenter="40", WindowWidth="400", RescaleSlope="2", RescaleIntercept="1"
    )
    raw = path.read_bytes().replace(b"400 ", b"4x0 ").replace(b"DS\x02\x002 ", b"DS\x02\x00z ")
    path.write_bytes(raw)
    image = one(path)
    assert image.photometry.windows == ()
    assert image.photometry.slope == 1
    np.testing.assert_array_equal(image.pixels, RAMP)


def test_palette_and_planar_colour(write_dicom):
    rgb = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    np.testing.assert_array_equal(one(write_dicom("a.dcm", rgb, colour=True)).pixels, rgb)
    planar = np.ascontiguousarray(rgb.transpose(2, 0, 1)).reshape(12, 10, 3)
    path = write_dicom("b.dcm", planar, colour=True, PlanarConfiguration=1)
    np.testing.assert_array_equal(one(path).pixels, rgb)
    index = np.arange(120, dtype=np.uint8).reshape(12, 10)
    tables = {}
    for colour, factor in (("Red", 1), ("Green", 2), ("Blue", 3)):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [120, 0, 8]
        entries = (np.arange(120) * factor % 256).astype(np.uint8)
        tables[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    image = one(write_dicom("c.dcm", index, PhotometricInterpretation="PALETTE COLOR", **tables))
    np.testing.assert_array_equal(
        image.pixels, np.stack([index, index * 2, (index.astype(int) * 3) % 256], axis=2)
    )


PERSON = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19500301",
    "StudyDate": "20200615",
    "StudyInstanceUID": "1.2.3.4",
    "SeriesInstanceUID": "1.2.3.4.5",
    "AccessionNumber": "ACC-99",
    "InstanceNumber": 12,
    "InstitutionName": "St. Elsewhere",
    "ReferringPhysicianName": "House^Gregory",
    "OperatorsName": "Op^Erator",
    "StationName": "ROOM7",
    "DeviceSerialNumber": "SN-123",
    "StudyDescription": "Chest of Jane Doe",
    "SeriesDescription": "for Doe",
    "ProtocolName": "Doe protocol",
    "ImageComments": "Doe again",
    "PatientComments": "Doe, Jane",
    "StudyID": "S-1",
}


def test_people_are_in_identifiers_only(write_dicom):
    image = one(write_dicom("a.dcm", RAMP, Modality="CT", **PERSON))
    who = image.identifiers
    assert who["patient_name"] == "Doe^Jane"
    assert who["patient_id"] == "MRN-4711"
    assert who["study_uid"] == "1.2.3.4"
    assert who["series_uid"] == "1.2.3.4.5"
    assert who["instance_number"] == "12"
    assert who["study_date"] == "20200615"
    assert pydicom.uid.UID(who["sop_uid"]).is_valid
    assert all(isinstance(value, str) for value in who.values())
    assert set(map(str, PERSON.values())) <= set(who.values())
    shown = repr(image.metadata) + repr(image.texts)
    for value in (
        "Doe",
        "Jane",
        "4711",
        "1950",
        "2020",
        "1.2.3",
        "ACC",
        "Elsewhere",
        "House",
        "ROOM7",
        "SN-",
    ):
        assert value not in shown
    assert image.metadata["region"] == "chest"
    assert image.metadata["age"] == 70.0


def test_metadata(write_dicom):
    image = one(
        write_dicom(
            "a.dcm",
            RAMP,
            Modality="DX",
            BodyPartExamined="LSSPINE",
            PatientSex="F",
            PatientAge="045Y",
            Manufacturer="ACME  Imaging",
            ManufacturerModelName="X 9",
            ViewPosition="AP",
            ImageLaterality="L",
            KVP="120",
            SliceThickness="2.5",
        )
    )
    assert image.metadata == {
        "modality": "XR",
        "dicom_modality": "DX",
        "body_part": "LSSPINE",
        "region": "spine",
        "sex": "F",
        "age": 45.0,
        "manufacturer": "ACME Imaging",
        "model": "X 9",
        "view": "AP",
        "laterality": "L",
        "kvp": 120.0,
        "slice_thickness": 2.5,
        "rows": 48,
        "columns": 40,
    }


def test_free_text_in_coded_elements_is_dropped(write_dicom):
    free = {"BodyPartExamined": "Jane's chest, dr. House", "ViewPosition": "ask Jane!"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write_dicom("a.dcm", RAMP, Modality="CT", **free)
    image = one(path)
    assert set(image.metadata) == {"modality", "region", "rows", "columns"}
    assert image.metadata["region"] == "chest"


def test_other_character_sets(write_dicom):
    image = one(write_dicom("a.dcm", RAMP, SpecificCharacterSet="ISO_IR 192", PatientName="山田^太郎"))
    assert image.identifiers["patient_name"] == "山田^太郎"


def test_ultrasound_spacing_is_millimetres(write_dicom):
    region = item(
        PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.02, PhysicalDeltaY=-0.03
    )
    image = one(write_dicom("a.dcm", RAMP, SequenceOfUltrasoundRegions=Sequence([region])))
    assert image.spacing == pytest.approx((0.3, 0.2))


def test_nothing_known_is_nothing_said(write_dicom):
    image = one(write_dicom("a.dcm", RAMP))
    assert image.metadata == {"rows": 48, "columns": 40}
    assert set(image.identifiers) == {"sop_uid", "sop_class_uid"}
    assert image.spacing is None
    assert image.boxes is None
    assert image.texts == {}
