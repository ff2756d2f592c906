"""What people wrote for 0.1.0 still runs, or the changelog says what to write instead."""

import inspect
import re
from pathlib import Path

import pytest
import typer

import medlike
from medlike.archive.search.settings import SearchSettings
from medlike.cli.app import build

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")

# Commands of 0.1.0 and their options.
COMMANDS = {
    "backup": "--archive --format --links --passphrase-file --with-id-key -a -f",
    "bench encode": "--format --images --quick -f",
    "bench growth": "--format --images --quick -f",
    "bench hamming": "--format --images --quick -f",
    "bench ingest": "--format --images --quick -f",
    "bench memory": "--format --images --quick -f",
    "bench regions": "--format --images --quick -f",
    "bench startup": "--format --images --quick -f",
    "bench text": "--format --images --quick -f",
    "bench train": "--device --format --preset --protocol --quick -f",
    "bundle card": "--out --results",
    "bundle info": "--format -f",
    "calibrate": "--bundle --data --format --out --replace -b -f",
    "commission": "--bundle --data --format --out -b -f",
    "compact": "--archive --format -a -f",
    "demo": "",
    "evaluate": (
        "--bundle --codes --data --draw-all --everything --floors --format --k --labels --minimum --no-floors "
        "--out --query-codes --query-labels --query-units --split --units -b -f"
    ),
    "index": (
        "--archive --bundle --format --frames --keep-identifiers --pixels --segmentations --shared --text-bundle "
        "-a -b -f"
    ),
    "info": "--archive --format -a -f",
    "model info": "--bits --classes --format -f",
    "reindex": "--archive --bundle --format --text-bundle -a -b -f",
    "remove": "--archive --erase --format --yes -a -f -y",
    "restore": "--archive --key --passphrase-file -a",
    "search": (
        "--archive --exclude-own-patient --format --group-by --id --orientations --radius --rank --receipt "
        "--region --region-weight --scales --sheet --shortlist --text --texts --title --weight --where -a -f -k "
        "-t -w"
    ),
    "study": (
        "--bits --bundle --data --device --dry-run --epochs --folds --limit --only --out --preset --seeds --split "
        "--stem --work -b"
    ),
    "text install": "--from",
    "train": (
        "--bits --cache --data --device --epochs --image-bundle --leave-out --loss --name --out --recipe "
        "--replace --resume --seed --set --split --stage --start --stem --work"
    ),
    "triage": "--all --bundle --format --threshold -b -f",
    "verify": "--archive --format -a -f",
}
# Calls of 0.1.0 and their parameters.
CALLS = {
    "Archive": "folder encoder",
    "Archive.add": "sources pixels frames progress threads segmentations",
    "Archive.backup": "target links passphrase with_id_key",
    "Archive.create": "path bundle keep_identifiers encoder text_bundle shared",
    "Archive.drain": "frames progress",
    "Archive.nearest_texts": "query k",
    "Archive.open": "path bundle encoder",
    "Archive.picture": "id",
    "Archive.receive": "data name metadata texts identifiers",
    "Archive.reindex": "bundle progress drop_lost encoder text_bundle",
    "Archive.remove": "ids erase",
    "Archive.repeat": "receipt",
    "Archive.restore": "source path passphrase encoder key",
    "Archive.search": "query k where rank radius group_by exclude_own_patient",
    "Archive.search_many": "queries k",
    "Archive.source": "id",
    "Archive.sources": "ids",
    "Bundle": "path spec",
    "Bundle.array": "name",
    "Bundle.load": "name_or_path kind",
    "Hit": (
        "rank id distance similarity box metadata source others group_size orientation scale size texts score "
        "ranks words snippet agreement"
    ),
    "Query": "image id region text title",
    "Result": "hits outlier receipt seconds modality warnings erased title query_box query_size query_text weights",
    "Result.hit_picture": "id",
    "Result.page": "path",
    "Result.sheet": "path",
    "Result.to_json": "indent",
}
# Names of 0.1.0 that take nothing.
NAMES = [
    "Archive.close", "Archive.compact", "Archive.info", "Archive.path", "Archive.verify", "Bundle.array_names",
    "Bundle.bits", "Bundle.bytes", "Bundle.content_dim", "Bundle.digest", "Bundle.encoder_digest",
    "Bundle.golden_bits", "Bundle.golden_inputs", "Bundle.graph", "Bundle.kind", "Bundle.local_bits",
    "Bundle.modalities", "Bundle.name", "Bundle.outputs", "Bundle.preset", "Bundle.verify", "Bundle.weights",
    "Hit.agreement", "Hit.as_dict", "Hit.box", "Hit.group_size", "Hit.orientation", "Hit.others", "Hit.scale",
    "Hit.score", "Hit.size", "Hit.snippet", "Hit.source", "Hit.words", "MedlikeError", "Query.id", "Query.image",
    "Query.read", "Query.region", "Query.text", "Query.title", "Result.HITS", "Result.as_dict", "Result.erased",
    "Result.in_words_only", "Result.modality", "Result.outlier", "Result.query_box", "Result.query_picture",
    "Result.query_size", "Result.query_text", "Result.title", "Result.warnings", "Result.weights", "__version__",
    "samples",
]  # fmt: skip
# Attributes of an archive that are gone.
GONE = [
    "bundles", "crossing", "encoder", "folder", "identity", "index", "indexes", "links", "pixels", "spool",
    "store",
]  # fmt: skip


def command(path):
    found = typer.main.get_command(build())
    for name in path.split():
        found = found.get_command(typer.Context(found), name)
        assert found is not None, path
    return found


def value(name):
    found = medlike
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("path", COMMANDS)
def test_a_former_command_has_its_options(path):
    options = {name for each in command(path).params for name in (*each.opts, *each.secondary_opts)}
    assert options >= set(COMMANDS[path].split())


@pytest.mark.parametrize("name", CALLS)
def test_a_former_call_takes_its_arguments(name):
    parameters = set(inspect.signature(value(name)).parameters)
    if name == "Archive.search":  # the changelog says that these are keywords now
        parameters |= set(SearchSettings.__annotations__)
    assert parameters >= set(CALLS[name].split())


@pytest.mark.parametrize("name", NAMES)
def test_a_former_name_is_there(name):
    assert hasattr(medlike, name) if "." not in name else hasattr(value(name.split(".")[0]), name.split(".")[1])


@pytest.mark.parametrize("name", GONE)
def test_the_changelog_replaces_what_is_gone(name):
    assert not hasattr(medlike.Archive, name)
    section = CHANGELOG.partition("## 0.2.0")[2].partition("## 0.1.0")[0]
    former, new = re.search(rf"^  \| (.*`archive\.{name}\b.*?) \| (.+) \|$", section, re.MULTILINE).groups()
    for call in re.findall(r"archive\.(\w+)", new):
        assert call == "search" or hasattr(medlike.Archive, call), former
