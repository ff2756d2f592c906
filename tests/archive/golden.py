"""Write tests/archive/golden.json: what searches of the samples answer. Run it only to take a new state as right.

    .venv/bin/python tests/archive/golden.py
"""

import json
import secrets
import sys
import tempfile
from pathlib import Path

import medlike
from medlike import Archive, Query

FILE = Path(__file__).with_suffix(".json")
KEY = "5e" * 32  # the id key of the archive, so that ids and the order of ties are the same each time


def answers(folder, earlier):
    """Index the samples and search them. Returns codes by file name, and results by name.

    earlier: results of receipts that an earlier version made otherwise; they are repeated.
    """
    drawn = secrets.token_hex
    secrets.token_hex = lambda size=32: KEY if size == 32 else drawn(size)
    try:
        archive = Archive.create(folder, text_bundle=None)
    finally:
        secrets.token_hex = drawn
    samples = medlike.samples()
    with archive:
        archive.add(samples / "manifest.csv")
        stored = archive.search_many([Query(image=file) for file in sorted(samples.glob("images/**/*.*"))[::9]], k=1)
        ids = sorted({result[0].id for result in stored})
        images = sorted((samples / "queries").glob("*.*"))
        codes = {file.name: archive.search(Query(image=file), k=1).receipt["query"]["code"] for file in images}
        found = {}
        for number, image in enumerate(images):
            for rank in ("content", "radius", "hamming"):
                found[f"image {number} {rank}"] = archive.search(Query(image=image), k=8, rank=rank)
            query = Query(image=image, region=(20, 30, 120, 140))
            found[f"region {number}"] = archive.search(query, k=5, region_distance="share", region_turns="rearranged")
        for number, id in enumerate(ids[:4]):
            found[f"id {number}"] = archive.search(Query(id=id), k=8)
            found[f"id {number} XR"] = archive.search(Query(id=id), k=8, where={"modality": "XR"})
            query = Query(id=id, region=(10, 10, 90, 70))
            found[f"id {number} region"] = archive.search(query, k=5, scales=1, region_distance="share")
        for words in ("chest radiograph", "fetal head", "mass"):
            found[f"words {words}"] = archive.search(Query(text=words), k=5)
            found[f"words {words}, image"] = archive.search(Query(text=words, image=images[0]), k=5)
        for name, result in earlier.items():
            found[f"earlier {name}"] = archive.repeat({**result["receipt"], "generation": archive.info()["generation"]})
        return codes, {name: facts(result) for name, result in found.items()}


def facts(result):
    """What of a result must stay as it is, to the bit."""
    hits = []
    for hit in result.hits:
        shown = hit.as_dict()
        # Where the image lies, and what came later than the file.
        for name in ("source", "label_share", "neighbour_share"):
            shown.pop(name, None)
        hits.append(shown)
    # Not the generation: groups are committed after a second too, so their number follows the machine.
    receipt = {name: result.receipt[name] for name in ("bundle", "settings", "query", "answer")}
    return json.loads(json.dumps({"hits": hits, "outlier": result.outlier, "receipt": receipt}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        earlier = json.loads(FILE.read_text())["earlier"]
        codes, results = answers(Path(place) / "archive", earlier)
    results = {name: result for name, result in results.items() if not name.startswith("earlier ")}
    FILE.write_text(
        json.dumps({"codes": codes, "earlier": earlier, "results": results}, indent=0, sort_keys=True) + "\n"
    )
    print(f"{len(results)} results in {FILE}", file=sys.stderr)
