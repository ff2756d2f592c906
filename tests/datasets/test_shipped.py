"""The samples: whose they are."""

import csv

from medlike.datasets.shipped import ATTRIBUTION, attributions, samples


def test_attributions_name_author_terms_and_changes_once_for_all_images_of_an_author():
    with (samples() / ATTRIBUTION).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = attributions({row["path"] for row in rows})
    assert len(lines) < 20
    for row in rows:
        [line] = attributions({row["path"]})
        assert row["author"] in line and f"{row['licence']}, {row['licence_url']}" in line and row["changes"] in line
        assert any(row["author"] in line and row["licence_url"] in line for line in lines)
    assert attributions(["no such file"]) == []
