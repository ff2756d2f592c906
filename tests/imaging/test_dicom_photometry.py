"""Photometry that files state wrongly: mended where it can only mean one thing, else left out whole, with a remark."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medlike.imaging import Lut, Window, read, render

#: Stored values 0 .. 4095, every one at least once.
RAMP = (np.arange(64 * 72) % 4096).astype(np.uint16).reshape(64, 72)
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
CT = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": "1", "RescaleIntercept": "-1024"}
WINDOW = {"WindowCenter": "40", "WindowWidth": "400"}


def one(path):
    (image,) = read(path)
    return image


def item(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def spread(values, low, high):
    return np.floor(np.clip((values - low) * 255.0 / (high - low), 0, 255) + 0.5).astype(np.uint8)


def ordered(pixels, syntax):
    return pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == ExplicitVRBigEndian else pixels


def table(entries, descriptor, representation="OW", syntax=ExplicitVRLittleEndian, first_representation="US"):
    """An item of a LUT sequence; entries: uint8 or uint16, uint8 packed two in a word."""
    dataset = Dataset()
    dataset.add_new("LUTDescriptor", first_representation, descriptor)
    stream = np.asarray(entries).tobytes()
    words = np.frombuffer(stream + b"\0" * (len(stream) % 2), "<u2")
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    data = {"OW": words.astype(order).tobytes(), "US": words.tolist(), "OB": stream}[representation]
    dataset.add_new("LUTData", representation, data)
    return dataset


def test_12_bit_table_that_is_called_16(write_dicom):
    curve = np.minimum(np.arange(4096) * 2, 4095).astype(np.uint16)
    path = write_dicom("a.dcm", RAMP, BitsStored=12, HighBit=11, VOILUTSequence=Sequence([table(curve, [4096, 0, 16])]))
    image = one(path)
    np.testing.assert_array_equal(render(image), spread(curve[RAMP], 0, 4095))
    assert image.remarks == ("the look-up table says 16 bits, its entries have 12",)


@pytest.mark.parametrize(
    ("top", "said", "bits"),
    [(255, 16, 8), (1023, 12, 10), (1023, 8, 10), (4095, 0, 12), (30000, 16, 16), (2047, 12, 12), (200, 8, 8)],
)
def test_output_range_of_a_table(write_dicom, top, said, bits):
    """A table that is merely dim keeps its range: only the lowest quarter, or more than all, tells another depth."""
    entries = np.linspace(0, top, 4096).astype(np.uint16)
    sequence = Sequence([table(entries, [4096, 0, said])])
    image = one(write_dicom("a.dcm", RAMP, BitsStored=12, HighBit=11, VOILUTSequence=sequence))
    assert image.photometry.voi_lut.bits == bits
    assert bool(image.remarks) == (said != bits)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("representation", ["OW", "US"])
@pytest.mark.parametrize("count", [256, 255])
@pytest.mark.parametrize("said", [8, 16])
def test_8_bit_entries_packed_in_words(write_dicom, syntax, representation, count, said):
    curve = (255 - np.arange(count)).astype(np.uint8)
    stored = (RAMP % count).astype(np.uint16)
    sequence = Sequence([table(curve, [count, 0, said], representation, syntax)])
    path = write_dicom("a.dcm", ordered(stored, syntax), syntax=syntax, VOILUTSequence=sequence)
    np.testing.assert_array_equal(render(one(path)), curve[stored])


def test_8_bit_entries_as_bytes(write_dicom):
    curve = (255 - np.arange(256)).astype(np.uint8)
    stored = (RAMP % 256).astype(np.uint16)
    path = write_dicom("a.dcm", stored, VOILUTSequence=Sequence([table(curve, [256, 0, 8], "OB")]))
    np.testing.assert_array_equal(render(one(path)), curve[stored])


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("representation", ["OW", "US"])
def test_first_mapped_value_is_signed_where_the_rescaled_values_are(write_dicom, syntax, representation):
    curve = np.minimum(np.arange(4096) * 2, 4095).astype(np.uint16)
    sequence = Sequence([table(curve, [4096, 65536 - 1024, 12], representation, syntax)])
    path = write_dicom("a.dcm", ordered(RAMP, syntax), syntax=syntax, VOILUTSequence=sequence, **CT)
    image = one(path)
    assert image.photometry.voi_lut.first == -1024
    np.testing.assert_array_equal(render(image), spread(curve[RAMP], 0, 4095))


def test_first_mapped_value_is_unsigned_where_the_rescaled_values_are(write_dicom):
    """Signed pixels that the intercept lifts above 0: a first value of 40000 is no -25536."""
    stored = (RAMP.astype(np.int32) * 16 - 32768).astype(np.int16)
    curve = np.arange(4096, dtype=np.uint16)
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        sequence = Sequence([table(curve, [4096, 40000, 12])])
        path = write_dicom(
            "a.dcm", stored, syntax=syntax, VOILUTSequence=sequence, RescaleSlope="1", RescaleIntercept="32768"
        )
        image = one(path)
        assert image.photometry.voi_lut.first == 40000
        np.testing.assert_array_equal(
            render(image), spread(np.clip(stored.astype(int) + 32768 - 40000, 0, 4095), 0, 4095)
        )


def test_table_after_a_modality_table_has_an_unsigned_first_value(write_dicom):
    stored = RAMP.astype(np.int16) - 2048
    modality = table((np.arange(4096) + 40000).astype(np.uint16), [4096, -2048, 16], first_representation="SS")
    voi = table(np.arange(4096, dtype=np.uint16), [4096, 40000, 12])
    path = write_dicom(
        "a.dcm", stored, ModalityLUTSequence=Sequence([modality]), VOILUTSequence=Sequence([voi])
    )
    image = one(path)
    assert (image.photometry.modality_lut.first, image.photometry.voi_lut.first) == (-2048, 40000)
    np.testing.assert_array_equal(render(image), spread(RAMP, 0, 4095))


@pytest.mark.parametrize("representation", ["OW", "US"])
@pytest.mark.parametrize("entries", [4095, 4097])
def test_one_entry_too_few_and_too_many(write_dicom, representation, entries):
    curve = np.minimum(np.arange(entries) * 2, 4095).astype(np.uint16)
    sequence = Sequence([table(curve, [4096, 0, 12], representation)])
    image = one(write_dicom("a.dcm", RAMP, BitsStored=12, HighBit=11, VOILUTSequence=sequence, **WINDOW))
    np.testing.assert_array_equal(render(image), spread(np.minimum(RAMP * 2, 4095), 0, 4095))
    assert image.remarks == (f"the look-up table says 4096 entries and has {entries}",)


def test_table_of_65536_entries_says_0(write_dicom):
    curve = np.arange(65536, dtype=np.uint16)[::-1]
    stored = (RAMP.astype(np.uint32) * 15).astype(np.uint16)
    image = one(write_dicom("a.dcm", stored, VOILUTSequence=Sequence([table(curve, [0, 0, 16])])))
    assert len(image.photometry.voi_lut.entries) == 65536
    np.testing.assert_array_equal(render(image), spread(65535 - stored.astype(int), 0, 65535))


def test_first_table_that_can_be_read_is_used_and_a_window_where_none_can(write_dicom):
    broken = table(np.arange(100, dtype=np.uint16), [4096, 0, 12])
    whole = table(np.arange(4096, dtype=np.uint16)[::-1], [4096, 0, 12])
    empty = Dataset()
    stored = {"BitsStored": 12, "HighBit": 11, **WINDOW}
    image = one(write_dicom("a.dcm", RAMP, VOILUTSequence=Sequence([empty, broken, whole]), **stored))
    np.testing.assert_array_equal(render(image), spread(4095 - RAMP.astype(int), 0, 4095))
    assert len(image.remarks) == 2
    image = one(write_dicom("b.dcm", RAMP, VOILUTSequence=Sequence([broken]), **stored))
    assert image.photometry.voi_lut is None
    np.testing.assert_array_equal(render(image), render(one(write_dicom("c.dcm", RAMP, **stored))))
    assert "says 4096 entries and has 100" in image.remarks[0]


def test_tables_in_functional_groups(write_dicom):
    curves = [np.arange(4096, dtype=np.uint16), np.arange(4096, dtype=np.uint16)[::-1]]
    groups = [
        item(
            PixelValueTransformationSequence=Sequence([item(RescaleSlope="1", RescaleIntercept="-1024")]),
            FrameVOILUTSequence=Sequence([item(VOILUTSequence=Sequence([table(curve, [4096, 64512, 16])]))]),
        )
        for curve in curves
    ]
    path = write_dicom(
        "a.dcm", np.stack([RAMP, RAMP]), BitsStored=12, HighBit=11, PerFrameFunctionalGroupsSequence=Sequence(groups)
    )
    for image, curve in zip(read(path, frames="all"), curves, strict=True):
        assert image.photometry.voi_lut.first == -1024
        np.testing.assert_array_equal(render(image), spread(curve[RAMP], 0, 4095))


def broken(write_dicom, name, elements, **texts):
    """A file whose decimal strings are replaced, at their length, after it was written."""
    path = write_dicom(name, RAMP, **elements)
    raw = path.read_bytes()
    for before, after in texts.items():
        assert raw.count(before.encode()) == 1
        raw = raw.replace(before.encode(), after.encode())
    path.write_bytes(raw)
    return path


PLAIN = {
    "BitsStored": 12,
    "HighBit": 11,
    "RescaleSlope": "1111111.50",
    "RescaleIntercept": "2222222.50",
    "WindowCenter": "3333333.50",
    "WindowWidth": "4444444.50",
}
SLOPE, INTERCEPT, CENTER, WIDTH = "1111111.50", "2222222.50", "3333333.50", "4444444.50"


def test_an_underscore_makes_no_number(write_dicom):
    """Python reads "1_000" as 1000; a decimal string knows no such separator."""
    path = broken(write_dicom, "a.dcm", PLAIN, **{SLOPE: "2         ", INTERCEPT: "-1_024    "})
    image = one(path)
    assert (image.photometry.slope, image.photometry.intercept, image.photometry.windows) == (1.0, 0.0, ())
    assert "RescaleIntercept '-1_024'" in image.remarks[0]


def test_decimal_commas_are_read_with_a_remark(write_dicom):
    path = broken(
        write_dicom,
        "a.dcm",
        PLAIN,
        **{SLOPE: "2,0       ", INTERCEPT: "-1024,000 ", CENTER: "40,5      ", WIDTH: "4,005e2   "},
    )
    image = one(path)
    # "4,005e2" may be 400.5 or 400500: the window is left out rather than guessed.
    assert (image.photometry.slope, image.photometry.intercept, image.photometry.windows) == (2.0, -1024.0, ())
    path = broken(
        write_dicom,
        "b.dcm",
        PLAIN,
        **{SLOPE: "2,0       ", INTERCEPT: "-1024,000 ", CENTER: "40,5      ", WIDTH: "0,400e3   "},
    )
    image = one(path)
    assert image.photometry.windows == (Window(40.5, 400.0),)
    expected = one(
        write_dicom(
            "c.dcm",
            RAMP,
            BitsStored=12,
            HighBit=11,
            RescaleSlope="2",
            RescaleIntercept="-1024",
            WindowCenter="40.5",
            WindowWidth="400",
        )
    )
    np.testing.assert_array_equal(render(image), render(expected))
    assert len(image.remarks) == 4 and "RescaleSlope '2,0' is read as 2" in image.remarks[0]
    assert expected.remarks == ()


@pytest.mark.parametrize(
    "texts",
    [
        {SLOPE: "x         "},
        {INTERCEPT: "x         "},
        {INTERCEPT: "-1,024    "},
        {SLOPE: "          "},
        {INTERCEPT: "          "},
        {SLOPE: "0         "},
        {SLOPE: "nan       "},
        {INTERCEPT: "1e999     "},
        {SLOPE: "5e307     "},
        {SLOPE: "1e-300    "},
        {SLOPE: "1\\x       "[:10], INTERCEPT: "x\\1       "[:10]},
    ],
)
def test_half_of_a_rescale_is_not_applied_nor_the_windows_in_its_units(write_dicom, texts):
    image = one(broken(write_dicom, "a.dcm", PLAIN, **texts))
    assert (image.photometry.slope, image.photometry.intercept, image.photometry.windows) == (1.0, 0.0, ())
    own = one(write_dicom("b.dcm", RAMP, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(render(image), render(own))
    assert "shown by its own values" in image.remarks[-1]


def test_an_absent_half_that_changes_nothing_leaves_the_window(write_dicom):
    for elements in ({"RescaleSlope": "1"}, {"RescaleIntercept": "0"}, {}):
        image = one(write_dicom("a.dcm", RAMP, BitsStored=12, HighBit=11, **elements, **WINDOW))
        assert image.photometry.windows == (Window(40, 400),) and image.remarks == ()


def test_half_of_a_frames_rule_is_not_applied(write_dicom):
    groups = [
        item(
            PixelValueTransformationSequence=Sequence([item(RescaleSlope="2", RescaleIntercept=intercept)]),
            FrameVOILUTSequence=Sequence([item(WindowCenter="40", WindowWidth="400")]),
        )
        for intercept in ("-1024", "-512.2222")
    ]
    path = write_dicom(
        "a.dcm", np.stack([RAMP, RAMP]), BitsStored=12, HighBit=11, PerFrameFunctionalGroupsSequence=Sequence(groups)
    )
    path.write_bytes(path.read_bytes().replace(b"-512.2222", b"-5,12,222"))
    whole, half = read(path, frames="all")
    assert (whole.photometry.slope, whole.photometry.intercept, whole.remarks) == (2.0, -1024.0, ())
    assert (half.photometry.slope, half.photometry.intercept, half.photometry.windows) == (1.0, 0.0, ())
    assert "RescaleIntercept '-5,12,222' is no number" in half.remarks[0]


def test_unreadable_modality_table_takes_the_window_with_it(write_dicom):
    sequence = Sequence([table(np.arange(9, dtype=np.uint16), [4096, 0, 16])])
    image = one(write_dicom("a.dcm", RAMP, BitsStored=12, HighBit=11, ModalityLUTSequence=sequence, **WINDOW))
    assert image.photometry.modality_lut is None and image.photometry.windows == ()
    assert "the modality look-up table cannot be read (the table says 4096 entries and has 9)" in image.remarks[0]


def test_windows_are_paired_by_position(write_dicom):
    path = broken(
        write_dicom,
        "a.dcm",
        {**PLAIN, "RescaleSlope": "1", "RescaleIntercept": "-1024", "WindowWidth": "2000\\400\\1500"},
        **{CENTER: "\\40\\500   "},
    )
    image = one(path)
    assert image.photometry.windows == (Window(40, 400), Window(500, 1500))
    assert "1 window(s) left out" in image.remarks[0]
    np.testing.assert_array_equal(render(image), render(one(write_dicom("b.dcm", RAMP, **CT, **WINDOW))))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("ends", [(-2000, -2039), (-2039, -2000), (-2000, None)])
@pytest.mark.parametrize("kind", ["SS", "US"])
def test_padding_is_black_and_in_no_contrast(write_dicom, syntax, ends, kind):
    """Many values of padding, which is why leaving out the lowest one does not do."""
    inner = RAMP.astype(np.int16) % 400 + 800
    stored = inner.copy()
    noise = np.arange(20 * 72).reshape(20, 72) % (40 if ends[1] else 1)
    stored[:20] = (-2039 if ends[1] else -2000) + noise
    written = ordered(stored, syntax)
    elements = {"PixelPaddingValue": ends[0]} | ({"PixelPaddingRangeLimit": ends[1]} if ends[1] else {})
    path = write_dicom("a.dcm", written, syntax=syntax, RescaleSlope="1", RescaleIntercept="0", **elements)
    if kind == "US":
        path.write_bytes(path.read_bytes().replace(b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01US"))
    image = one(path)
    assert image.photometry.padding == (min(filter(None, ends)), max(filter(None, ends)))
    shown = render(image)
    assert not shown[:20].any()
    without = one(write_dicom("b.dcm", ordered(inner[20:], syntax), syntax=syntax))
    np.testing.assert_array_equal(shown[20:], render(without))


def test_padding_takes_part_in_no_window_and_is_black_in_inverted_pictures(write_dicom):
    stored = RAMP.copy()
    stored[:20] = 4095
    elements = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    image = one(write_dicom("a.dcm", np.minimum(stored, 4095), PixelPaddingValue=4095, **elements, **WINDOW))
    assert not render(image)[:20].any()
    # Nothing but padding lies in the first window; the second one shows the picture.
    high = one(
        write_dicom(
            "b.dcm",
            np.where(stored == 4095, 4095, stored % 1000).astype(np.uint16),
            PixelPaddingValue=4095,
            WindowCenter=["4000", "500"],
            WindowWidth=["200", "1000"],
        )
    )
    assert render(high)[20:].std() > 50


def test_padding_that_covers_every_pixel_is_no_padding(write_dicom):
    image = one(write_dicom("a.dcm", RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=65535))
    np.testing.assert_array_equal(render(image), render(one(write_dicom("b.dcm", RAMP))))


def test_padding_without_sign_bits_above_those_stored(write_dicom):
    stored = (RAMP.astype(np.int16) - 2048).clip(-2000, 2000)
    stored[:20] = -2048
    image = one(write_dicom("a.dcm", stored, BitsStored=12, HighBit=11, PixelPaddingValue=2048))
    assert image.photometry.padding == (-2048, -2048)
    assert not render(image)[:20].any()


@pytest.mark.parametrize(("keyword", "kind"), [("Float", np.float32), ("DoubleFloat", np.float64)])
def test_padding_of_floats(write_dicom, keyword, kind):
    stored = np.linspace(5, 6, 64 * 72).reshape(64, 72).astype(kind)
    stored[:20] = np.linspace(-9, -8, 20 * 72).reshape(20, 72)
    elements = {f"{keyword}PixelPaddingValue": -9.0, f"{keyword}PixelPaddingRangeLimit": -8.0}
    elements |= {f"{keyword}PixelData": stored.tobytes(), "PixelData": None}
    shown = render(one(write_dicom("a.dcm", stored, **elements)))
    assert not shown[:20].any() and shown[20:].std() > 50


def test_unknown_voi_function_is_linear_with_a_remark(write_dicom):
    image = one(write_dicom("a.dcm", RAMP, VOILUTFunction="CURVE", **WINDOW))
    assert image.photometry.windows == (Window(40, 400, "LINEAR"),)
    assert image.remarks == ("VOILUTFunction 'CURVE' is unknown: LINEAR is used",)


@pytest.mark.parametrize(
    ("interpretation", "shape", "inverted", "remarks"),
    [
        ("MONOCHROME1", None, True, 0),
        ("MONOCHROME1", "INVERSE", True, 0),
        ("MONOCHROME1", "IDENTITY", False, 1),
        ("MONOCHROME2", None, False, 0),
        ("MONOCHROME2", "IDENTITY", False, 0),
        ("MONOCHROME2", "INVERSE", True, 1),
        ("MONOCHROME2", "OTHER", False, 0),
    ],
)
def test_presentation_shape_decides_which_end_is_white(write_dicom, interpretation, shape, inverted, remarks):
    elements = {"PhotometricInterpretation": interpretation} | ({"PresentationLUTShape": shape} if shape else {})
    image = one(write_dicom("a.dcm", RAMP, **WINDOW, **elements))
    assert image.photometry.inverted == inverted and len(image.remarks) == remarks


@pytest.mark.parametrize("kind", ["12.1", "12.2", "7"])
def test_angiography_shows_its_stored_values(write_dicom, kind):
    """The rescale of XA and XRF leads back to the intensity of the beam: DCMTK leaves it out as well."""
    modality = table(np.arange(4096, dtype=np.uint16)[::-1], [4096, 0, 16])
    image = one(
        write_dicom(
            "a.dcm",
            RAMP,
            SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}",
            ModalityLUTSequence=Sequence([modality]),
            **{**CT, **WINDOW, "WindowCenter": "2048"},
        )
    )
    assert (image.photometry.modality_lut is None) == (kind != "7")
    assert (image.photometry.slope, image.photometry.intercept) == (1.0, 0.0)


def test_age_from_dates_with_points(write_dicom):
    born, seen = "1935.04.01", "1969.05.02"
    path = write_dicom("a.dcm", RAMP, PatientBirthDate="19990401", StudyDate="19990502")
    raw = path.read_bytes()
    for plain, pointed in (("19990401", born), ("19990502", seen)):
        raw = raw.replace(b"DA\x08\x00" + plain.encode(), b"DA\x0a\x00" + pointed.encode())
    path.write_bytes(raw)
    assert one(path).metadata["age"] == 34.0


def test_lut_is_whole_without_remark(write_dicom):
    sequence = Sequence([table(np.array([0, 100, 2000, 4095], np.uint16), [4, 10, 12])])
    image = one(write_dicom("a.dcm", RAMP, VOILUTSequence=sequence))
    assert image.photometry.voi_lut == Lut(10, (0, 100, 2000, 4095), 12) and image.remarks == ()
