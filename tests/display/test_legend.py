"""What numbers mean is said beside them, and what was judged of query and archive."""

import numpy as np
import pytest

from medlike import Hit, Result
from medlike.archive.search.familiarity import Familiarity
from medlike.archive.search.result import ResultPictures
from medlike.display import legend, page, sheet

PICTURE = np.zeros((20, 30), np.uint8)
STRANGE = Familiarity(False, 0.21, 0.9, 0.01, 300)
OUTLIER = {"is_outlier": True, "p_value": 0.004}


def answer(*hits, **more):
    return Result(list(hits), pictures=ResultPictures(lambda: PICTURE, lambda id: PICTURE), **more)


@pytest.mark.parametrize(
    ("result", "terms"),
    [
        (answer(Hit(1, "a", 3, 0.9)), ["bits", "similarity"]),
        (answer(Hit(1, "a", 0.25, 0.9, box=(0, 0, 9, 9))), ["% of bits", "similarity"]),
        (answer(Hit(1, "a", 3, 0.9, score=0.5, ranks={"words": 1})), ["places"]),
        (answer(Hit(1, "a", 3, 0.9), outlier=OUTLIER), ["bits", "similarity", "p"]),
        (answer(outlier=OUTLIER, familiarity=STRANGE), ["similarity", "p", "usual here"]),
        (answer(), []),
    ],
)
def test_the_legend_has_the_terms_that_are_used(result, terms):
    assert [term for term, _ in legend.legend([result])] == terms
    text = page.page([result])
    for term, meaning in legend.legend([result]):
        assert f"<dt>{term}</dt>" in text and meaning.replace("'", "&#39;") in text
        assert f"<dt>{term}</dt>" in result._repr_html_()


@pytest.fixture
def written(monkeypatch):
    """The texts that are drawn, with their colours."""
    texts = []
    draw = sheet.ImageDraw.ImageDraw.text

    def note(pen, at, text, fill, font):
        texts.append((text, fill, at[0] + font.getlength(text), pen.im.size[0]))
        draw(pen, at, text, fill, font)

    monkeypatch.setattr(sheet.ImageDraw.ImageDraw, "text", note)
    return texts


def test_a_sheet_has_the_legend_and_the_judgements(written):
    sheet.draw([answer(Hit(1, "a" * 32, 3, 0.9), outlier=OUTLIER, familiarity=STRANGE)])
    texts = " ".join(text for text, *_ in written)
    assert "Nothing alike in this archive: similarity 0.21, and 0.90 is usual here" in texts
    assert "0.4 % of known images are at least as unusual (p = 0.004)" in texts
    for term, meaning in (("bits", legend.BITS), ("p", legend.P), ("usual here", legend.USUAL)):
        assert f"{term}: {meaning}" in texts
    assert [fill for text, fill, *_ in written if text.startswith("Nothing alike")] == [sheet.ACCENT]


def test_long_labels_wrap_and_stay_on_their_tile(written):
    label = "a_label_of_many_words_" * 3 + "x" * 90
    hit = Hit(1, "a" * 32, 3, 0.9, metadata={"label": label})
    sheet.draw([answer(hit, Hit(2, "b" * 32, 3, 0.9))], tile=150)
    lines = [text for text, *_ in written if text.startswith(("a label", "words", "many", "label", "xx"))]
    assert len(lines) == 3 and lines[-1].endswith("…")
    assert all(end <= width for _, _, end, width in written)
    short = sheet.draw([answer(Hit(1, "a" * 32, 3, 0.9, metadata={"label": "x"}))] * 2)
    assert sheet.draw([answer(Hit(1, "a" * 32, 3, 0.9, metadata={"label": label}))] * 2).height >= short.height
    assert "white-space:nowrap" not in page.page([answer(hit)])


def test_the_query_itself_is_marked(written, capsys):
    from medlike.cli.answers import show

    itself = Hit(1, "a" * 32, 0, 1.0, itself=True, label_share=0.83)
    result = answer(itself, Hit(2, "b" * 32, 3, 0.9, label_share=0.71), familiarity=STRANGE)
    sheet.draw([result])
    assert [text for text, *_ in written].count("the query itself") == 1
    assert page.page([result]).count("the query itself") == 1
    show(result)
    printed = capsys.readouterr().out
    assert printed.count("(the query itself)") == 1
    # Of one image it says nothing how many pairs share a label.
    assert [text for text, *_ in written if "83 %" in text] == [] and "83 %" not in printed + page.page([result])
    assert any("71 %" in text for text, *_ in written) and "71 %" in page.page([result])
    assert "Nothing alike in this archive" in printed


@pytest.mark.parametrize("asked", [{"query_text": "a word"}, {"query_box": (0.0, 0.0, 4.0, 4.0)}])
def test_what_is_not_judged_is_said(written, capsys, asked):
    from medlike.cli.answers import show

    result = answer(Hit(1, "a" * 32, 0, 1.0), **asked)
    sentence = f"whole images only, not for {'words' if 'query_text' in asked else 'a region'}"
    sheet.draw([result])
    assert sentence in " ".join(text for text, *_ in written)
    assert sentence in page.page([result])
    show(result)
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_attributions_stand_at_the_end_of_a_page():
    text = page.page([answer()], attributions=["A. Author; <terms>"])
    assert text.index("<h2>Images</h2>") < text.index("<li>A. Author; &lt;terms&gt;</li>")
    assert "<h2>Images</h2>" not in page.page([answer()])


def test_a_mirror_image_is_marked(written, capsys):
    from medlike.cli.answers import show

    words = "mirror image of the query"
    result = answer(Hit(1, "a" * 32, 0, 1.0, mirrored=True), Hit(2, "b" * 32, 3, 0.9), familiarity=STRANGE)
    sheet.draw([result], tile=300)
    assert [text for text, *_ in written].count(words) == 1
    assert page.page([result]).count(words) == 1
    show(result)
    assert capsys.readouterr().out.count(f"({words})") == 1
    assert [hit.get("mirrored") for hit in result.as_dict()["hits"]] == [True, None]
