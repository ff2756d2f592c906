import numpy as np
import pytest

from medlike import Hit, Result
from medlike.archive.search.result import ResultPictures
from medlike.display import sheet

WHITE = np.full((30, 60), 255, np.uint8)


def answer(number, picture=lambda id: WHITE, **more):
    hits = [Hit(at + 1, f"{at:032x}", at, 0.9, metadata={"modality": "CT"}) for at in range(number)]
    return Result(hits, pictures=ResultPictures(lambda: WHITE, picture), **more)


def whites(image):
    return int((np.asarray(image).min(axis=2) == 255).sum())


def test_every_picture_is_on_the_sheet():
    # 30 x 60 pixels in a tile of 100 are 50 x 100.
    one = whites(sheet.draw([answer(1)], tile=100))
    assert one >= 50 * 90 + 66 * 133
    assert whites(sheet.draw([answer(7)], tile=100)) - one >= 6 * 50 * 90


def test_hits_go_left_to_right_then_down_and_the_rest_is_said():
    wide = sheet.draw([answer(3)], columns=3, tile=100)
    high = sheet.draw([answer(9)], columns=3, tile=100, rows=3)
    assert wide.width == high.width
    assert high.height > wide.height
    assert sheet.draw([answer(30)], columns=3, tile=100, rows=3).size == high.size


def test_missing_pixels_and_no_hits_are_drawn():
    assert whites(sheet.draw([answer(3, picture=lambda id: None)], tile=100)) < 2 * 66 * 133
    assert sheet.draw([answer(0)]).height > 200
    assert sheet.draw([Result([])]).height > 200


def test_a_picture_that_should_be_there_is_said_to_be_missing(monkeypatch):
    said = []
    monkeypatch.setattr(sheet.ImageDraw.ImageDraw, "text", lambda pen, at, text, *more: said.append(text))
    for kind, query in (("id", "picture missing"), ("image", "pixels not kept")):
        said.clear()
        gone = Result(answer(1).hits, receipt={"query": {"kind": kind}})
        sheet.draw([gone], tile=100)
        assert query in said and "picture missing" in said
        assert query in gone.page() and "picture missing" in gone.page()


def test_a_heading_has_the_whole_row(monkeypatch):
    said = {}
    monkeypatch.setattr(sheet.ImageDraw.ImageDraw, "text", lambda pen, at, text, *more: said.update({text: at}))
    heading = "In words: ring-enhancing lesion of the head, " * 2
    for hits, title, whole in ((5, "short", True), (5, heading, True), (5, heading * 4, False), (1, heading, False)):
        said.clear()
        drawn = sheet.draw([answer(hits, title=title)])
        assert (title in said) == whole
        (written,) = [text for text in said if text.startswith(title[:5])]
        count = f"{hits} hits" if hits > 1 else "1 hit"
        assert sheet._font(24).getlength(written) < said[count][0]
        assert said[count][0] + sheet._font(20).getlength(count) <= drawn.width - 2 * sheet._MARGIN


def test_pictures_of_every_kind_fit_their_tile():
    for picture in (
        np.zeros((1, 1), np.uint8),
        np.zeros((5, 900, 3), np.uint8),
        np.zeros((900, 5), np.uint8),
    ):
        small = sheet.thumbnail(picture, 100)
        assert max(small.size) == 100
        assert min(small.size) >= 1
        assert small.mode == "RGB"


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({"modality": "XR", "region": "chest", "label": "XR_chest_COVID-19"}, "XR · chest · COVID-19"),
        ({"modality": "CT", "body_part": "CHEST", "region": "chest"}, "CT · chest"),
        ({"label": "normal"}, "normal"),
        ({}, ""),
    ],
)
def test_the_metadata_line_says_nothing_twice(metadata, line):
    assert sheet.caption(Hit(1, "0", 0, 0, metadata=metadata)) == line


def test_measures_and_verdicts_as_words():
    assert sheet.measure(Hit(1, "0", 1, 0.934)) == "1 bit · similarity 0.93"
    assert sheet.measure(Hit(1, "0", 12, -0.5)) == "12 bits · similarity -0.50"
    assert sheet.measure(Hit(1, "0", 12, -0.001)) == "12 bits · similarity 0.00"
    assert sheet.measure(Hit(1, "0", 0.125, 1.0)) == "12.5 % of bits · similarity 1.00"
    assert sheet.verdict(None) == ""
    assert "p < 0.001" in sheet.verdict({"is_outlier": True, "p_value": 0.0001})
    assert "known" in sheet.verdict({"is_outlier": False, "p_value": 0.41})


def test_places_in_many_rankings_are_drawn_in_full(monkeypatch):
    said = {}
    monkeypatch.setattr(sheet.ImageDraw.ImageDraw, "text", lambda pen, at, text, *more: said.update({text: at}))
    ranks = {"words": 2, "texts": 68, "pictures": 64, "image": 49}
    hit = Hit(1, "0", None, None, metadata={"modality": "CT"}, score=0.1, ranks=ranks)
    sheet.draw([Result([hit])], tile=216)
    lines = [text for text in said if any(f"{name} {place}" in text for name, place in ranks.items())]
    assert " · ".join(lines) == sheet.measure(hit) and len(lines) > 1
    heights = [said[line][1] for line in (*lines, "CT")]
    assert heights == sorted(set(heights))


def test_an_outlier_is_marked_and_long_words_do_not_leave_the_sheet():
    usual = sheet.draw([answer(1, outlier={"is_outlier": False, "p_value": 0.01})])
    strange = sheet.draw([answer(1, outlier={"is_outlier": True, "p_value": 0.01})])

    def marked(image):
        return int((np.asarray(image) == sheet.ACCENT).all(axis=2).sum())

    assert marked(strange) > marked(usual)
    named = sheet.draw([answer(1, title="x" * 500)])
    assert named.width == usual.width
