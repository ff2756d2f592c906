"""Open DICOM files, with or without preamble, deflated or not, and set unreadable elements aside."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

from pydicom import dcmread, uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import _read_command_set_elements, _read_file_meta_info, read_preamble
from pydicom.valuerep import VR

from medlike.errors import ImageError
from medlike.imaging.dicom_header import PIXELS
from medlike.imaging.limits import MAX_INFLATED_BYTES
from medlike.imaging.memory import reserve
from medlike.imaging.signatures import DICOM_PREFIX

_PREAMBLE = 128

#: So many value representations are mended in one file.
_MENDED = 8

_REPRESENTATIONS = frozenset(one.value for one in VR)

def open_dicom(path: Path) -> Dataset:
    """Return the data set of a file, its elements unread, its transfer syntax known.

    Raises:
        ImageError: there is no element to read, the file ends inside one, or unpacks to too much.
        OSError: as `open` does.
    """
    # Its content, and the values of its elements.
    reserve("file", 2 * path.stat().st_size, "the file is large")
    content = _with_preamble(path.read_bytes())
    _check_inflated(content)
    # Elements point into the source; the pixels are decoded after the file is closed.
    dataset = dcmread(BytesIO(content), force=True)
    for _ in range(_MENDED):
        mended = _with_known_representation(content, dataset)
        if mended is None:
            break
        _check_inflated(mended)
        content, dataset = mended, dcmread(BytesIO(mended), force=True)
    if len(dataset) == 0:
        # pydicom gives nothing at all of a file that ends inside of an element.
        header = dcmread(BytesIO(content), force=True, stop_before_pixels=True)
        if len(header) > 0:
            raise ImageError("the file ends inside its pixel data: it is truncated")
        raise ImageError("no DICOM element can be read from it")
    _take_representations_of_the_dictionary(dataset)
    meta = getattr(dataset, "file_meta", None)
    if meta is None:
        meta = dataset.file_meta = FileMetaDataset()
    if not meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        if implicit:
            meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
        else:
            meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    return dataset


def mend_elements(dataset: Dataset) -> None:
    """Read all elements of a data set, and give those that cannot be read as what they say a form that can be.

    A value that its value representation does not allow is taken as text, so that it can still be shown and removed
    from texts. A value representation that does not exist gives way to the one of the dictionary (PS3.6).
    """
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        try:
            dataset[tag]
        except Exception:  # pydicom raises what the damage happens to provoke
            if isinstance(raw, RawDataElement):
                _replace(dataset, raw)
            else:
                del dataset[tag]


def _replace(dataset: Dataset, raw: RawDataElement) -> None:
    try:
        representation = dictionary_VR(raw.tag)
        if representation != raw.VR:
            dataset[raw.tag] = raw._replace(VR=representation)
            dataset[raw.tag]
            return
    except Exception:  # the value is then taken as text
        pass
    text = (raw.value or b"").decode("latin-1").strip(" \0")
    dataset[raw.tag] = DataElement(raw.tag, "LT", text, already_converted=True)


def _with_preamble(content: bytes) -> bytes:
    """Return a file with its prefix at byte 128: stray bytes or a short preamble may have moved it (PS3.10 7.1)."""
    place = content.find(DICOM_PREFIX, 0, 512)
    return content if place in (-1, _PREAMBLE) else bytes(_PREAMBLE) + content[place:]


def _with_known_representation(content: bytes, dataset: Dataset) -> bytes | None:
    """Return the file with the first unknown value representation set to the dictionary's, None if there is none.

    pydicom takes an element of an explicit file whose value representation is no two capitals for an implicit one,
    and so its length for a much larger one: everything after it is lost.
    """
    if dataset.original_encoding[0] or any(keyword in dataset for keyword in PIXELS):
        return None
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.VR is None and dictionary_has_tag(tag):
            place = raw.value_tell - 4
            if content[place - 4 : place] == struct.pack("<HH", tag.group, tag.element):
                return content[:place] + dictionary_VR(tag).encode() + content[place + 2 :]
    return None


def _take_representations_of_the_dictionary(dataset: Dataset) -> None:
    """Leave a value representation of two capitals that does not exist to the dictionary (PS3.6), for all elements."""
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.VR is not None and raw.VR not in _REPRESENTATIONS:
            dataset[tag] = raw._replace(VR=None)


def _check_inflated(content: bytes) -> None:
    """Refuse a deflated file that unpacks to more than the limit, before pydicom unpacks it into memory.

    Its beginning is read by the functions that pydicom itself uses, so that both take the same files for deflated and
    agree on where the deflated part begins, with or without preamble and group length.
    """
    if uid.DeflatedExplicitVRLittleEndian.encode() not in content:
        return
    source = BytesIO(content)
    try:
        read_preamble(source, force=True)
        meta = _read_file_meta_info(source)
        _read_command_set_elements(source)
        if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
            return
    except Exception:  # pydicom will raise the same, with what is wrong with it
        return
    unpack, total, checked = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    while total <= MAX_INFLATED_BYTES:
        block = unpack.unconsumed_tail or source.read(1 << 20)
        if not block or unpack.eof:
            return
        try:
            total += len(unpack.decompress(block, 1 << 24))
        except zlib.error:  # as above
            return
        if total > checked:
            checked = 2 * total
            reserve("file", 2 * (len(content) + checked), f"the deflated file unpacks to more than {total >> 20} MiB")
    raise ImageError(f"the deflated file unpacks to more than {MAX_INFLATED_BYTES >> 30} GiB: convert it first")
