"""DICOM files drawn at random, with what a right reader makes of them: one family for each kind of transfer syntax.

A variant may lie: its header contradicts its codestream, bits that mean nothing are set, or its offset table is wrong.
Its honest twin has the same pixels under a header without lies; a witness reads the twin.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import encoders
import numpy as np
import pydicom
from files import fill, header, save, words
from pydicom import uid
from pydicom.encaps import generate_frames

BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
LS_LOSSLESS, LS_NEAR, J2K_LOSSLESS, J2K = (f"1.2.840.10008.1.2.4.{number}" for number in (80, 81, 90, 91))
HTJ2K_LOSSLESS, HTJ2K_RPCL, HTJ2K = (f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))


@dataclass
class Variant:
    """A file, its honest twin, and what is known of its pixels.

    path: What medlike reads. honest: What the witness reads; the same file where nothing lies.
    values: Integer [F, H, W] or RGB [F, H, W, 3] that were encoded without loss, or None.
    tolerance: Largest difference from the witness that is right (0: bit for bit). words: What the variant is.
    """

    path: Path
    honest: Path
    values: np.ndarray | None
    tolerance: int = 0
    words: list[str] = field(default_factory=list)


class Draw:
    """Random choices that remember in words what they chose."""

    def __init__(self, seed: tuple[int, int], folder: Path):
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.words: list[str] = []

    def __call__(self, name, *choices):
        """One of the choices, noted under a name."""
        choice = choices[self.random.integers(len(choices))]
        if name and choice is not False:
            self.words.append(f"{name} {choice}" if choice is not True else name)
        return choice

    def picture(self, bits, signed=False, colour=False, frames=None, smallest=1, smooth=False):
        """Integers [F, H, W] or [F, H, W, 3] of a ramp, a disc and noise that reach both ends of the range."""
        frames = frames or int(self.random.choice([1, 1, 1, 2, 3, 5]))
        height, width = (int(side) for side in self.random.integers(smallest, 72, 2))
        self.words.append(f"{frames} x {width} x {height}")
        shape = (frames, height, width, 3) if colour else (frames, height, width)
        y, x = np.mgrid[0:height, 0:width]
        ramp = (x + y) / max(1, height + width - 2)
        disc = ((x - width / 3) ** 2 + (y - height / 2) ** 2) < (min(height, width) / 4) ** 2
        level = np.abs(ramp - (0.0 if smooth else 0.3) * disc)
        level = np.stack([level * (0.6 + 0.4 * frame / frames) for frame in range(frames)])
        if colour:
            level = np.stack([level, 1 - level, 0.5 * level + 0.2], axis=-1)
        level = np.clip(level + (0.0 if smooth else 0.02) * self.random.normal(size=shape), 0, 1)
        values = np.rint(level * ((1 << bits) - 1)).astype(np.int64)
        if not smooth:
            values.ravel()[self.random.integers(values.size)] = (1 << bits) - 1
            values.ravel()[self.random.integers(values.size)] = 0
        return values - (1 << (bits - 1)) if signed else values

    def path(self, name):
        return self.folder / f"{name}.dcm"


def native(draw: Draw) -> Variant:
    """Uncompressed: byte order, value representation, bits outside of the stored ones, planes, palettes."""
    syntax = draw(
        "",
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    )
    draw.words.append(uid.UID(syntax).name)
    photometric = draw("", "MONOCHROME2", "MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR")
    draw.words.append(photometric)
    if photometric == "PALETTE COLOR":
        return palette(draw, syntax)
    colour = not photometric.startswith("MONO")
    ybr = photometric.startswith("YBR")
    allocated = 8 if ybr else draw("allocated", 8, 16, 16, 32)
    if allocated == 32 and (colour or syntax == uid.ExplicitVRBigEndian):
        # Words of 32 bits in OW have no one order in big endian.
        allocated = 16
    stored = allocated if colour else draw("stored", *range(min(allocated, 16) // 2, min(allocated, 16) + 1))
    signed = not colour and draw("signed", False, True)
    shift = 0 if colour else draw("shift", 0, 0, 0, allocated - stored)
    values = draw.picture(stored, signed, colour, smallest=2)
    if photometric == "YBR_FULL_422":
        values = values[:, :, : values.shape[2] // 2 * 2]
    junk = None
    if stored < allocated and draw("bits outside are set", False, True):
        junk = draw.random.integers(0, 1 << 32, values.shape)
    samples = words(values, (stored, allocated), junk, shift)
    dataset = header(values, syntax, photometric, stored, allocated, signed, stored - 1 + shift)
    if photometric == "YBR_FULL_422":
        # Y Y Cb Cr: one chroma for two pixels (PS3.3 C.7.6.3.1.2).
        pairs = samples.reshape(*samples.shape[:2], -1, 2, 3)
        samples = np.concatenate([pairs[..., 0], pairs[..., 0, 1:]], axis=-1)
    elif colour and draw("planes", False, True):
        dataset.PlanarConfiguration = 1
        samples = samples.transpose(0, 3, 1, 2)
    put(dataset, samples, draw("VR", "OB", "OW") if allocated == 8 else "OW")
    path = honest = save(dataset, draw.path("native"))
    stray = draw("stray bytes", 0, 0, 0, 1, 3)
    if stray:
        path = draw.path("stray")
        path.write_bytes(b"\n" * stray + honest.read_bytes())
    # DCMTK turns YBR into RGB by coarse tables.
    return Variant(path, honest, None if ybr else values, 3 if ybr else 0)


def put(dataset, samples, representation):
    """Put samples into a data set in its byte order. Bytes in OW are swapped in pairs where that is big (PS3.5 A.3)."""
    big = dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian
    data = samples.astype(samples.dtype.newbyteorder(">" if big else "<")).tobytes()
    data += b"\0" * (len(data) % 2)
    if big and samples.dtype.itemsize == 1 and representation == "OW":
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    dataset.PixelData = data
    dataset["PixelData"].VR = representation


def palette(draw: Draw, syntax) -> Variant:
    """Palette colour: 8 and 16-bit entries, first mapped value above 0, fewer entries than values."""
    allocated = draw("allocated", 8, 16)
    entries = draw("entries", 256, 200, 16)
    first = draw("first", 0, 0, 3)
    bits = draw("entry bits", 8, 16)
    index = np.minimum(draw.picture(8), entries + 5)
    tables = draw.random.integers(0, 1 << bits, (3, entries))
    dataset = header(index, syntax, "PALETTE COLOR", 8 if allocated == 8 else 12, allocated)
    kind = f"{'>' if syntax == uid.ExplicitVRBigEndian else '<'}u2"
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [entries, first, bits])
        dataset[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        # 8-bit entries are packed in pairs (PS3.3 C.7.6.3.1.6): the first one in the low byte.
        packed = table.astype("u1").view("<u2") if bits == 8 else table
        setattr(dataset, f"{name}PaletteColorLookupTableData", packed.astype(kind).tobytes())
        dataset[f"{name}PaletteColorLookupTableData"].VR = "OW"
    put(dataset, words(index, (8, allocated)), "OW")
    path = save(dataset, draw.path("palette"))
    return Variant(path, path, tables[:, np.clip(index - first, 0, entries - 1)].transpose(1, 2, 3, 0))


def bilevel(draw: Draw) -> Variant:
    """One bit a sample, packed across frames, in either byte order and deflated."""
    syntax = draw("", uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)
    values = (draw.picture(8) > 100).astype(np.int64)
    dataset = header(values, syntax, "MONOCHROME2", 1, 1)
    data = np.packbits(values.ravel().astype(np.uint8), bitorder="little").tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if syntax == uid.ImplicitVRLittleEndian else "OB"
    path = save(dataset, draw.path("bilevel"))
    return Variant(path, path, values)


def plain(draw: Draw, values, photometric, stored, allocated, signed=False, junk=None, name="plain"):
    """Return an uncompressed file of values, for a compressor of DCMTK, and as a twin."""
    dataset = header(values, uid.ExplicitVRLittleEndian, photometric, stored, allocated, signed)
    put(dataset, words(values, (stored, allocated), junk), "OW")
    return save(dataset, draw.path(name))


def grey_or_rgb(draw: Draw, depths=range(8, 17), signs=(False, True), **how):
    """Draw values with their photometric interpretation, stored and allocated bits and sign."""
    colour = draw("RGB", False, False, True)
    stored = 8 if colour else draw("stored", *depths)
    signed = not colour and draw("signed", *signs)
    values = draw.picture(stored, signed, colour, **how)
    photometric = "RGB" if colour else draw("of", "MONOCHROME2", "MONOCHROME1")
    return values, photometric, stored, 8 if stored <= 8 else 16, signed


def rle(draw: Draw) -> Variant:
    """Run-length encoded by DCMTK or pydicom; PlanarConfiguration says nothing, the segments are planes (PS3.5 G.2)."""
    values, photometric, stored, allocated, signed = grey_or_rgb(draw, range(5, 17))
    junk = draw.random.integers(0, 1 << 16, values.shape) if draw("bits outside are set", False, False, True) else None
    source = plain(draw, values, photometric, stored, allocated, signed, junk)
    if draw("encoder", "dcmtk", "pydicom") == "dcmtk":
        encoded = pydicom.dcmread(encoders.recode("dcmcrle", source, draw.path("rle")))
    else:
        encoded = pydicom.dcmread(source)
        encoded.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    if photometric == "RGB":
        encoded.PlanarConfiguration = draw("PlanarConfiguration", 0, 1)
    return finish(draw, encoded, values, source)


def finish(draw: Draw, encoded, values, twin=None, tolerance=0, lies=()) -> Variant:
    """Cut encoded frames anew into fragments with an offset table, right or wrong, and write file and twin.

    Args:
        encoded: Data set with encapsulated pixel data.
        values: Its values, if without loss.
        twin: An honest file with the same pixels that is not the same codestream.
        tolerance: Of the comparison with the witness.
        lies: (keyword, value) that the file says and the codestream does not.
    """
    count = int(encoded.get("NumberOfFrames") or 1)
    frames = list(generate_frames(encoded.PixelData, number_of_frames=count))
    fill(encoded, frames)
    honest = twin or save(encoded, draw.path("honest"))
    table = draw("offset table", "none", "basic", "basic", "extended", "zeros", "beside")
    pieces = 1 if table in ("none", "zeros", "beside") and count > 1 else draw("fragments", 1, 1, 2, 3)
    if table == "extended":
        pieces = 1
    fill(encoded, frames, pieces, table)
    for keyword, value in lies:
        draw.words.append(f"{keyword} says {value}")
        setattr(encoded, keyword, value)
    path = save(encoded, draw.path("variant"))
    # DCMTK finds the header of a codestream in its first fragment only.
    whole = pieces == 1 or len(frames[0]) // pieces >= 1024
    honest = path if twin is None and not lies and table in ("none", "basic") and whole else honest
    return Variant(path, honest, values, tolerance)


def jpeg(draw: Draw) -> Variant:
    """JPEG baseline by Pillow: grey, YBR with and without subsampling, RGB; the header may lie."""
    kind = draw("", "grey", "YBR_FULL", "YBR_FULL_422", "RGB")
    draw.words.append(kind)
    values = draw.picture(8, colour=kind != "grey", smooth=True, smallest=8)
    subsampling = {"YBR_FULL_422": "4:2:2"}.get(kind, "4:4:4")
    frames = [encoders.jpeg(frame.astype(np.uint8), subsampling, kind == "RGB") for frame in values]
    dataset = header(values, BASELINE, "MONOCHROME2" if kind == "grey" else kind, 8, 8)
    fill(dataset, frames)
    lies = []
    if kind != "grey":
        if draw("", False, True):
            lies.append(("PlanarConfiguration", 1))
        called = draw("", "YBR_FULL", "YBR_FULL_422", "RGB")
        lies += draw("", (), (), (("PhotometricInterpretation", called),))
    if draw("", False, False, True):
        lies += [("BitsAllocated", 16), *draw("", [], [("BitsStored", 12), ("HighBit", 11)])]
    return finish(draw, dataset, None, None, 2 if kind == "grey" else 4, lies)


def jpeg_extended(draw: Draw) -> Variant:
    """JPEG extended of 8 and 12 bits by DCMTK; the header may say fewer bits, the scan header Se = 0."""
    stored = draw("stored", 8, 12)
    values = draw.picture(stored, smooth=True, smallest=8)
    source = plain(draw, values, "MONOCHROME2", stored, 8 if stored == 8 else 16)
    force = "+be" if stored == 8 else "+bt"
    encoded = pydicom.dcmread(encoders.recode("dcmcjpeg", source, draw.path("ext"), "+ee", force, "+sr", "+q", "95"))
    lies = draw("", [], [], [("BitsStored", 10), ("HighBit", 9)]) if stored == 12 else []
    variant = finish(draw, encoded, None, None, 2, lies)
    if draw("Se = 0", False, False, True):
        said = pydicom.dcmread(variant.path)
        data = said.PixelData
        # Start of scan of one component: FFDA 0008 01 id tables Ss Se AhAl.
        said.PixelData = b"".join(
            part[:7] + b"\0" + part[8:] if n else part for n, part in enumerate(_split(data, b"\xff\xda\x00\x08\x01"))
        )
        save(said, draw.path("se"))
        variant = Variant(draw.path("se"), draw.path("honest"), None, 2)
    return variant


def _split(data, start):
    """Return data cut before each occurrence of a marker; every part but the first begins with it, marker included."""
    first, *rest = data.split(start)
    return [first, *(start + part for part in rest)]


def jpeg_lossless(draw: Draw) -> Variant:
    """JPEG lossless by DCMTK, all predictors, 8 to 16 bits, grey and RGB."""
    values, photometric, stored, allocated, signed = grey_or_rgb(draw)
    source = plain(draw, values, photometric, stored, allocated, signed)
    how = draw("", "+e1", "+el")
    predictor = ["+sv", str(draw("predictor", 1, 2, 3, 4, 5, 6, 7))] if how == "+el" else []
    encoded = pydicom.dcmread(encoders.recode("dcmcjpeg", source, draw.path("lossless"), how, *predictor))
    lies = [("PlanarConfiguration", 1)] if photometric == "RGB" and draw("", False, True) else []
    return finish(draw, encoded, values, source, 0, lies)


def jpeg_ls(draw: Draw) -> Variant:
    """JPEG-LS by DCMTK: lossless, all interleavings, bits above the stored ones; near-lossless."""
    # Near-lossless codestreams of fewer than 8 bits are refused: DCMTK disagrees with FFmpeg and libjpeg over them.
    near = draw("near", 0, 0, 0, 1, 3)
    # DCMTK encodes signed values without loss only.
    signs = (False,) if near else (False, True)
    values, photometric, stored, allocated, signed = grey_or_rgb(draw, range(8 if near else 6, 17), signs)
    junk = None
    if not near and stored < allocated and draw("bits outside are set", False, True):
        junk = draw.random.integers(0, 1 << 16, values.shape)
    source = plain(draw, values, photometric, stored, allocated, signed, junk)
    how = ["+en", "+md", near] if near else ["+el"]
    interleave = draw("interleave", "+il", "+is", "+in") if photometric == "RGB" else "+iv"
    encoded = pydicom.dcmread(encoders.recode("dcmcjpls", source, draw.path("ls"), *how, interleave))
    lies = [("PlanarConfiguration", 1)] if photometric == "RGB" and draw("", False, True) else []
    return finish(draw, encoded, None if near else values, None if near else source, 0, lies)


def j2k(draw: Draw) -> Variant:
    """JPEG 2000 by OpenJPEG, Pillow and ffmpeg; header and stream may differ in sign, bits and colour."""
    encoder = draw("encoder", "openjpeg", "openjpeg", "pillow", "ffmpeg")
    lossy = encoder == "openjpeg" and draw("lossy", False, False, True)
    depths, signs, smallest = (range(8, 17), (False, True), 32) if encoder == "openjpeg" else ((8, 16), (False,), 9)
    values, photometric, stored, allocated, signed = grey_or_rgb(draw, depths, signs, smallest=smallest)
    transform = photometric == "RGB" and encoder != "ffmpeg" and draw("transform", False, True)
    lies, bits, sign, streamed = [], stored, signed, values
    if encoder == "openjpeg" and not lossy and photometric != "RGB":
        bits, sign, streamed = _another_stream(draw, values, stored, allocated, signed)
    if encoder == "openjpeg":
        frames = [encoders.j2k_by_openjpeg(frame, bits, sign, transform, 3 if lossy else None) for frame in streamed]
    elif encoder == "pillow":
        # Pillow writes tiles of 16 bits wrong.
        tiled = draw("tiles", False, True) if allocated == 8 else False
        tile, offset = ((16, 24), draw("image area from", (0, 0), (5, 3))) if tiled else (None, (0, 0))
        samples = values.astype(f"u{allocated // 8}")
        frames = [encoders.j2k_by_pillow(frame, transform, tile, offset) for frame in samples]
    else:
        frames = [encoders.j2k_by_ffmpeg(frame.astype(f"u{allocated // 8}")) for frame in values]
    transformed = ("YBR_ICT" if lossy else "YBR_RCT") if transform else photometric
    dataset = header(values, J2K if lossy else J2K_LOSSLESS, transformed, stored, allocated, signed)
    fill(dataset, frames)
    if transform and draw("", False, True):
        lies.append(("PhotometricInterpretation", draw("", "YBR_FULL", "YBR_FULL_422", "RGB")))
    if photometric == "RGB" and draw("", False, True):
        lies.append(("PlanarConfiguration", 1))
    twin = plain(draw, values, photometric, stored, allocated, signed) if bits != stored or sign != signed else None
    return finish(draw, dataset, None if lossy else values, twin, irreversible(stored) if lossy else 0, lies)


def irreversible(bits):
    """Return how far two right decoders of irreversible JPEG 2000 may differ: a step of 4096, rounded up."""
    return 1 if bits <= 12 else 1 << (bits - 12)


def _another_stream(draw: Draw, values, stored, allocated, signed):
    """Return bits, sign and samples of a stream that holds values of the header's bits and sign in another form."""
    form = draw("stream", "as the header", "as the header", "of all allocated bits", "unsigned")
    if form == "of all allocated bits":
        return allocated, signed, values
    if form == "unsigned" and signed:
        bits = draw("of", stored, allocated)
        return bits, False, values & ((1 << stored) - 1)
    return stored, signed, values


def htj2k(draw: Draw) -> Variant:
    """HTJ2K by OpenJPH: reversible and not, signed, colour with and without transform."""
    lossy = draw("lossy", False, False, True)
    values, photometric, stored, allocated, signed = grey_or_rgb(draw, range(8, 17), smallest=9)
    transform = photometric == "RGB" and draw("transform", False, True)
    syntax, order = draw("", (HTJ2K, "LRCP"), (HTJ2K_RPCL, "RPCL"), (HTJ2K_LOSSLESS, "CPRL"))
    step = 0.002 if lossy else None
    frames = [encoders.htj2k(frame, stored, signed, transform, draw.folder, step, order) for frame in values]
    transformed = ("YBR_ICT" if lossy else "YBR_RCT") if transform else photometric
    dataset = header(values, HTJ2K if lossy else syntax, transformed, stored, allocated, signed)
    fill(dataset, frames)
    lies = [("PhotometricInterpretation", draw("", "YBR_FULL", "RGB"))] if transform and draw("", False, True) else []
    if photometric == "RGB" and draw("", False, True):
        lies.append(("PlanarConfiguration", 1))
    return finish(draw, dataset, None if lossy else values, None, irreversible(stored) if lossy else 0, lies)


def deflated_frames(draw: Draw) -> Variant:
    """Frames deflated one by one (Supplement 244); the uncompressed twin is what DCMTK reads."""
    import zlib

    values, photometric, stored, allocated, signed = grey_or_rgb(draw)
    source = plain(draw, values, photometric, stored, allocated, signed)
    frames = []
    for frame in words(values, (stored, allocated)):
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        frames.append(deflate.compress(frame.tobytes()) + deflate.flush())
    dataset = pydicom.dcmread(source)
    # pydicom does not write this transfer syntax: another of the same length stands in.
    dataset.file_meta.TransferSyntaxUID = uid.UID(J2K_LOSSLESS)
    fill(dataset, frames)
    path = save(dataset, draw.path("deflated"))
    path.write_bytes(path.read_bytes().replace(J2K_LOSSLESS.encode(), b"1.2.840.10008.1.2.8.1\0"))
    return Variant(path, source, values)


FAMILIES: dict[str, Callable[[Draw], Variant]] = {
    "native": native,
    "native, 1 bit": bilevel,
    "deflated frames": deflated_frames,
    "RLE": rle,
    "JPEG baseline": jpeg,
    "JPEG extended": jpeg_extended,
    "JPEG lossless": jpeg_lossless,
    "JPEG-LS": jpeg_ls,
    "JPEG 2000": j2k,
    "HTJ2K": htj2k,
}


def variant(family: str, seed: int, folder: Path) -> Variant:
    """Return one variant of a family; the same seed gives the same one, with its choices in words."""
    draw = Draw((seed, list(FAMILIES).index(family)), folder)
    drawn = FAMILIES[family](draw)
    drawn.words = draw.words
    return drawn
