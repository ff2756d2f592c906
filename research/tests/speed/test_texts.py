"""The bench of words measures a real archive, and prints what it promises."""

from medlike_research.speed import texts


def test_it_prints_its_lines_and_finds_the_words_it_asked_for(tmp_path):
    found = texts.bench(quick=True, images=2000, tell=lambda text: None)
    names = {"text-lookup-16", "text-query", "text-query-first", "text-filter", "text-words", "text-meaning"}
    assert names <= set(found.lines)
    assert all(line.split()[0] == "seconds" for line in found.printed())
    with texts.described(tmp_path, 1500) as archive:
        result = texts._search(archive, texts.ASKED)
        assert result.weights == {"words": 1.0, "texts": 1.0, "pictures": 1.0}
        assert len(result) == texts.K and {"w2", "w5", "w40"} & set(result[0].words)
        only = texts._search(archive, texts.ASKED, where={"label": "tenth"})
        assert {hit.metadata["label"] for hit in only} == {"tenth"}
        assert not list(archive.verify())
