"""What is private is shown to a viewer who may see it, and each look passes the viewer's hook."""

import pytest

from medlike import Query
from medlike.errors import QueryError


class Visitor:
    def __init__(self, *rights):
        self.rights, self.seen = rights, []

    def may(self, what):
        return what in self.rights

    def saw(self, what, names):
        self.seen.append((what, list(names)))


def test_a_viewer_without_rights_sees_no_source(archive, pictures):
    folder = pictures(3)
    archive.add(folder)
    visitor = Visitor()
    query = Query(image=folder / "0000.png")
    result = archive.search(query, viewer=visitor)
    assert [hit.source for hit in result] == [None] * 3 and visitor.seen == []
    assert archive.repeat(result.receipt, viewer=visitor)[0].source is None
    assert all(hit.source["path"] for hit in archive.search(query))


def test_each_source_that_is_shown_passes_the_hook(archive, pictures):
    folder = pictures(3)
    archive.add(folder)
    visitor = Visitor("source")
    result = archive.search(Query(image=folder / "0000.png"), k=2, viewer=visitor)
    assert visitor.seen == [("source", [hit.id for hit in result])] or {
        name for what, names in visitor.seen for name in names
    } == {hit.id for hit in result}
    assert all(hit.source["path"] for hit in result)


def test_kept_identifiers_are_a_right_of_their_own(archive):
    archive._links.write(())
    from medlike.archive.storage.identity import Link, as_source

    link = Link("a" * 32, "/x.dcm", 0, {"sop_uid": "1.2", "study_date": "20200101", "patient_name": "A^B"})
    assert as_source(link)["patient_name"] == "A^B"
    bare = as_source(link, named=False)
    assert "patient_name" not in bare and bare["sop_uid"] == "1.2" and bare["study_date"] == "20200101"


def test_a_filter_by_a_true_patient_needs_the_right_and_passes_the_hook(archive, pictures, scan):
    folder = pictures(2)
    archive.add([folder, scan("a.dcm")])
    query, where = Query(image=folder / "0000.png"), {"patient": "P-1"}
    visitor = Visitor("filters")
    assert len(archive.search(query, where=where, viewer=visitor)) == 0
    assert visitor.seen == [("filters", ["patient"])]
    with pytest.raises(QueryError, match="patient cannot be filtered by"):
        archive.search(query, where=where, viewer=Visitor())
    assert len(archive.search(query, where={"patient": "0" * 32}, viewer=Visitor())) == 0
