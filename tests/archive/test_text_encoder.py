"""Every image and text has the cross-modal code that the text bundle gives."""

import numpy as np

from medlike.archive.index.segment import UNIT


def test_every_image_and_text_has_the_code_that_the_bundle_gives(worded, tiny_text_bundle):
    from medlike.inference import CrossEncoder, SentenceEncoder

    crosses = CrossEncoder(tiny_text_bundle)
    rows = list(worded._store.rows(worded._folder.bundle.digest))
    content = np.stack([np.frombuffer(encoding.content, np.int8) for _, encoding in rows])
    expected = crosses.encode(content, None)
    for (image, _), code, embedding in zip(rows, expected.code, expected.embedding, strict=True):
        stored = worded._store.encoding(image.row, tiny_text_bundle.digest)
        assert stored.code == code.tobytes()
        assert np.allclose(np.frombuffer(stored.content, "<i2") / UNIT, embedding, atol=1 / UNIT)
    sql = "SELECT text, code FROM texts JOIN text_encodings USING (number)"
    found = worded._store.connection.execute(sql).fetchall()
    assert len(found) == 8
    with SentenceEncoder.load() as sentences:
        codes = crosses.encode(None, sentences.encode([text for text, _ in found])).code
    assert [code for _, code in found] == [code.tobytes() for code in codes]
