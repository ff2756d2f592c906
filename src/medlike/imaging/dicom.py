"""Turn DICOM files into images: opened, checked against their own header, decoded frame by frame."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from medlike.errors import ImageError
from medlike.imaging.deidentification import nameless
from medlike.imaging.dicom_decoding import frame_decoder
from medlike.imaging.dicom_facts import identifiers, metadata, spacing, texts
from medlike.imaging.dicom_header import PixelHeader, pixel_header
from medlike.imaging.dicom_open import mend_elements, open_dicom
from medlike.imaging.dicom_photometry import photometry
from medlike.imaging.frames import Choice
from medlike.imaging.image import Image, Value
from medlike.imaging.silence import reason, silence


class _Facts(NamedTuple):
    metadata: dict[str, Value]
    texts: dict[str, str]
    replaced: int
    identifiers: dict[str, str]


def read_dicom(path: Path, choose: Choice, segmentations: bool = True) -> Iterator[Image]:
    """Return the frames of a DICOM file as images, one held at a time.

    Args:
        path: the file.
        choose: which frames to read.
        segmentations: whether a segmentation object is read; if not, it is refused.

    Raises:
        ImageError: with the reason; frames before the fault have been given by then.
    """
    with silence():
        try:
            dataset = open_dicom(path)
            header, facts = _facts(dataset, segmentations)
            decode = frame_decoder(dataset, header)
        except (ImageError, OSError):
            raise
        except Exception as error:
            raise ImageError(f"the DICOM header cannot be used: {reason(error)}") from None
    for frame in choose(header.frames):
        with silence():
            try:
                pixels, bits = decode(frame)
                shown, remarks = photometry(dataset, frame, pixels)
                if header.keyword == "PixelData" and header.interpretation != "PALETTE COLOR" and shown.bits != bits:
                    shown = dataclasses.replace(shown, bits=bits)
                apart = spacing(dataset, frame)
            except ImageError as error:
                raise ImageError(f"frame {frame}: {error}" if header.frames > 1 else str(error)) from None
            except Exception as error:
                raise ImageError(_why_not_decoded(dataset, frame, error)) from None
        yield Image(
            pixels,
            shown,
            spacing=apart,
            frame=frame,
            frames=header.frames,
            path=str(path),
            metadata=dict(facts.metadata),
            texts=dict(facts.texts),
            replaced=facts.replaced,
            identifiers=dict(facts.identifiers),
            remarks=remarks,
        )


def _facts(dataset: Dataset, segmentations: bool) -> tuple[PixelHeader, _Facts]:
    """Return the pixel header, and all that the file says besides its pixels.

    Elements are read when they are needed. Only where one of them cannot be read are all of them, so that those that
    can be are used and the others no longer stand in the way.
    """
    try:
        return pixel_header(dataset, segmentations), _besides_pixels(dataset)
    except ImageError:
        raise
    except Exception:  # pydicom raises what the damage happens to provoke
        mend_elements(dataset)
        return pixel_header(dataset, segmentations), _besides_pixels(dataset)


def _besides_pixels(dataset: Dataset) -> _Facts:
    who = identifiers(dataset)
    words, replaced = texts(dataset, who)
    return _Facts(nameless(metadata(dataset), who), words, replaced, who)


def _why_not_decoded(dataset: Dataset, frame: int, error: Exception) -> str:
    """Return why a frame cannot be decoded: a decoder's own words, but nothing that numpy says of arrays."""
    name = dataset.file_meta.TransferSyntaxUID.name
    if isinstance(error, RuntimeError):
        words = reason(error).split("by all available plugins:")[-1].strip()
        return f"frame {frame} cannot be decoded ({name}): {words}"
    return f"frame {frame} cannot be decoded ({name}): its data are damaged, or do not fit the header"
