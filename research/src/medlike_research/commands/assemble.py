"""Assemble the folder of shipped bundles from whole bundles: one joint bundle, and views of it.

    python -m medlike_research.commands.assemble OUT [--image BUNDLE] [--text BUNDLE] [--view BUNDLE ...]
        [--arrays NAME=FILE ...] [--facts NAME=FILE ...]

The image bundle is copied as it is and gets the text bundle as its text part; of each view only what the image bundle
does not hold is kept. The same bundles give the same bytes, on every machine. Replace `src/medlike/bundle/shipped` by
OUT to ship them. Without options the shipped bundles are assembled again. A bundle with another outlier part comes from
`verdict_part`, which writes whole bundles: give its folder with `--image` or `--view`.

Parts that are no weights are replaced by name of the bundle: `--arrays` gives a safetensors file whose arrays are added
or replace those of the same name (an empty one removes it), `--facts` a JSON file of keys of bundle.json. Graph and
weights stay, so the encoder digest does: archives open with the new bundles. `former.json` gets the digests that they
had before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.numpy import load_file

from medlike import strict_json
from medlike.bundle import Bundle, default, default_text, former, rewrite, shipped
from medlike.bundle.bundle import ARRAYS, FILES, FORMER, GRAPH, SPECIFICATION, TEXT_PART, WEIGHTS
from medlike.bundle.view import divide, save_view
from medlike.errors import BundleError, InputError
from medlike.files import drafted_folder
from medlike.types import Array, JsonObject

#: By name of a bundle, new arrays and new keys of its specification.
Parts = Mapping[str, tuple[dict[str, Array], JsonObject]]


def assemble(
    out: Path, image: Bundle, text: Bundle, views: Sequence[Bundle], parts: Parts | None = None
) -> dict[str, Bundle]:
    """Write the folder of shipped bundles and return them by name.

    Args:
        out: The folder, which must not exist.
        image: The bundle that the others share tensors with.
        text: The text bundle that goes with it.
        views: Image bundles.
        parts: What to replace in them.

    Raises:
        BundleError: The text bundle goes with other images, two bundles have one name, or `parts` changes the network.
        InputError: `out` exists, or `parts` names no bundle among them.
    """
    given = [image, text, *views]
    names = [bundle.name for bundle in given]
    if len(set(names)) < len(names):
        raise BundleError(f"two bundles have one name: {', '.join(names)}")
    if text.spec["text"]["image_encoder_digest"] != image.encoder_digest:
        raise BundleError(f"{text.name} goes with other images than those of {image.name}")
    unknown = sorted(set(parts or {}) - set(names))
    if unknown:
        raise InputError(f"no bundle {unknown[0]} is assembled; the bundles are: {', '.join(names)}")
    if out.exists():
        raise InputError(f"{out} exists; choose another folder")
    with tempfile.TemporaryDirectory() as place, drafted_folder(out, 0o755) as draft:
        whole = [_with_parts(bundle, Path(place), (parts or {}).get(bundle.name)) for bundle in given]
        image, text, *views = whole
        _copy(image, draft / image.name, FILES)
        _copy(text, draft / image.name / TEXT_PART, FILES)
        source = {
            WEIGHTS: image.weights(),
            ARRAYS: {name: image.array(name) for name in image.array_names()},
        }
        for bundle in views:
            _copy(bundle, draft / bundle.name, (GRAPH,))
            files = {name: bundle.file(name) for name in (WEIGHTS, ARRAYS)}
            save_view(draft / bundle.name, divide(files, image.name, source))
        _save_former(draft / FORMER, whole)
        for path in draft.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    places = {image.name: out / image.name, text.name: out / image.name / TEXT_PART}
    return {name: Bundle.load(places.get(name, out / name), kind=None) for name in names}


def _with_parts(bundle: Bundle, place: Path, part: tuple[dict[str, Array], JsonObject] | None) -> Bundle:
    return bundle if part is None else rewrite(bundle, place / bundle.name, *part)


def _copy(bundle: Bundle, folder: Path, files: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    for name in (SPECIFICATION, *files):
        (folder / name).write_bytes(bundle.file(name))


def _save_former(file: Path, bundles: Sequence[Bundle]) -> None:
    """Write which digests the bundles had in earlier releases, as far as their graph and weights are the same."""
    before = {name: Bundle.load(name, kind=None) for name in shipped(None)}
    known = former() | {
        old.digest: {"name": old.name, "encoder_digest": old.encoder_digest} for old in before.values()
    }
    now = {bundle.name: bundle for bundle in bundles}
    kept = {
        digest: facts
        for digest, facts in known.items()
        if (new := now.get(facts["name"])) is not None
        and new.encoder_digest == facts["encoder_digest"]
        and new.digest != digest
    }
    file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--image", default=default(), help="name or folder of the image bundle")
    parser.add_argument("--text", default=default_text(), help="name or folder of its text bundle")
    parser.add_argument("--view", action="append", help="name or folder of a view; repeatable")
    parser.add_argument("--arrays", action="append", default=[], metavar="NAME=FILE", help="arrays of a bundle")
    parser.add_argument("--facts", action="append", default=[], metavar="NAME=FILE", help="keys of its bundle.json")
    given = parser.parse_args(arguments)
    views = given.view or [name for name in shipped() if name != default()]
    made = assemble(
        given.out,
        Bundle.load(given.image),
        Bundle.load(given.text, kind="text"),
        [Bundle.load(view) for view in views],
        _parts(given.arrays, given.facts),
    )
    for name, bundle in made.items():
        folder = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
        print(f"{name}: {folder / 1e6:.2f} MB in its folder, digest {bundle.digest}, encoder {bundle.encoder_digest}")
    print(f"{given.out}: {sum(file.stat().st_size for file in given.out.rglob('*') if file.is_file()) / 1e6:.2f} MB")


def _parts(arrays: Sequence[str], facts: Sequence[str]) -> dict[str, tuple[dict[str, Array], JsonObject]]:
    parts: dict[str, tuple[dict[str, Array], JsonObject]] = {}
    for given in arrays:
        name, _, file = given.partition("=")
        parts.setdefault(name, ({}, {}))[0].update(load_file(file))
    for given in facts:
        name, _, file = given.partition("=")
        parts.setdefault(name, ({}, {}))[1].update(strict_json.read(Path(file)))
    return parts


if __name__ == "__main__":
    main()
