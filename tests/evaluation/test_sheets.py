"""Contact sheets of a report draw only what may be shown."""

import numpy as np

from medlike.datasets import open_sample
from medlike.evaluation import sheets


def test_only_images_whose_terms_allow_it_are_drawn(outcome, collection, monkeypatch):
    drawn = []
    monkeypatch.setattr(sheets, "open_sample", lambda s: drawn.append(s) or open_sample(s))
    result = outcome[0]
    asked = []

    def near(row):
        asked.append(row)
        return np.arange(len(result.arena.gallery))

    made = sheets.contact_sheets(result.arena, result.assessments[0].pooled, near)
    assert [s.title.split(":")[0] for s in made] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    assert len(asked) == 9  # not every query's ranking
    assert drawn and all(s.licence == "CC BY 4.0" for s in drawn)
    drawn.clear()
    sheets.contact_sheets(result.arena, result.assessments[0].pooled, near, draw_all=True, each=1)
    assert {s.licence for s in drawn} == {"CC BY 4.0", "not stated"}
