"""An archive whose rows are written directly, so that tests choose codes, contents and metadata."""

import hashlib
import json

import numpy as np
import pytest

from medlike import Archive
from medlike.archive.storage.identity import LINKS_SINCE
from medlike.archive.storage.rows import EncodingRow, NewImage

DEFAULTS = {
    "width": 64, "height": 48, "frame": 0, "frames": 1, "kind": "reference", "preview": None,
    "facts": {"photometry": None, "spacing": None, "boxes": None},
}  # fmt: skip


class Population:
    """Rows put straight into an archive's store, and the same rows in memory for the naive twin."""

    def __init__(self, archive, seed=0):
        self.archive = archive
        self.store = archive._store
        self.bundle = archive._folder.bundle
        self.random = np.random.default_rng(seed)
        # Durability is tested elsewhere; here it would cost most of the time.
        self.store.connection.execute("PRAGMA synchronous=OFF")
        # None of these images ever has a link to where it came from.
        self.store.connection.execute("INSERT INTO settings VALUES (?, ?)", (LINKS_SINCE, str(1 << 62)))
        self.number = 0
        self.rows = {}  # id -> dict(code, content, columns, metadata, added, removed)
        self.centres = self.random.integers(0, 256, (6, self.bundle.bits // 8), dtype=np.uint8)

    def code(self, flips=0.02):
        """A code near one of a few centres: ties are the rule."""
        code = self.centres[self.random.integers(len(self.centres))].copy()
        return code ^ np.packbits(self.random.random(self.bundle.bits) < flips)

    def content(self):
        return self.random.integers(-127, 128, self.bundle.content_dim).astype(np.int8)

    def add(self, number, codes=None, contents=None, cells=None, **columns):
        """Commit images in one generation; a column is a value for all, or a list of one each. Their ids."""
        ids = []
        with self.store.commit("add") as commit:
            for at in range(number):
                self.number += 1
                id = hashlib.sha256(b"%d" % self.number).hexdigest()[:32]
                own = {
                    name: value[at] if isinstance(value, list) else value for name, value in columns.items()
                }
                metadata = {name: value for name, value in own.items() if value is not None}
                metadata.pop("study", None), metadata.pop("series", None), metadata.pop("patient", None)
                extra = own.pop("extra", None)
                if extra is not None:
                    del metadata["extra"]
                    metadata |= extra
                code = self.code() if codes is None else codes[at]
                content = self.content() if contents is None else contents[at]
                given = DEFAULTS | own | {"id": id, "pixels": id * 2, "metadata": metadata}
                local = None
                if cells is not None:
                    local = cells[at].tobytes()
                elif self.bundle.local_bits:
                    local = self.random.bytes(14 * 14 * self.bundle.local_bits // 8)
                row = commit.add(
                    NewImage(given, EncodingRow(code.tobytes(), content.tobytes(), local, b"\xff" * 25)),
                    self.bundle.digest,
                )
                self.rows[id] = {
                    "row": row, "code": code, "content": content, "cells": local, "added": commit.generation,
                    "removed": None, "metadata": json.loads(json.dumps(metadata)), **given,
                }  # fmt: skip
                ids.append(id)
        return ids

    def remove(self, ids):
        with self.store.commit("remove") as commit:
            for id in ids:
                assert commit.remove(id)
                self.rows[id]["removed"] = commit.generation

    def restart(self, seed):
        """Take everything out, and draw anew: for tests that fill the same archive again and again."""
        self.random = np.random.default_rng(seed)
        if self.alive():
            self.remove(list(self.alive()))

    def alive(self, generation=None):
        """Images that live now or as of a generation, by id."""
        if generation is None:
            return {id: row for id, row in self.rows.items() if row["removed"] is None}
        return {
            id: row
            for id, row in self.rows.items()
            if row["added"] <= generation and (row["removed"] is None or row["removed"] > generation)
        }

    def distance(self, code, id):
        return int(np.unpackbits(self.rows[id]["code"] ^ code).sum())

    def similarity(self, content, id):
        a, b = content.astype(np.int64), self.rows[id]["content"].astype(np.int64)
        product = int((a * a).sum() * (b * b).sum())
        return float(np.float32(int((a * b).sum()) / np.sqrt(float(product)))) if product else 0.0

    def expected(
        self, code, content, k, rank="content", radius=None, accepts=lambda id: True, generation=None
    ):
        """The naive twin of a search: (id, distance, similarity) in the total order."""
        found = []
        for id in self.alive(generation):
            near, alike = self.distance(code, id), self.similarity(content, id)
            if accepts(id) and (radius is None or near <= radius):
                key = {"content": (near, -alike, id), "hamming": (near, id), "radius": (-alike, near, id)}[
                    rank
                ]
                found.append((key, (id, near, alike)))
        return [answer for _, answer in sorted(found)][:k]


@pytest.fixture
def population(tmp_path, tiny_bundle):
    """An empty archive under a tiny bundle, to be filled row by row."""
    with Archive.create(tmp_path / "archive", bundle=tiny_bundle) as archive:
        yield Population(archive)


@pytest.fixture(scope="session")
def encoder(tiny_bundle):
    """The tiny bundle, loaded once for all archives of the tests."""
    from medlike.inference import Encoder

    with Encoder(tiny_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture
def pictures(tmp_path):
    """Makes a folder of different grey PNG files: pictures(count, seed=0, name="pictures") -> its path."""
    from PIL import Image

    def make(count, seed=0, name="pictures"):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(seed)
        for i in range(count):
            coarse = random.integers(0, 256, (8, 8)).astype(np.uint8)
            Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(folder / f"{i:04}.png")
        return folder

    return make


@pytest.fixture
def scan(tmp_path):
    """Writes a small CT slice as DICOM: scan(name, seed=0, **elements) -> its path."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def make(name, seed=0, **elements):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset(str(tmp_path / name), {}, file_meta=meta, preamble=b"\0" * 128)
        values = {
            "SOPClassUID": CTImageStorage, "SOPInstanceUID": generate_uid(),
            "StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(),
            "Modality": "CT", "PatientName": "Doe^Jane",
            "PatientID": "P-4711", "StudyDate": "20240229", "Rows": 32, "Columns": 32, "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
            "PixelRepresentation": 1, "RescaleSlope": "1", "RescaleIntercept": "-1024",
        }  # fmt: skip
        for keyword, value in (values | elements).items():
            setattr(data, keyword, value)
        meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        pixels = np.random.default_rng(seed).integers(0, 2000, (32, 32)).astype("<i2")
        data.PixelData = pixels.tobytes()
        pydicom.dcmwrite(tmp_path / name, data)
        return tmp_path / name

    return make


@pytest.fixture
def archive(tmp_path, tiny_bundle, encoder):
    """An empty archive under the tiny bundle."""
    with Archive.create(tmp_path / "an archive", tiny_bundle, encoder=encoder) as made:
        yield made


CAPTIONS = (
    "Left pleural effusion in an upright chest radiograph.",
    "Fetal head, axial plane.",
    "No effusion. Normal chest radiograph, PA projection.",
    "Replace this - DESCRIPTION OF THE IMAGE.",
    "Small pneumothorax on the right, seen by Dr. Smith on 2024-02-29.",
)


@pytest.fixture
def captioned(tmp_path, pictures):
    """Writes pictures with a manifest: captioned(count=10, name="captioned", seed=0) -> the manifest's path."""
    import csv

    def make(count=10, name="captioned", seed=0):
        folder = pictures(count, seed=seed, name=name)
        with (folder / "manifest.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "text", "modality", "group", "grade"])
            for at in range(count):
                caption = CAPTIONS[at % len(CAPTIONS)]
                writer.writerow([f"{at:04}.png", caption, ("XR", "US")[at % 2], f"patient {at // 2}", at % 3])
        return folder / "manifest.csv"

    return make


@pytest.fixture
def worded(tmp_path, tiny_bundle, tiny_text_bundle, encoder, captioned):
    """An archive of ten captioned pictures under the tiny bundles."""
    with Archive.create(tmp_path / "worded", tiny_bundle, encoder=encoder, text_bundle=tiny_text_bundle) as made:
        made.add(captioned())
        yield made
