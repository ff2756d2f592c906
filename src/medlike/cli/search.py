"""medlike search: find the stored images most like one."""

import csv
import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medlike.cli.exits import fail
from medlike.cli.options import SHORT, ArchiveFolder, Format, archive_folder, conditions, full_id
from medlike.errors import ImageError

if TYPE_CHECKING:
    from medlike import Result

EXAMPLES = """[b]Examples[/b]

medlike search query.dcm --archive archive/

medlike search query.dcm --archive archive/ -k 20 --where modality=CT --where "age>=40" --sheet found.png

medlike search query.dcm --archive archive/ --region 40,60,120,140 --sheet found.png

medlike search --archive archive/ --id 1f0c... --group-by study --format json

medlike search query.dcm --archive archive/ --receipt receipt.json

medlike search --archive archive/ --receipt receipt.json
"""

FIELDS = ("rank", "id", "distance", "similarity", "box", "source", "modality", "region", "label")


class Rank(StrEnum):
    """The order of the hits."""

    content = "content"
    radius = "radius"
    hamming = "hamming"


class GroupBy(StrEnum):
    """What is shown as one hit."""

    series = "series"
    study = "study"


def search(
    query: Annotated[
        Path | None,
        typer.Argument(metavar="QUERY", help="The image to search for: DICOM, PNG, JPEG, TIFF, BMP or WebP."),
    ] = None,
    archive: ArchiveFolder = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Search for a stored image, by the id that a hit shows or its first digits."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            "-w",
            metavar="CONDITION",
            help="Only images for which this holds: modality=CT, modality=CT,MR, sex!=M, age>=40. Repeat it for more.",
        ),
    ] = None,
    rank: Annotated[
        Rank,
        typer.Option(
            help="content: by distance, equal ones by content; radius: all within --radius by content; "
            "hamming: by distance alone."
        ),
    ] = Rank.content,
    radius: Annotated[int | None, typer.Option(min=0, help="Only hits at most this many bits away.")] = None,
    group_by: Annotated[
        GroupBy | None,
        typer.Option("--group-by", help="One hit for each series or study: its best image, the others behind it."),
    ] = None,
    exclude_own_patient: Annotated[
        bool, typer.Option("--exclude-own-patient", help="Leave out images of the query's own patient.")
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="Search for this box of the query, in its own pixels, wherever it is in the stored images.",
        ),
    ] = None,
    orientations: Annotated[int, typer.Option(help="With --region: 8, turned and mirrored too, or 1, as it is.")] = 8,
    scales: Annotated[int, typer.Option(help="With --region: 3, also 0.7 and 1.4 times as large, or 1, as it is.")] = 3,
    region_weight: Annotated[
        float,
        typer.Option(
            "--region-weight",
            help="With --region: its share in the distance, above 0; the rest goes to the whole image.",
        ),
    ] = 1.0,
    shortlist: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --region: look only at so many images, the nearest as a whole; for very large archives.",
        ),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the receipt of the search there; without a query: repeat the search it stands for.",
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Table for people, JSON or CSV for programs.")
    ] = Format.table,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw a contact sheet: the query, the hits, their distances."),
    ] = None,
) -> None:
    """Find the stored images most like one: a file, or an image of the archive.

    Distance counts differing bits (lower is more alike); similarity is the correlation of content (higher is
    more alike).
    """
    if (query is None and id is None and receipt is None) or (query is not None and id is not None):
        raise typer.BadParameter("give one query: a file, --id of a stored image, or --receipt", param_hint="QUERY")
    chosen = conditions(where or [])
    if query is not None and not query.exists():
        fail(f"{query} does not exist; give an image file, or --id of a stored image")
    from medlike import Archive, Query
    from medlike.archive.search import repeat
    from medlike.cli.screen import note, print_json

    with Archive.open(archive_folder(archive)) as opened:
        if receipt is not None and query is None and id is None:
            result = repeat(opened, _read_receipt(receipt))
        else:
            box = None if region is None else _box(region)
            whole = Query(id=full_id(opened, id)) if id is not None else Query(image=query)
            asked = replace(whole, region=box)
            try:
                result = opened.search(
                    asked,
                    k=k,
                    where=chosen,
                    rank=rank.value,
                    radius=radius,
                    group_by=group_by.value if group_by else None,
                    exclude_own_patient=exclude_own_patient,
                    orientations=orientations,
                    scales=scales,
                    region_weight=region_weight,
                    shortlist=shortlist,
                )
            except ImageError as error:
                fail(f"{query}: {error}")
            if receipt is not None:
                written = json.dumps(result.receipt, indent=1, ensure_ascii=False)
                receipt.write_text(written + "\n", encoding="utf-8")
        if sheet is not None:
            result.sheet(sheet)
    for warning in result.warnings:
        note(f"medlike: {warning}")
    if format is Format.json:
        print_json(result.as_dict())
    elif format is Format.csv:
        _write_csv(result)
    else:
        show(result)


def _box(text: str) -> tuple[float, ...]:
    try:
        x0, y0, x1, y1 = (float(edge) for edge in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no box; write X0,Y0,X1,Y1 in pixels, for example 40,60,120,140", param_hint="--region"
        ) from None
    return x0, y0, x1, y1


def _read_receipt(file: Path) -> dict[str, Any]:
    """A receipt, or the JSON answer of a search that holds one."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fail(f"{file} does not exist; give a query to search for, and its receipt is written there")
    except ValueError:
        fail(f"{file} is no receipt: it is not JSON")
    if not isinstance(read, dict):
        fail(f"{file} is no receipt; give what --receipt or --format json has written")
    return dict(read.get("receipt", read))


def show(result: "Result", title: str | None = None) -> None:
    """Print a result as a table, the verdict on the query before it."""
    from medlike.archive.sheet import verdict
    from medlike.cli.screen import out, print_table

    console = out()
    if title:
        console.print(f"\n[b]{title}[/b]")
    if result.outlier is not None:
        style = "bold red" if result.outlier["is_outlier"] else None
        console.print(verdict(result.outlier), style=style, markup=False)
    if not result.hits:
        console.print("no hits")
        return
    # A narrow terminal shows ids as git shows commits: their first digits are enough for --id.
    narrow = console.width < 130
    facts = ("label",) if narrow else ("modality", "region", "label")
    rows = [
        (
            hit.rank,
            f"{hit.distance:g}" if hit.box is None else f"{100 * hit.distance:.1f} %",
            f"{hit.similarity:.2f}",
            *(hit.metadata.get(name) for name in facts),
            hit.id[:SHORT] if narrow else hit.id,
            _place(hit.source),
            *([f"+{hit.group_size - 1}" if hit.group_size > 1 else ""] if hit.group_size else []),
        )
        for hit in result.hits
    ]
    grouped = ("others",) if any(hit.group_size for hit in result.hits) else ()
    head = ("rank", "distance", "similarity", *facts, "id", "source", *grouped)
    print_table(head, rows, whole={"rank", "distance", "similarity", "id"})


def _place(source: Any) -> str:
    """Where the image is: its path, from here where it lies below; else its SOP instance UID."""
    if not source:
        return ""
    if not isinstance(source, dict):
        return str(source)
    path = source.get("path")
    if not path:
        return str(source.get("sop_uid") or "")
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _write_csv(result: "Result") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    for hit in result.hits:
        metadata = [hit.metadata.get(name, "") for name in FIELDS[6:]]
        box = "" if hit.box is None else " ".join(map(str, hit.box))
        writer.writerow(
            [
                hit.rank,
                hit.id,
                hit.distance,
                hit.similarity,
                box,
                _place(hit.source),
                *metadata,
            ]
        )
