"""Records of images hold no text that names somebody."""

from medlike import Archive, Query


def test_texts_are_stored_without_names_and_dates(worded):
    texts = {text for (text,) in worded._store.connection.execute("SELECT text FROM texts")}
    assert "Small pneumothorax on the right, seen by [name] on [date]." in texts
    assert not any("Smith" in text or "2024" in text or "Replace this" in text for text in texts)


def test_the_report_counts_texts_and_what_was_taken_out(tmp_path, tiny_bundle, encoder, captioned):
    with Archive.create(tmp_path / "a", tiny_bundle, encoder=encoder) as archive:
        report = archive.add(captioned())
        assert (report.texts, report.deidentified) == (8, 4)
        again = archive.add(tmp_path / "captioned" / "manifest.csv")
        assert (again.unchanged, again.texts) == (10, 0)


def test_the_words_of_a_dicom_file_are_found_and_its_people_are_not(archive, scan):
    archive.add(scan("a.dcm", StudyDescription="CT thorax of Jane Doe", ImageComments="Doe: nodule, 12.03.2021"))
    [hit] = archive.search(Query(text="nodule"))
    assert hit.texts == {"description": "CT thorax of [name] [name]", "comments": "[name]: nodule, [date]"}
    assert not archive.search(Query(text="doe jane")).hits
