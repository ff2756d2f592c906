"""A bundle's card says what it was made of, how good it is and where it ends."""

import pytest

from medlike.bundle import Bundle, rewrite
from medlike.errors import InputError
from medlike.training.card import model_card, table


@pytest.fixture(scope="module")
def bundle(tiny_bundle, tmp_path_factory):
    quality = {
        "query": 40, "gallery": 90, "labels": 5, "how": "mAP over the full list", "map_expected": 0.71234,
        "map_expected_content": 0.75, "map_expected_within_source": {"north": 0.5, "south": 0.625},
        "outliers": {
            "auroc": 0.99, "detected": 0.97, "detected_at_3_percent": 0.96, "false_alarms": 0.04,
            "false_alarms_by_unit": 0.031, "false_alarms_by_source": {"north": 0.0125, "west": 0.5},
            "inside": 100, "outside": 30,
        },
        "left_out": {"knee_oai": {"images": 195, "auroc": 0.91, "detected": 0.42}},
    }  # fmt: skip
    training = {
        "images": 500, "seed": 3, "recipe_name": "ours", "best_epoch": 7, "changes": {"epochs": 9},
        "sources": {
            "north": {"images": 480, "terms": ["CC BY 4.0", "not stated"]}, "south": {"images": 20, "terms": ["CC0"]},
        },
        "similarity_histogram": [[1.0] + [0.0] * 18 + [3.0], [4.0] + [0.0] * 19],
    }  # fmt: skip
    spec = {"quality": quality, "training": training, "labels": {"CT": {"chest": ["lung", "heart"]}}, "terms": "Ours."}
    return rewrite(tiny_bundle, tmp_path_factory.mktemp("card") / "carded", None, spec)


def test_the_card_holds_data_terms_quality_and_limits(bundle):
    text = model_card(bundle)
    assert "Not a medical device" in text and bundle.digest in text
    assert "| north | 480 | CC BY 4.0; not stated |" in text
    assert "| CT | chest | 2 | lung, heart |" in text
    assert "| codes | 0.712 |" in text
    assert "| north | 0.500 | 1.2% |" in text and "| west |  | 50.0% |" in text and "| south | 0.625 |  |" in text
    assert "AUROC 0.990" in text and "3.1% of known units" in text
    assert "knee_oai (195 images): AUROC 0.910, 42.0% flagged" in text
    assert "Fewer than 40 training images of south." in text
    assert "| same class | 25.0 % |" in text and "| other class | 100.0 % |" in text
    assert "| setting epochs | 9 |" in text


def test_an_evaluation_is_added(bundle):
    facts = {
        "kind": "bundle", "bits": 64, "map_expected": 0.7, "map_interval": [0.65, 0.75], "map_within_source": 0.55,
        "by_source": {"north": 0.4},
    }  # fmt: skip
    text = model_card(bundle, {"methods": {bundle.name: facts, "ITQ": facts | {"bits": None}}})
    assert f"| {bundle.name} | 64 | 0.700 | 0.650 to 0.750 | 0.550 |" in text and "| ITQ |  | 0.700 |" in text
    assert "| north | 0.400 |" in text


def test_an_evaluation_of_another_bundle_is_refused(bundle):
    with pytest.raises(InputError, match=r"do not speak of tiny-64, but of: other; evaluate this bundle"):
        model_card(bundle, {"methods": {"other": {}}})


def test_a_bundle_that_says_little_has_a_card_all_the_same(tiny_bundle):
    text = model_card(tiny_bundle)
    assert "Not measured." in text and "random numbers" in text


def test_the_shipped_bundles_have_cards():
    for name in ("medlike-compact-64", "medlike-itq-64"):
        assert "## Quality" in model_card(Bundle.load(name))


def test_bars_in_cells_are_escaped():
    assert table(("a", "b"), [("x|y", 1)]).splitlines()[-1] == "| x\\|y | 1 |"
