"""The stored texts nearest in meaning to an image, to words, or to both."""

import json

import numpy as np
import pytest

from medlike import Query
from medlike.errors import QueryError


def test_the_nearest_texts_of_an_image(worded, tiny_text_bundle, tmp_path):
    from medlike.inference import CrossEncoder

    picture = tmp_path / "captioned" / "0001.png"
    hits = worded.nearest_texts(Query(image=picture), k=20)
    asked = worded.search(Query(image=picture), k=1)[0]
    row = worded._store.find(asked.id).row
    content = np.frombuffer(worded._store.encoding(row, worded._folder.bundle.digest).content, np.int8)
    code = CrossEncoder(tiny_text_bundle).encode(content[None], None).code[0]
    stored = worded._store.connection.execute("SELECT code FROM text_encodings").fetchall()
    assert [hit.distance for hit in hits] == sorted(
        int(np.bitwise_count(np.frombuffer(one, np.uint8) ^ code).sum()) for (one,) in stored
    )
    keys = [(hit.distance, -hit.similarity, hit.id) for hit in hits]
    assert keys == sorted(keys) and [hit.rank for hit in hits] == list(range(1, 9))
    by_id = worded.nearest_texts(Query(id=asked.id), k=20)
    assert asked.id not in {hit.id for hit in by_id} and len(by_id) == 7
    assert len(worded.nearest_texts(Query(id=asked.id), k=20, include_self=True)) == 8
    only = worded.nearest_texts(Query(text="effusion"), where={"modality": "US"})
    assert len(only) == 4


def test_nearest_texts_give_what_a_search_gives(worded, captioned, tmp_path):
    picture = tmp_path / "captioned" / "0001.png"
    searched = worded.search(Query(image=picture))
    results = [
        worded.nearest_texts(Query(image=picture), k=5),
        worded.nearest_texts(Query(id=searched[0].id), k=5, include_self=True),
        worded.nearest_texts(Query(text="effusion"), k=5, where={"modality": ("US",)}),
        worded.nearest_texts(Query(image=picture, text="effusion"), k=5),
    ]
    assert [result.outlier for result in results] == [searched.outlier, searched.outlier, None, searched.outlier]
    assert set(results[0].seconds) == {"read", "encode", "search"} and results[0].modality == searched.modality
    told = [json.loads(json.dumps(result.as_dict())) for result in results]
    worded.add(captioned(20, name="later", seed=9).parent / "manifest.csv")
    worded.remove([results[0][0].id])
    assert worded.nearest_texts(Query(image=picture), k=5).hits != results[0].hits
    for result, facts in zip(results, told, strict=True):
        assert list(facts) == ["texts", "outlier", "receipt", "seconds"]
        again = worded.repeat(facts["receipt"])
        assert again.as_dict()["texts"] == facts["texts"] and again.hits == result.hits
        assert again.outlier == result.outlier and again.warnings == () and again.erased == 0
        assert again.receipt == facts["receipt"]
    worded.remove([results[0][1].id], erase=True)
    again = worded.repeat(told[0]["receipt"])
    assert again.erased == 1 and "erased since" in again.as_dict()["warnings"][0]
    with pytest.raises(QueryError, match="of bundle 000"):
        worded.repeat(told[0]["receipt"] | {"bundle": "0" * 64})
