"""The vocabulary of expressions that mean the same."""

import pytest

from medlike.imaging.paraphrases import found, meanings, normal, variants


def test_the_vocabulary_is_sound():
    whole = [expression for meaning in meanings() for expression in meaning.says if expression not in meaning.context]
    assert len(meanings()) > 80 and len(whole) == len(set(whole)), "an expression of two meanings has a context in each"
    for meaning in meanings():
        assert len(set(meaning.says)) == len(meaning.says) > 1, meaning
        assert meaning.says[0] not in {*meaning.context, *meaning.capitals}, "the first is written out"
        assert {*meaning.context, *meaning.capitals} <= {*meaning.says}, meaning
        words = {word for around in meaning.context.values() for word in around}
        assert all(normal(word) == word and " " not in word for word in words), meaning
    ambiguous = [key for meaning in meanings() for key in meaning.context]
    for key in ambiguous:
        contexts = [meaning.context[key] for meaning in meanings() if key in meaning.says]
        assert contexts and all(context and key not in context for context in contexts)


@pytest.mark.parametrize(
    ("text", "expression", "written"),
    [
        ("CXR pneumonia", "cxr", "chest radiograph"),
        ("Chest X-ray, frontal", "chest x ray", "chest radiograph"),
        ("MRI brain", "mri", "magnetic resonance imaging"),
        ("MR brain", "mr", "magnetic resonance imaging"),
        ("mitral MR", "mr", "mitral regurgitation"),
        ("CT abdomen", "ct", "computed tomography"),
        ("US thyroid", "us", "ultrasound"),
        ("mammo left", "mammo", "mammogram"),
        ("AP chest", "ap", "anteroposterior"),
        ("PA hypertension", "pa", "pulmonary artery"),
        ("consolidation LLL", "lll", "left lower lobe"),
        ("CTPA for PE", "pe", "pulmonary embolism"),
    ],
)
def test_expressions_are_found_with_their_meaning(text, expression, written):
    one = next(one for one in found(text) if one.expression == expression)
    assert one.meaning.says[0] == written and normal(text[one.start : one.end]) == expression
    assert one.others and expression not in one.others


@pytest.mark.parametrize("text", ["PE", "PA", "MS", "chest PA hypertension", "RA"])
def test_an_ambiguous_abbreviation_without_one_clear_meaning_is_not_expanded(text):
    unclear = [one for one in found(text) if one.meaning is None]
    assert unclear and not unclear[0].others and len(unclear[0].possible) > 1


def test_ordinary_words_are_abbreviations_in_capitals_only():
    assert [one.expression for one in found("show us a pet with flair")] == []
    assert [one.expression for one in found("US PET FLAIR")] == ["us", "pet", "flair"]
    # What stands in a text may be the ordinary word: it is no paraphrase of anything.
    assert "us" not in found("ultrasound")[0].others and "ms" not in found("multiple sclerosis")[0].others


def test_variants_replace_one_expression_each():
    made = list(variants("Portable CXR: LLL collapse"))
    assert "Portable chest radiograph: LLL collapse" in made
    assert "Portable CXR: left lower lobe collapse" in made
    assert "Portable chest radiograph: left lower lobe collapse" not in made
    assert list(variants("nothing of that kind")) == []
