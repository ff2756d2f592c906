"""Open-i, the chest radiographs of Indiana University: ecgen-radiology/*.xml beside the PNG files.

Demner-Fushman et al., JAMIA 2016. Each XML file is a report with its images; names in it were replaced by XXXX.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from medlike.datasets.sample import Dataset, Sample, require_images
from medlike.datasets.texts import meaningful
from medlike.errors import DatasetError

REPORTS = "ecgen-radiology"
# What of a report describes the images; indication and comparison speak of the patient and of other images.
SECTIONS = ("FINDINGS", "IMPRESSION")
NORMAL = "normal"
_REMOVED = re.compile(r"[\s-]*\bX{4,}\b")


def read_openi(path: str | Path, name: str = "openi", complete: bool = True) -> Dataset:
    """Read the images of every report; `group` is the report, so that a split keeps its images together.

    The text is findings and impression without the XXXX of de-identification. The label is the distinct MeSH headings
    that the coders gave the report (`major`, the part before the first `/`), sorted, joined by `|`; `normal` if that
    is the heading.

    Args:
        path: The folder that holds `ecgen-radiology` and, anywhere below it, the PNG files.
        name: Name of the collection.
        complete: Refuse missing images, because half a download would otherwise pass for the collection; if false,
            leave them out.

    Raises:
        DatasetError: There is no report, one cannot be read, or images are missing.
    """
    root = Path(path)
    reports = sorted((root / REPORTS).glob("*.xml"), key=_number)
    if not reports:
        raise DatasetError(f"{root} has no {REPORTS}/*.xml; give the folder where the reports of Open-i were unpacked")
    files = {file.stem: file for file in sorted(root.rglob("*.png"))}
    samples, missing = [], []
    for report in reports:
        try:
            tree = ElementTree.parse(report).getroot()
        except ElementTree.ParseError as error:
            raise DatasetError(f"{report} is no readable XML ({error}); fetch it again") from None
        known = tree.find("uId")
        group = known.get("id", report.stem) if known is not None else report.stem
        sections = {part.get("Label", ""): "".join(part.itertext()) for part in tree.iter("AbstractText")}
        text = meaningful(_REMOVED.sub("", " ".join(sections.get(section, "") for section in SECTIONS)))
        label = _label(tree)
        for image in tree.iter("parentImage"):
            number = image.get("id", "")
            if number not in files:
                missing.append(f"{number}.png")
                continue
            caption = (image.findtext("caption") or "").strip()
            samples.append(
                replace(
                    Sample.of(files[number], root, name),
                    label=label,
                    coarse="XR_chest",
                    group=group,
                    modality="XR",
                    region="chest",
                    text=text,
                    extra={"caption": caption} if caption else {},
                )
            )
    if complete or not samples:
        require_images(root, len(samples), missing, "unpack NLMCXR_png there")
    return Dataset(name, tuple(samples))


def _label(tree: ElementTree.Element) -> str:
    """Return the MeSH headings of a report: `Cardiomegaly/borderline` and `Cardiomegaly/mild` are one, Cardiomegaly."""
    headings = {(major.text or "").split("/")[0].strip() for major in tree.iter("major")} - {""}
    return "|".join(sorted(headings - {NORMAL})) or (NORMAL if headings else "")


def _number(report: Path) -> tuple[int, str]:
    return (int(report.stem) if report.stem.isdecimal() else -1, report.stem)
