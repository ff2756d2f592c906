import re
from html.parser import HTMLParser

import numpy as np

from medlike import Hit, Result
from medlike.archive.search.result import ResultPictures
from medlike.display import page

PICTURE = np.zeros((20, 30), np.uint8)


def answer(**more):
    hits = [
        Hit(1, "a" * 32, 3, 0.9, metadata={"label": "<script>alert(1)</script>", "modality": "CT"}),
        Hit(2, "b" * 32, 4, 0.8, group_size=5),
    ]
    return Result(
        hits, title='query "1" & <b>2</b>', **more,
        pictures=ResultPictures(lambda: PICTURE, lambda id: PICTURE if id[0] == "a" else None),
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_nothing_is_fetched_and_nothing_runs():
    text = page.page([answer(), answer()], title="two & three")
    tags = Tags(text)
    assert not tags.open
    assert not [tag for tag, _ in tags.found if tag in ("script", "link", "iframe", "object")]
    for _, attributes in tags.found:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith("data:image/")
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text


def test_what_images_say_of_themselves_is_escaped():
    text = page.page([answer()])
    assert "<script>" not in text
    assert "<b>2</b>" not in text
    assert "&lt;script&gt;" in text


def test_queries_hits_verdicts_and_notice_are_there():
    said = {"is_outlier": True, "p_value": 0.002, "score": 1.0, "threshold": 0.03}
    text = page.page([answer(outlier=said, warnings=("mind this",), modality="CT")])
    assert "3 bits" in text
    assert "Outlier" in text
    assert "mind this" in text
    assert "seen as" not in text, "what an outlier looks like is no knowledge"
    assert "seen as CT" in page.page([answer(modality="CT")])
    assert "+4" in text
    assert "picture missing" in text
    assert "not a medical device" in text
    assert text.count("<img") == 2


def test_no_hits_are_said():
    assert "No hits" in page.page([Result([])])


def test_a_notebook_shows_the_pictures():
    text = answer()._repr_html_()
    assert text.count("data:image/jpeg;base64,") == 2
    assert "<html" not in text
    assert not Tags(text).open
