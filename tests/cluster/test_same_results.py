"""500 random queries: the results of a client are those of the archive, bit for bit."""

import asyncio

import httpx
import numpy as np
import pytest
from PIL import Image

from medlike import Archive, AsyncClient, Client, Query, Result
from medlike.service.context import Unsourced

from .conftest import OWNER, URL, application, client_of

WORDS = ("lesion", "head", "chest radiograph", "normal breast", "a fracture of the ankle", "CT of the abdomen")
# What takes long is asked less often.
KINDS = {
    "id": 0.42, "marks": 0.14, "text": 0.06, "text id": 0.06, "image": 0.18, "region": 0.05, "texts": 0.03,
    "study": 0.03, "image region": 0.03,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_regional_bundle, make_tiny_text_bundle, write_phantoms):
    """An archive with local codes, texts, patients, series, removed images, and a fit."""
    place = tmp_path_factory.mktemp("same")
    images = write_phantoms(place / "images", each=4)
    lines = (images / "manifest.csv").read_text().splitlines()
    head = f"{lines[0]},text,patient_id,study_uid".replace(",group,", ",case,")
    rows = [
        f'{line},"{WORDS[at % len(WORDS)]}, image {at}",patient {at // 3},study {at // 2}'
        for at, line in enumerate(lines[1:])
    ]
    (images / "manifest.csv").write_text("\n".join([head, *rows]))
    text_bundle = make_tiny_text_bundle(place / "text", tiny_regional_bundle)
    with Archive.create(place / "archive", tiny_regional_bundle, text_bundle=text_bundle) as archive:
        archive.add(images / "manifest.csv")
        archive.fit(64)
        archive.remove(archive.ids()[::13])
    return place / "archive"


def random_query(random, ids, folder):
    """A query and settings: any mixture that the archive answers."""
    id, *marked = (str(each) for each in random.choice(ids, 6, replace=False))
    pixels = random.integers(0, 256, (int(random.integers(40, 90)), 64), dtype=np.uint8)
    image = {
        0: lambda: pixels,
        1: lambda: pixels.astype(np.uint16) * 200,
        2: lambda: Image.fromarray(pixels),
        3: lambda: random.choice(sorted((folder.parent / "images").glob("*.png"))),
        4: lambda: pixels.astype(np.float32) / 255,
    }[int(random.integers(5))]
    kind = random.choice(list(KINDS), p=list(KINDS.values()))
    settings = {"k": int(random.integers(1, 40))}
    if random.random() < 0.3:
        settings["where"] = [
            {"modality": "CT"}, {"modality": ["CT", "MR"]}, {"label": {"ne": "nothing"}}, {"region": "head"},
        ][int(random.integers(4))]  # fmt: skip
    if kind == "texts":
        return "nearest_texts", Query(text=str(random.choice(WORDS))), settings
    if random.random() < 0.3:
        settings |= [
            {"group_by": "study", "others": 3}, {"collapse": "patient"}, {"collapse": "duplicates"},
            {"group_by": "series"},
        ][int(random.integers(4))]  # fmt: skip
    if random.random() < 0.3:
        settings["exclude_own_patient"] = True
    if random.random() < 0.3:
        settings["include_self"] = True
    if random.random() < 0.2:
        settings["codes"] = str(random.choice(["fitted", "trained"]))
    region = (8.0, 10.0, float(random.integers(30, 60)), 38.5)
    if kind == "id":
        settings["rank"] = str(random.choice(["content", "exact", "neighbours", "hamming", "radius", "shortlist"]))
        return "search", Query(id=id), settings
    if kind == "region":
        settings |= {"scales": int(random.choice([1, 3])), "region_weight": float(random.choice([1.0, 0.7]))}
        return "search", Query(id=id, region=region), settings
    if kind == "image":
        return "search", Query(image=image(), title="Asked"), settings
    if kind == "image region":
        return "search", Query(image=image(), region=(4, 4, 30, 30)), settings | {"orientations": 1}
    if kind == "text":
        return "search", Query(text=str(random.choice(WORDS))), settings | {"weights": {"words": 2.0}}
    if kind == "text id":
        return "search", Query(id=id, text=str(random.choice(WORDS))), settings
    if kind == "marks":
        return "search", Query(id=id, like=marked[:2], unlike=marked[2:4]), settings
    return "search", Query(images=[image(), image()]), {**settings, "codes": None}


def plain(result):
    facts = result.to_dict() if isinstance(result, Result) else {**result.as_dict(), "modality": result.modality}
    return {name: value for name, value in facts.items() if name != "seconds"}


def counts(info):
    """What an archive says of itself, without its bytes: the log of readings grows with each of them."""
    return {name: value for name, value in info.items() if name != "bytes"}


def test_500_random_queries_give_the_same_results(folder):
    random = np.random.default_rng(11)
    with Archive.open(folder) as archive, client_of(folder) as client:
        ids = archive.ids()
        kinds = set()
        for _ in range(500):
            verb, query, settings = random_query(random, ids, folder)
            here = getattr(archive, verb)(query, **settings, viewer=Unsourced())
            there = getattr(client, verb)(query, **settings)
            assert plain(there) == plain(here), (verb, query, settings)
            kinds.add((verb, bool(here.hits)))
        assert kinds >= {("search", True), ("nearest_texts", True)}
        again = client.repeat(there.receipt)
        assert plain(again) == plain(archive.repeat(there.receipt, Unsourced()))


def test_several_queries_are_answered_as_of_one_generation(folder):
    with Archive.open(folder) as archive, client_of(folder) as client:
        queries = [Query(id=id) for id in archive.ids()[:3]] + [Query(text="chest")]
        for settings in ({}, {"generation": 1}):
            here = archive.search_many(queries, k=4, viewer=Unsourced(), **settings)
            assert [plain(each) for each in client.search_many(queries, k=4, **settings)] == list(map(plain, here))


def test_the_asynchronous_client_gives_the_same(folder):
    async def asked(app, query, receipt, id):
        async with AsyncClient(URL, OWNER, transport=httpx.ASGITransport(app), sources=True) as client:
            return await asyncio.gather(
                client.search(query, k=7), client.search_many([query, query], k=2), client.repeat(receipt),
                client.nearest_texts(Query(text="chest"), k=3), client.browse({"modality": "CT"}, 5, 2),
                client.facets(), client.picture(id), client.ids(id[:5]), client.info(), client.archives(),
            )  # fmt: skip

    with application(folder) as app, client_of(folder, sources=True) as client:
        id = client.ids()[4]
        query = Query(id=id)
        receipt = client.search(query, k=3).receipt
        several = asyncio.run(asked(app, query, receipt, id))
        searched, many, repeated, texts, listing, facets, picture, ids, info, archives = several
        assert plain(searched) == plain(client.search(query, k=7))
        assert [plain(each) for each in many] == [plain(client.search(query, k=2))] * 2
        assert plain(repeated) == plain(client.repeat(receipt))
        assert plain(texts) == plain(client.nearest_texts(Query(text="chest"), k=3))
        assert (listing, facets) == (client.browse({"modality": "CT"}, 5, 2), client.facets())
        assert (picture == client.picture(id)).all() and ids == [id]
        assert counts(info) == counts(client.info()) and archives == client.archives()


def test_the_other_verbs_give_the_same(folder, monkeypatch):
    from medlike.cluster import searching

    monkeypatch.setattr(searching, "PAGE", 7)  # several pages
    with Archive.open(folder) as archive, client_of(folder, sources=True) as client:
        ids = archive.ids()
        assert client.ids() == ids and client.ids(ids[3][:4]) == archive.ids(ids[3][:4]) and client.ids("f" * 32) == []
        for where, limit, offset in ((None, 100, 0), ({"modality": ["CT", "US"]}, 20, 3), (None, 5, 10_000)):
            assert client.browse(where, limit, offset) == archive.browse(where, limit, offset)
        for settings in ({}, {"where": {"modality": "CT"}, "most": 2}, {"generation": 1}):
            assert client.facets(**settings) == archive.facets(**settings)
        for id in ids[:3]:
            assert (client.picture(id) == archive.picture(id)).all()
        assert counts(client.info()) == counts(archive.info()) and len(client) == len(archive)
        assert client.generation == archive.generation


def test_pictures_of_results_are_those_of_the_archive(folder):
    file = next((folder.parent / "images").glob("*.png"))
    with Archive.open(folder) as archive, client_of(folder) as client:
        for query in (Query(id=archive.ids()[0]), Query(image=file), Query(images=[np.zeros((9, 9)), file]), file):
            here, there = archive.search(query, k=2), client.search(query, k=2)
            assert (here.query_picture() == there.query_picture()).all()
            assert (here.hit_picture(here[0].id) == there.hit_picture(here[0].id)).all()
        assert client.search(Query(text="chest")).query_picture() is None
        assert there.hit_picture("0" * 32) is None
        assert client.repeat(there.receipt).hit_picture(there[0].id) is not None


def test_a_client_names_one_of_several_archives(folder, archive):
    with client_of(archive.path, folder) as first, Archive.open(folder) as second:
        assert [each["images"] for each in first.archives()] == [0, len(second)] and len(first) == 0
        with Client(f"{URL}?archive=second", OWNER, transport=first._http._transport) as named:
            assert len(named) == len(second) and named.url == f"{URL}?archive=second"
