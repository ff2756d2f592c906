"""What the rules take out of texts, and what they leave."""

import pytest

from medlike.imaging import deidentify, plain

WHO = {
    "patient_name": "Doe^Jane Ann", "referring_physician": "O'Brien^Pat", "patient_id": "P-4711",
    "operator": "Op^Ra\\Kim^Li", "accession_number": "ACC99", "institution": "St. Elsewhere",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Jane Doe was seen by O'Brien.", "[name] [name] was seen by [name]."),
        ("DOE, jane: no effusion", "[name], [name]: no effusion"),
        ("P-4711 at St. Elsewhere, ACC99", "[id] at [id], [id]"),
        ("Seen by Dr. Smith and Prof. Dr. med. Hans Müller-Lüdenscheidt.", "Seen by [name] and [name]."),
        ("Frau Klöbner, Mrs Jones, Ms. A. Lee", "[name], [name], [name]"),
        ("Dictated by John Q. Public", "[name]"),
        ("Name: Mustermann, Max", "[name]"),
        ("On 2024-02-29, 29.02.2024, 2/29/24, 20240229.", "On [date], [date], [date], [date]."),
        ("On 3 March 2021, March 3rd, 2021, Feb 2021.", "On [date], [date], [date]."),
        ("MRN: 12345678, accession no. A-77, 123-45-6789", "[id], [id], [id]"),
        ("Call +49 511 532 1234, (0511) 532 55 or 555-123-4567", "Call [phone], [phone] or [phone]"),
        ("a.b@clinic.org, https://pacs.example/x?id=1", "[address], [address]"),
        ("1.2.840.113619.2.55.3.604688", "[id]"),
    ],
)
def test_identifiers_are_taken_out(text, clean):
    found = deidentify(text, WHO)
    assert found.text == clean
    assert found.count == clean.count("[")
    assert deidentify(found.text, WHO).text == clean


@pytest.mark.parametrize(
    "text",
    [
        "Lesion of 3.5 x 2.1 cm at L4/5, T12; 5/10, 1.5 T, 120 kVp.",
        "May be a nodule of 5 mm. BI-RADS 4. Marching bones.",
        "TI-RADS 3, ADC 1.2 to 1.4, SUV 12.4, 45-year-old man, 2019 guideline.",
        "No Pneumothorax. Grade 3/4 chondral defect; slices 1-20 of 40.",
        "胸腔积液 左侧, выпот слева",
    ],
)
def test_findings_stay(text):
    assert deidentify(text, WHO) == deidentify(text)
    assert (deidentify(text).text, deidentify(text).count) == (text, 0)


def test_short_and_common_parts_of_names_stay():
    # Two letters would be found in every text.
    assert deidentify("Li of the lung", WHO).text == "Li of the lung"
    assert deidentify("normal", {"patient_name": "", "patient_id": "12"}).text == "normal"


def test_control_characters_and_halves_of_characters_go():
    assert plain("a\x00b\r\n\tc\ud800 d") == "a b c d"
    assert plain("\x07\n") == ""
