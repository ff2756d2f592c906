"""Searches for a region: against the codes' own regional search, in pixels, with filters, groups and receipts."""

import json

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.search import regions
from medlike.codes.templates import SCALES, Template, oriented
from medlike.codes.windows import match, share_of
from medlike.errors import QueryError


@pytest.fixture
def gallery(tmp_path, tiny_regional_bundle):
    """An archive of coarse pictures of several shapes under a bundle with local codes; (archive, pictures by id)."""
    from PIL import Image

    random = np.random.default_rng(0)
    with Archive.create(tmp_path / "archive", bundle=tiny_regional_bundle) as archive:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for number, shape in enumerate([(224, 224), (224, 160), (120, 224), (448, 448), (200, 224)] * 8):
            coarse = random.integers(0, 256, (shape[0] // 8, shape[1] // 8), dtype=np.uint8)
            Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(folder / f"{number:02}.png")
        assert archive.add(folder, pixels="copy").added == 40
        yield archive


def everything(archive):
    part = archive._indexes.images.view().parts[0]
    return (
        part, np.asarray(part.segment.array("cells")), np.asarray(part.segment.array("cell_mask")),
        [bytes(id).hex() for id in part.segment.array("ids")],
    )  # fmt: skip


def expected(archive, asked, template, k, weight=1.0):
    part, cells, masks, ids = everything(archive)
    found = match(cells, masks, template)
    shares = [
        share_of(template.codes, cells[row], template.arrangements[number], top, left)
        for row, number, top, left in zip(found.rows, found.arrangement, found.top, found.left, strict=True)
    ]
    codes, content = part.segment.array("codes"), part.segment.array("content").astype(int)
    me = ids.index(asked)
    ranked = []
    for row, near, share in zip(found.rows, found.distance, shares, strict=True):
        if row == me:
            continue
        whole = np.unpackbits(codes[row] ^ codes[me]).sum() / 64
        alike = np.float32(
            (content[row] @ content[me])
            / np.sqrt(float(content[row] @ content[row]) * float(content[me] @ content[me]))
        )
        distance, shown = (
            of if weight == 1 else weight * of + (1 - weight) * whole for of in (near, share)
        )
        ranked.append((distance, -float(alike), ids[row], shown))
    return [(id, shown) for _, _, id, shown in sorted(ranked)[:k]]


def sample(archive):
    """The cells of the 64 live images with the smallest ids."""
    part, cells, masks, ids = everything(archive)
    live = sorted(row for row in range(part.rows) if row not in part.dead)
    rows = sorted(live, key=lambda row: ids[row])[:64]
    valid = np.unpackbits(masks[rows], axis=1, count=196).astype(bool).reshape(-1, 14, 14)
    return cells[rows][valid]


def region_template(archive, asked, rows, columns, orientations=8, scales=SCALES):
    _, cells, _, ids = everything(archive)
    return Template.of(cells[ids.index(asked)][rows, columns], None, orientations, scales)


def square(archive):
    """The id of a stored image of 224 x 224 pixels."""
    return next(row.id for row in archive._store.images(range(1, 41)).values() if (row.width, row.height) == (224, 224))


@pytest.mark.parametrize("engine", [2000, 0])
def test_hits_are_those_of_the_regional_search_in_the_total_order(gallery, monkeypatch, engine):
    from medlike.codes import windows

    monkeypatch.setattr(windows, "SMALL", engine)
    monkeypatch.setattr(regions, "FIRST", 4)
    asked = square(gallery)
    for rows, columns, box in (
        (slice(2, 5), slice(6, 10), (96, 32, 160, 80)),
        (slice(0, 1), slice(0, 1), (0, 0, 3, 3)),
    ):
        template = region_template(gallery, asked, rows, columns)
        result = gallery.search(Query(id=asked, region=box), k=12, region_distance="share")
        assert [(hit.id, hit.distance) for hit in result] == expected(gallery, asked, template, 12)
        template = template.standardised(sample(gallery))
        result = gallery.search(Query(id=asked, region=box), k=12)
        assert [(hit.id, hit.distance) for hit in result] == expected(gallery, asked, template, 12)
        blended = gallery.search(Query(id=asked, region=box), k=12, region_weight=0.5)
        assert [(hit.id, hit.distance) for hit in blended] == expected(gallery, asked, template, 12, 0.5)
        template = region_template(gallery, asked, rows, columns, 1, (1.0,))
        result = gallery.search(Query(id=asked, region=box), k=12, orientations=1, scales=1)
        assert [(hit.id, hit.distance) for hit in result] == expected(gallery, asked, template, 12)
        blended = gallery.search(Query(id=asked, region=box), k=12, region_weight=0.5, orientations=1, scales=1)
        assert [hit.id for hit in blended] == [id for id, _ in expected(gallery, asked, template, 12, 0.5)]


@pytest.mark.parametrize("orientation", range(8))
@pytest.mark.parametrize(("height", "width"), [(224, 224), (448, 448), (672, 672)])
def test_a_marked_region_comes_back_as_a_box_in_the_candidates_pixels(
    tmp_path, tiny_regional_bundle, orientation, height, width
):
    # Cells see their neighbours only: two cells around the mark keep its codes the same in both images.
    random = np.random.default_rng(orientation)
    step = height // 28
    mark = random.integers(0, 256, (14, 18), dtype=np.uint8)
    query = random.integers(0, 256, (28, 28), dtype=np.uint8)
    query[4:18, 6:24] = mark
    stored = random.integers(0, 256, (28, 28), dtype=np.uint8)
    turned = np.rot90(np.fliplr(mark) if orientation >= 4 else mark, orientation % 4)
    stored[8 : 8 + turned.shape[0], 4 : 4 + turned.shape[1]] = turned
    large = stored.repeat(step, 0).repeat(step, 1)
    with Archive.create(tmp_path / "archive", bundle=tiny_regional_bundle) as archive:
        from PIL import Image

        Image.fromarray(large).save(tmp_path / "stored.png")
        archive.add(tmp_path / "stored.png")
        # One cell inside of the mark's edge, in pixels of the query, which has 224.
        box = (8 * 8, 6 * 8, 22 * 8, 16 * 8)
        result = archive.search(Query(image=query.repeat(8, 0).repeat(8, 1), region=box), k=1, scales=1)
    hit = result.hits[0]
    inner = (6 * step, 10 * step, (2 + turned.shape[1]) * step, (6 + turned.shape[0]) * step)
    if orientation == 0:
        # Shrinking a larger picture to the encoder's size blurs the mark's edges a little.
        assert hit.distance <= (0 if height == 224 else 0.02)
        assert hit.orientation == 0
        assert hit.box == pytest.approx(inner)
        assert np.nanmin(hit.agreement) > 0.9
    x0, y0, x1, y1 = hit.box
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    assert hit.size == (width, height)
    assert result.query_box == box


def test_boxes_lie_inside_images_of_every_shape(gallery):
    asked = square(gallery)
    for hit in gallery.search(Query(id=asked, region=(30, 30, 120, 100)), k=39):
        x0, y0, x1, y1 = hit.box
        assert 0 <= x0 < x1 <= hit.size[0]
        assert 0 <= y0 < y1 <= hit.size[1]
        facts = hit.as_dict()
        assert facts["orientation"] in range(8)
        assert facts["scale"] in SCALES
        assert 0 <= np.nanmin(hit.agreement) <= np.nanmax(hit.agreement) <= 1


def test_filters_groups_and_receipts_hold_for_regions_too(gallery):
    asked = square(gallery)
    query = Query(id=asked, region=(30, 30, 120, 100))
    every = gallery.search(query, k=39)
    wide = gallery.search(query, k=39, where={"width": {"lt": 200}})
    assert [hit.id for hit in wide] == [hit.id for hit in every if hit.size[0] < 200]
    grouped = gallery.search(query, k=5, group_by="study")
    assert [hit.id for hit in grouped] == [hit.id for hit in every][:5]
    shares = {hit.id: hit.distance for hit in every}
    by_series = gallery.search(query, k=5, group_by="series", others=3)
    assert all(shares[hit.id] == hit.distance for best in by_series for hit in (best, *best.others))
    receipt = json.loads(json.dumps(every.receipt))
    again = gallery.repeat(receipt)
    assert [hit.as_dict() for hit in again] == [hit.as_dict() for hit in every]
    assert not again.warnings
    assert again.query_box == every.query_box


def test_hits_of_a_region_and_words_show_the_share_too(gallery, tmp_path):
    from PIL import Image

    picture = np.random.default_rng(6).integers(0, 256, (224, 224), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "labelled.png")
    (tmp_path / "manifest.csv").write_text("path,label\nlabelled.png,lesion\n")
    gallery.add(tmp_path / "manifest.csv")
    asked, box = square(gallery), (30, 30, 120, 100)
    shares = {hit.id: hit.distance for hit in gallery.search(Query(id=asked, region=box), k=40)}
    both = gallery.search(Query(id=asked, region=box, text="lesion"), k=5)
    assert both[0].metadata["label"] == "lesion"
    assert [hit.distance for hit in both] == [shares[hit.id] for hit in both]


def test_receipts_repeat_in_the_order_that_they_were_made_in(gallery):
    asked = square(gallery)
    query = Query(id=asked, region=(30, 30, 120, 100))
    standardised, share = (gallery.search(query, k=39, region_distance=name) for name in ("standardised", "share"))
    assert [hit.id for hit in standardised] != [hit.id for hit in share]
    assert [hit.id for hit in gallery.search(query, k=39)] == [hit.id for hit in standardised]
    assert [hit.distance for hit in share] == sorted(hit.distance for hit in share)
    # One of an earlier version does not name the order; nothing but a region does.
    assert "region_distance" not in share.receipt["settings"]
    assert "region_distance" not in gallery.search(Query(id=asked)).receipt["settings"]
    assert standardised.receipt["settings"]["region_distance"] == "standardised"
    before = sample(gallery)
    for added in (False, True):
        if added:
            # The sample is of the images of then.
            gallery.remove([max(hit.id for hit in share)])
            first = min(hit.id for hit in share if hit.id != asked)
            gallery.remove([first])
            assert len(sample(gallery)) < len(before)
        for result in (standardised, share):
            again = gallery.repeat(json.loads(json.dumps(result.receipt)))
            assert [(hit.id, hit.distance, hit.box) for hit in again] == [
                (hit.id, hit.distance, hit.box) for hit in result
            ]
            assert not again.warnings


def told(result):
    return [(hit.id, hit.distance, hit.box, hit.orientation) for hit in result]


def test_a_turned_or_mirrored_query_finds_the_same(gallery):
    pixels = np.random.default_rng(3).integers(0, 256, (28, 28), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    marked = np.zeros((224, 224), bool)
    marked[32:80, 96:160] = True

    def search(orientation, **settings):
        rows, columns = np.nonzero(oriented(marked, orientation))
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        return gallery.search(Query(image=oriented(pixels, orientation), region=box), k=40, scales=1, **settings)

    upright = search(0)
    near = {hit.id: (hit.distance, hit.box) for hit in upright}
    assert len({hit.orientation for hit in upright}) > 3
    for orientation in range(1, 8):
        assert {hit.id: hit.distance for hit in search(orientation)} == {id: each for id, (each, _) in near.items()}
    rearranged = [search(orientation, region_turns="rearranged") for orientation in (0, 1)]
    assert [hit.distance for hit in rearranged[0]] != [hit.distance for hit in upright]
    assert [hit.distance for hit in rearranged[0]] != [hit.distance for hit in rearranged[1]]
    # Each orientation has its own encoding: the nearest of them all is the match.
    alone = [search(orientation, orientations=1) for orientation in range(8)]
    for id, (distance, _) in near.items():
        assert distance == min(hit.distance for result in alone for hit in result if hit.id == id)


def test_a_receipt_holds_what_the_turned_query_looks_like(gallery):
    picture = np.random.default_rng(4).integers(0, 256, (200, 224), dtype=np.uint8)
    query = Query(image=picture, region=(30, 30, 120, 100))
    encoded, rearranged = (gallery.search(query, k=39, region_turns=name) for name in ("encoded", "rearranged"))
    assert told(encoded) == told(gallery.search(query, k=39)) != told(rearranged)
    assert encoded.receipt["settings"]["region_turns"] == "encoded"
    for result in (encoded, rearranged):
        again = gallery.repeat(json.loads(json.dumps(result.receipt)))
        assert told(again) == told(result)
        assert not again.warnings
    # Receipts say nothing where nothing was turned, as those of earlier versions.
    stored = gallery.search(Query(id=square(gallery), region=(30, 30, 120, 100)), k=5)
    upright = gallery.search(query, k=5, orientations=1)
    whole = gallery.search(Query(image=picture), k=5)
    for result in (rearranged, stored, upright, whole):
        assert "region_turns" not in result.receipt["settings"]
        assert "turned" not in (result.receipt["query"]["region"] or {})


def test_the_sample_is_of_the_images_with_the_smallest_ids_of_every_part(gallery, monkeypatch, tmp_path):
    from PIL import Image

    from medlike.archive.index import cell_sample as sampled

    picture = np.random.default_rng(5).integers(0, 256, (224, 224), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "later.png")
    gallery.add(tmp_path / "later.png")
    ids = sorted(row.id for row in gallery._store.images(range(1, 42)).values())
    gallery.remove(ids[:1])
    for number in (3, 64):
        monkeypatch.setattr(sampled, "IMAGES", number)
        view = gallery._indexes.images.view()
        cells = []
        for id in ids[1 : number + 1]:
            part, at = next(
                (part, at)
                for part in view.parts
                for at in range(part.rows)
                if bytes(part.segment.array("ids")[at]).hex() == id
            )
            valid = np.unpackbits(part.segment.array("cell_mask")[at], count=196).astype(bool)
            cells.append(part.segment.array("cells")[at].reshape(196, -1)[valid])
        assert np.array_equal(sampled.cell_sample(view), np.concatenate(cells))


def test_a_shortlist_looks_only_at_the_nearest_whole_images(gallery):
    asked = square(gallery)
    whole = {hit.id for hit in gallery.search(Query(id=asked), k=6, rank="hamming")}
    query = Query(id=asked, region=(30, 30, 120, 100))
    short = gallery.search(query, k=10, shortlist=6)
    assert {hit.id for hit in short} == whole
    every = {hit.id: hit.distance for hit in gallery.search(query, k=39)}
    assert all(every[hit.id] == hit.distance for hit in short)


def test_regions_that_make_no_sense(gallery):
    asked = square(gallery)
    search = gallery.search
    with pytest.raises(QueryError, match="outside"):
        search(Query(id=asked, region=(300, 0, 400, 50)))
    with pytest.raises(QueryError, match="leave it out"):
        search(Query(id=asked, region=(0, 0, 50, 50)), rank="radius")
    with pytest.raises(QueryError, match="8, 1"):
        search(Query(id=asked, region=(0, 0, 50, 50)), orientations=4)
    with pytest.raises(QueryError, match="standardised, share"):
        search(Query(id=asked, region=(0, 0, 50, 50)), region_distance="bits")
    with pytest.raises(QueryError, match="encoded, rearranged"):
        search(Query(id=asked, region=(0, 0, 50, 50)), region_turns="none")
    with pytest.raises(QueryError, match="region_weight"):
        search(Query(id=asked, region=(0, 0, 50, 50)), region_weight=0)
    cut = search(Query(id=asked, region=(-50, 100, 50, 900)), k=2)
    assert "cut" in cut.warnings[0]
    assert cut.query_box == (0, 100, 50, 224)


def test_a_flat_region_is_warned_of(gallery):
    picture = np.random.default_rng(0).integers(0, 256, (224, 224), dtype=np.uint8)
    picture[:, 112:] = 7
    assert any(
        "flat" in warning for warning in gallery.search(Query(image=picture, region=(130, 10, 220, 90))).warnings
    )
    assert not gallery.search(Query(image=picture, region=(10, 10, 90, 90))).warnings


def test_whole_images_have_an_agreement_map_too(gallery):
    asked = square(gallery)
    hit = gallery.search(Query(id=asked), include_self=True, k=1).hits[0]
    assert hit.id == asked
    assert (hit.agreement == 1).all()
    other = gallery.search(Query(id=asked), k=30).hits[-1]
    assert 0 < np.nanmean(other.agreement) < 1


def test_boxes_and_agreement_are_drawn(gallery, tmp_path):
    from medlike.display import sheet

    asked = square(gallery)
    result = gallery.search(Query(id=asked, region=(30, 30, 120, 100)), k=3)

    def marked(image):
        return int((np.abs(np.asarray(image).astype(int) - sheet.MATCH).max(axis=2) <= 2).sum())

    assert marked(sheet.draw([result])) > 4 * 100
    assert marked(sheet.draw([gallery.search(Query(id=asked), k=3)])) == 0
    tinted, plain = (np.asarray(sheet.draw([result], agreement=each)).astype(int) for each in (True, False))
    assert (tinted != plain).any(axis=2).sum() > 500
    assert result.page().count("<img") == 4
