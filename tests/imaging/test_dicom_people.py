"""Names, dates and ids of a DICOM file: all there are, whatever the elements are called."""

import json

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medlike import Archive
from medlike.imaging import read
from medlike.imaging.dicom_people import as_text

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)


@pytest.fixture(params=[ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def full_of_people(write_dicom, request):
    """A file with names in rare elements, in sequences and in a private element; all of them in its texts."""

    def inner(level):
        item = Dataset()
        if level:
            item.ReferencedRequestSequence = Sequence([inner(level - 1)])
        else:
            item.RequestingPhysician = "Zanetti^Bruna"
            item.AccessionNumber = "AX-77-Q"
        return item

    path = write_dicom("people.dcm", PIXELS, syntax=request.param)
    data = pydicom.dcmread(path)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName = "Wang^XiaoDong=王^小东"
    data.OtherPatientNames = ["Kowalska^Anna", "Quill^Tess"]
    data.PatientBirthName = "Oyelaran"
    data.PatientMotherBirthName = "Fjeldsted^Una"
    data.PatientBirthDate = "19600102"
    data.ScheduledProcedureStepStartDate = "20210304"
    data.ReferencedStudySequence = Sequence([inner(3)])
    if request.param == ExplicitVRLittleEndian:
        block = data.private_block(0x0011, "ACME", create=True)
        block.add_new(1, "PN", "Privatissimo^Io")
    data.StudyDescription = "王小东 KOWALSKA_ANNA Oyelaran 02.01.60"
    data.SeriesDescription = "Fjeldsted ZANETTI_Bruna 4.3.2021 ax77q Tess2"
    data.ImageComments = "Privatissimo" if request.param == ExplicitVRLittleEndian else ""
    data.BodyPartExamined = "QUILL CHEST"
    data.ManufacturerModelName = "Scanner of Zanetti"
    data.save_as(path)
    return path


GONE = [
    "王", "小东", "kowalska", "anna", "oyelaran", "02.01.60", "fjeldsted", "zanetti", "bruna", "4.3.2021", "ax77q",
    "tess", "privatissimo", "quill",
]  # fmt: skip


def test_every_name_date_and_id_of_a_file_is_gone_from_what_is_shown(full_of_people):
    (image,) = read(full_of_people)
    shown = json.dumps([image.texts, image.metadata], ensure_ascii=False).lower()
    assert not [word for word in GONE if word in shown]
    assert "[name]" in shown and "[date]" in shown and "[id]" in shown and "scanner of" in shown
    assert "19600102" in image.identifiers["dates_in_file"].split("\\")


def test_the_store_holds_none_of_them(full_of_people, tmp_path, tiny_bundle):
    manifest = tmp_path / "manifest.csv"
    row = '"seen by Hartwig, 王小东",Hartwig^Ilse,follow-up of Hartwig 2'
    manifest.write_text(f"path,text,reader_name,remark\n{full_of_people.name},{row}\n", encoding="utf-8")
    with Archive.create(tmp_path / "archive", tiny_bundle, text_bundle=None) as archive:
        assert archive.add(manifest, pixels="copy").added == 1
    outside = [path for path in (tmp_path / "archive").rglob("*") if path.is_file() and "private" not in path.parts]
    stored = b"".join(path.read_bytes() for path in outside).decode("utf-8", "replace").lower()
    assert not [word for word in [*GONE, "hartwig"] if len(word) > 1 and word in stored]
    assert "follow-up of [name]" in stored


@pytest.mark.parametrize("representation", ["LO", "ST", "UT", "UN"])
def test_a_name_counts_whatever_the_file_calls_its_representation(write_dicom, representation):
    path = write_dicom("a.dcm", PIXELS)
    data = pydicom.dcmread(path)
    name = b"Zanetti^Bruna" if representation == "UN" else "Zanetti^Bruna"
    data.add(pydicom.DataElement("OtherPatientNames", representation, name))
    data.StudyDescription = "chest of ZANETTI_Bruna"
    data.save_as(path)
    (image,) = read(path)
    assert image.texts["description"] == "chest of [name]_[name]"


@pytest.mark.parametrize(
    ("name", "words", "clean"),
    [("王^小东", "胸部王小东正位", "胸部[name]正位"), ("Müller^Jörg", "MÜLLER_JÖRG: müller", "[name]_[name]: [name]")],
)
def test_utf_8_that_the_file_does_not_declare_hides_no_name(write_dicom, name, words, clean):
    path = write_dicom("a.dcm", PIXELS)
    data = pydicom.dcmread(path)
    assert "SpecificCharacterSet" not in data
    data.PatientName = name.encode()
    data.ImageComments = words.encode().decode("latin-1")
    data.save_as(path)
    (image,) = read(path)
    assert image.texts["comments"] == clean
    assert name in image.identifiers["names_in_file"].split("\\")


@pytest.mark.parametrize("name", ["山田^太郎", "五十嵐^表美", "ソノダ^ミチ"])
def test_shift_jis_that_the_file_does_not_declare_hides_no_name(write_dicom, name):
    path = write_dicom("a.dcm", PIXELS)
    data = pydicom.dcmread(path)
    data.PatientName = name.encode("cp932")
    data.ImageComments = f"胸部 {name.replace('^', '')} 正面".encode("cp932").decode("latin-1")
    data.save_as(path)
    (image,) = read(path)
    assert image.texts["comments"] == "胸部 [name] 正面"
    # Some of the letters have a backslash as their second byte, which also parts values.
    assert image.identifiers["patient_name"] == image.identifiers["names_in_file"] == name


@pytest.mark.parametrize("text", ["O\x92Brien", "Müller \x96 Weiß", "\x93Thorax\x94", "Voilà", "éééé"])
def test_western_texts_are_not_taken_for_shift_jis(text):
    assert as_text(text) == text
    assert as_text("Voilà".encode().decode("latin-1")) == "Voilà"
