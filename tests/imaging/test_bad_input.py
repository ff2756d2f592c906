"""Whatever a file holds, the answer is an image or an ImageError with a reason; never more, never noise."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image as PillowImage
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from medlike.errors import ImageError
from medlike.imaging import MAX_PIXELS, discover, load, prepare, read
from medlike.imaging.codestream import read_codestream

GREY = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def refusal(path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            list(read(path, frames="all"))
    reason = str(caught.value)
    assert reason.strip() and "\n" not in reason and "Traceback" not in reason
    assert caught.value.__cause__ is None
    return reason


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 65}, "are needed; it is truncated"),
        ({"Rows": 640}, "are needed; it is truncated"),
        ({"Rows": 20}, "the pixel data has 6144 bytes"),
        ({"Columns": 1}, "the pixel data has 6144 bytes"),
        ({"NumberOfFrames": 2}, "are needed; it is truncated"),
        ({"NumberOfFrames": 2_000_000_000}, "are needed; it is truncated"),
        ({"NumberOfFrames": -4}, "-4 frames"),
        ({"Rows": 0}, "no pixels"),
        ({"Columns": 0}, "no pixels"),
        ({"Rows": None}, "no Rows"),
        ({"Columns": None}, "no Columns"),
        ({"Rows": 20000, "Columns": 20000}, "400 million pixels; the limit is 100 million"),
        ({"Rows": 65535, "Columns": 65535}, "the limit is 100 million"),
        ({"BitsAllocated": 12}, "12"),
        ({"BitsAllocated": 32}, "are needed; it is truncated"),
        ({"BitsAllocated": None}, "no BitsAllocated"),
        ({"SamplesPerPixel": 4}, "4 samples"),
        ({"SamplesPerPixel": 3}, "no PlanarConfiguration"),
        ({"PixelRepresentation": 7}, "7 PixelRepresentation"),
        ({"PixelRepresentation": None}, "no PixelRepresentation"),
        ({"PhotometricInterpretation": None}, "no PhotometricInterpretation"),
        ({"PhotometricInterpretation": "RGB"}, "RGB of 1 sample"),
        ({"BitsStored": 17}, "17 bits stored of 16"),
        ({"BitsStored": 12, "HighBit": 16}, "HighBit 16 of 16"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "Palette"),
        ({"PixelData": None}, "no pixel data (Secondary Capture Image Storage)"),
        ({"PixelData": b""}, "the pixel data is empty"),
    ],
)
def test_lying_headers(write_dicom, elements, reason):
    assert reason.lower() in refusal(write_dicom("a.dcm", GREY, **elements)).lower()


def test_big_pictures_are_refused_before_decoding(write_dicom):
    """Decoding would need 800 MB here, whatever the file's own size."""
    import tracemalloc

    path = write_dicom("a.dcm", GREY, Rows=20000, Columns=20000)
    refusal(path)
    tracemalloc.start()
    refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def jpeg(height: int, width: int) -> bytes:
    out = io.BytesIO()
    PillowImage.fromarray(np.zeros((height, width), np.uint8)).save(out, "JPEG")
    return out.getvalue()


def jpeg_2000(height: int, width: int) -> bytes:
    out = io.BytesIO()
    PillowImage.fromarray(np.zeros((height, width), np.uint8)).save(out, "JPEG2000", no_jp2=True)
    return out.getvalue()


def test_sizes_of_codestreams():
    def size(data: bytes) -> tuple[int, int]:
        codestream = read_codestream(data)
        return codestream.height, codestream.width

    assert size(jpeg(30, 50)) == (30, 50)
    assert size(jpeg_2000(30, 50)) == (30, 50)
    frame = b"\xff\xd8\xff\xf7\x00\x0b\x08" + struct.pack(">HH", 7, 9) + b"\x01\x01\x11\x00"
    assert size(frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\xff\xd9") == (7, 9)
    for damaged in (frame, b"\x00\x01", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\xff\xff", b"\xff\xd8" + b"\xff" * 40):
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            read_codestream(damaged)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (JPEGBaseline8Bit, jpeg(48, 64)),
        (
            JPEGBaseline8Bit,
            jpeg(64, 48).replace(struct.pack(">HH", 64, 48), struct.pack(">HH", 65000, 65000)),
        ),
        (JPEG2000Lossless, jpeg_2000(64, 40)),
        (
            JPEG2000Lossless,
            jpeg_2000(64, 48).replace(struct.pack(">II", 48, 64), struct.pack(">II", 10**6, 10**6)),
        ),
        (
            JPEGLSLossless,
            b"\xff\xd8\xff\xf7\x00\x0b\x08"
            + struct.pack(">HH", 60000, 9)
            + b"\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\xff\xd9",
        ),
    ],
    ids=["jpeg", "jpeg bomb", "jpeg 2000", "jpeg 2000 bomb", "jpeg-ls bomb"],
)
def test_compressed_frames_that_disagree_with_the_header(write_dicom, syntax, frame):
    path = write_dicom("a.dcm", GREY.astype(np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert "the compressed frame is" in refusal(path) or "limit" in refusal(path)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize(
    "frame",
    [b"\0\0", b"\x00" * 64, b"\xff\xd8\xff\xff", np.random.default_rng(5).bytes(500)],
    ids=["short", "zeros", "start", "noise"],
)
def test_compressed_rubbish(write_dicom, syntax, frame, capfd):
    path = write_dicom("a.dcm", GREY.astype(np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert refusal(path)
    assert capfd.readouterr() == ("", "")


def test_video_is_refused_by_name(write_dicom):
    path = write_dicom("a.dcm", GREY)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.PixelData = encapsulate([b"\0" * 64])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert "MPEG-4" in refusal(path) and "video" in refusal(path)


def test_deflated_bomb(write_dicom, monkeypatch):
    import medlike.imaging.dicom_open as reader

    path = write_dicom("a.dcm", np.zeros((4000, 3000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 100_000
    assert len(list(read(path))) == 1
    monkeypatch.setattr(reader, "MAX_INFLATED_BYTES", 1 << 20)
    assert "unpacks" in refusal(path)


def test_documents_and_reports(write_dicom):
    assert "Encapsulated PDF" in refusal(
        write_dicom(
            "a.dcm",
            GREY,
            PixelData=None,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1",
            EncapsulatedDocument=b"%PDF",
        )
    )
    assert "Basic Text SR" in refusal(
        write_dicom("b.dcm", GREY, PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.dcm", b"", "empty"),
        ("a.dcm", b"These are words.\n" * 40, "a text file"),
        ("a.png", b"words", "a text file"),
        ("a.txt", "日本語のメモ".encode(), "text|neither"),
        ("a.pdf", b"%PDF-1.7\n\x00", "PDF"),
        ("a.zip", b"PK\x03\x04\x00", "ZIP"),
        ("a.nii.gz", b"\x1f\x8b\x08\x00", "gzip"),
        ("a.nii", b"\x5c\x01\x00\x00" + b"\0" * 400, "NIfTI"),
        ("a.bin", bytes(range(256)), "neither DICOM"),
        ("a.bin", b"\0" * 1000, "neither DICOM"),
        ("a.dcm", b"\0" * 128 + b"DICM", "no DICOM element|no pixel data"),
        ("a.dcm", b"\0" * 128 + b"DICM" + b"\xff" * 300, "DICOM|pixel"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "look like a picture"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "decoded|look like"),
        ("a.tif", b"II*\0\x08\0\0\0", "no pages"),
        ("a.tif", b"II*\0\xff\xff\xff\xff", "no pages"),
        ("a.bmp", b"BM" + b"\0" * 60, "decoded|look like"),
        ("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "decoded|look like"),
        ("a.gif", b"GIF89a\0\0\0\0\0\0\0", "decoded|look like|no pixels"),
        ("a.pgm", b"P5\n0 0\n255\n", "decoded|look like|no pixels"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, reason):
    import re

    (tmp_path / name).write_bytes(content)
    assert re.search(reason, refusal(tmp_path / name), re.IGNORECASE)


def png(height: int, width: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("height", "width"), [(20000, 20000), (10001, 10000), (1, MAX_PIXELS + 1), (2**31 - 1, 2**31 - 1)]
)
def test_decompression_bombs(tmp_path, height, width):
    (tmp_path / "a.png").write_bytes(png(height, width, zlib.compress(b"\0" * 100_000)))
    assert "limit" in refusal(tmp_path / "a.png")


def test_tiff_bombs(tmp_path):
    whole = tmp_path / "a.tif"
    for kind in (np.uint8, np.float64):
        tifffile.imwrite(whole, np.zeros((64, 48), kind))
        with tifffile.TiffFile(whole, mode="r+b") as file:
            file.pages[0].tags["ImageWidth"].overwrite(60000)
            file.pages[0].tags["ImageLength"].overwrite(60000)
        assert "limit" in refusal(whole)


def test_an_empty_png_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0, 0, zlib.compress(b"")))
    assert refusal(tmp_path / "a.png")


def test_one_pixel_is_a_picture(write_dicom, tmp_path):
    PillowImage.fromarray(np.array([[7]], np.uint8)).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", write_dicom("a.dcm", np.array([[7]], np.uint8))):
        (image,) = read(path)
        assert image.pixels.tolist() == [[7]]
        prepared = prepare(image)
        assert prepared.pixels.shape == (224, 224) and (prepared.pixels == 7).all()
        assert prepared.letterbox.cells((0, 0, 1, 1)) == (0, 0, 14, 14)


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 9000)])
def test_lines_are_pictures(tmp_path, shape):
    PillowImage.fromarray(np.full(shape, 9, np.uint8)).save(tmp_path / "a.png")
    (image,) = read(tmp_path / "a.png")
    prepared = prepare(image)
    assert prepared.pixels.any() and prepared.letterbox.valid_cells().any()


def test_float_dicom_with_nan(write_dicom):
    values = np.linspace(-3, 9, 64 * 48, dtype=np.float32).reshape(64, 48)
    values[5, 5], values[6, 6] = np.nan, np.inf
    path = write_dicom("a.dcm", GREY, PixelData=None, BitsAllocated=32)
    dataset = pydicom.dcmread(path)
    dataset.FloatPixelData = values.tobytes()
    dataset.save_as(path)
    (image,) = read(path)
    np.testing.assert_array_equal(image.pixels, values)
    assert prepare(image).pixels.max() > 200
    dataset.FloatPixelData = np.full((64, 48), np.nan, np.float32).tobytes()
    dataset.save_as(path)
    with pytest.raises(ImageError, match="NaN"):
        prepare(next(read(path)))


def test_paths(tmp_path):
    assert refusal(tmp_path / "none.png") == "there is no such file"
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    assert "link" in refusal(tmp_path / "link.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert refusal(tmp_path / "loop.png")
    assert "folder" in refusal(tmp_path)
    assert refusal(tmp_path / ("x" * 5000))
    assert refusal(str(tmp_path / "a\0b"))
    assert "regular" in refusal("/dev/null")


@pytest.mark.parametrize(
    "name", ["写真.png", "снимок №1.png", "صورة.png", "a b\tc'\".png", "🩻.png", "-n.png"]
)
def test_names_in_other_scripts(tmp_path, name):
    PillowImage.fromarray(np.ones((3, 3), np.uint8)).save(tmp_path / name)
    (source,) = discover([tmp_path])
    (image,) = load(source)
    assert Path(image.path).name == name


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_no_permission(tmp_path):
    for name in ("file.png", "fine.png"):
        PillowImage.fromarray(np.ones((3, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "shut").mkdir()
    list(read(tmp_path / "fine.png"))
    for closed in ("file.png", "shut"):
        (tmp_path / closed).chmod(0)
    root = os.geteuid() == 0
    folders = [tmp_path, *[p for p in tmp_path.parents if str(p).startswith("/tmp/")]]
    modes = [(folder, folder.stat().st_mode) for folder in folders]
    try:
        if root:
            # Permissions do not bind root: read as nobody, through folders that let nobody pass.
            for folder in folders:
                folder.chmod(0o755)
            os.seteuid(65534)
        assert refusal(tmp_path / "file.png") == "no permission to read it"
        outcome = {}
        for source in discover([tmp_path]):
            try:
                outcome[Path(source.path).name] = len(list(load(source)))
            except ImageError as error:
                outcome[Path(source.path).name] = str(error)
        assert outcome == {
            "file.png": "no permission to read it",
            "fine.png": 1,
            "shut": "no permission to read it",
        }
    finally:
        if root:
            os.seteuid(0)
        for folder, mode in modes:
            folder.chmod(mode)
        (tmp_path / "shut").chmod(0o755)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_truncated_compressed_file(write_dicom, share):
    path = write_dicom("a.dcm", np.random.default_rng(1).integers(0, 255, (9, 64, 48)).astype(np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "truncated" in refusal(path)


def test_frames_before_the_damage_are_given(write_dicom):
    path = write_dicom("a.dcm", np.stack([GREY] * 4))
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=4))
    dataset.PixelData = encapsulate([frames[0], frames[1], b"\0" * 64, frames[3]])
    dataset.save_as(path)
    given = []
    with pytest.raises(ImageError, match="frame 2"):
        for image in read(path, frames="all"):
            given.append(image.frame)
    assert given == [0, 1]


def test_a_reason_names_no_file(tmp_path):
    """Reasons stand in reports that are passed on; who may see the path sees it beside them."""
    from medlike.imaging.silence import reason

    (tmp_path / "anna.mueller").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert refusal(tmp_path / "anna.mueller") == "its first bytes look like a picture, the rest does not"
    assert reason(OSError(5, "Input/output error", str(tmp_path / "mueller.png"))) == "Input/output error"
    assert reason(OSError("broken data stream")) == "broken data stream"
