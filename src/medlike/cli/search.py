"""medlike search: find the stored images most similar to a query."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from medlike import strict_json
from medlike.cli.answers import show, show_texts, write_csv, write_texts_csv
from medlike.cli.exits import fail
from medlike.cli.options import ArchiveFolder, Format, archive_folder, conditions, full_id, refuse
from medlike.errors import ImageError
from medlike.escaping import printable_json

EXAMPLES = """[b]Examples[/b]

medlike search query.dcm --archive archive/

medlike search query.dcm --archive archive/ -k 20 --where modality=CT --where "age>=40" --sheet found.png

medlike search query.dcm --archive archive/ --region 40,60,120,140 --sheet found.png

medlike search --archive archive/ --id 1f0c... --group-by study --format json

medlike search --archive archive/ --text "left pleural effusion"

medlike search query.dcm --archive archive/ --text "left pleural effusion" --weight image=2 --sheet found.png

medlike search query.dcm --archive archive/ --texts

medlike search query.dcm --archive archive/ --receipt receipt.json

medlike search --archive archive/ --receipt receipt.json
"""


class Rank(StrEnum):
    """The order of the hits."""

    content = "content"
    radius = "radius"
    hamming = "hamming"


class GroupBy(StrEnum):
    """What is shown as one hit."""

    series = "series"
    study = "study"


# What asks for images and says how; a receipt holds all of it, and of texts only the first `k` under `where` are asked.
_OF_IMAGES = {
    "weight", "rank", "radius", "group_by", "exclude_own_patient", "orientations", "scales", "region_weight",
    "shortlist", "sheet",
}  # fmt: skip
_ASKED = _OF_IMAGES - {"sheet"} | {"texts", "k", "where", "region"}


def search(
    context: typer.Context,
    query: Annotated[
        Path | None,
        typer.Argument(metavar="QUERY", help="The image to search for: DICOM, PNG, JPEG, TIFF, BMP or WebP."),
    ] = None,
    archive: ArchiveFolder = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Use a stored image as the query: its id, or at least the first 4 digits of it."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", "-t", help="Search for words and their meaning. Combine it with QUERY or --id, or use it alone."
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="RANKING=NUMBER",
            help="With --text: the weight of a ranking (words, texts, pictures, image); default 1. Repeatable.",
        ),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Return the stored texts nearest in meaning instead of images.")
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of hits.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            "-w",
            metavar="CONDITION",
            help="Search only images that match a condition: modality=CT, modality=CT,MR, sex!=M, age>=40. Repeatable.",
        ),
    ] = None,
    rank: Annotated[
        Rank,
        typer.Option(
            help="Order of the hits. content: by distance, ties by content. radius: all within --radius, by content. "
            "hamming: by distance only."
        ),
    ] = Rank.content,
    radius: Annotated[int | None, typer.Option(min=0, help="Return only hits within this many bits.")] = None,
    group_by: Annotated[
        GroupBy | None,
        typer.Option("--group-by", help="Return one hit for each series or study: its best image."),
    ] = None,
    exclude_own_patient: Annotated[
        bool, typer.Option("--exclude-own-patient", help="Leave out images of the query's patient.")
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="Find this box of the query, in pixels of the query image, anywhere in the stored images.",
        ),
    ] = None,
    orientations: Annotated[
        int, typer.Option(help="With --region: 8 to include rotated and mirrored matches, 1 for upright ones only.")
    ] = 8,
    scales: Annotated[
        int,
        typer.Option(help="With --region: 3 to include matches 0.7 and 1.4 times as large, 1 for the same size only."),
    ] = 3,
    region_weight: Annotated[
        float,
        typer.Option(
            "--region-weight",
            help="With --region: weight of the region in the distance, above 0; the whole image has the rest.",
        ),
    ] = 1.0,
    shortlist: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --region: compare only the N nearest whole images: faster in a very large archive, not exact.",
        ),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the receipt of this search to FILE. Without a query: repeat the search that FILE records.",
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="Output format: a table, or JSON or CSV for programs.")
    ] = Format.table,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the query and its hits as a contact sheet, PNG or JPEG."),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            "--title",
            help="With --sheet: the heading of the query. By default it is Query, because a file name may identify a "
            "patient.",
        ),
    ] = None,
) -> None:
    """Find the stored images most similar to an image, a stored image, or a text.

    Distance counts differing bits (lower is more alike). Similarity is the correlation of content vectors (higher
    is more alike). With --text, several rankings are fused: by words, by the meaning of texts and images, and by
    the query image if you give one. Each hit shows its place in every ranking.
    """
    asked_nothing = query is None and id is None and text is None
    if asked_nothing and receipt is not None:
        refuse(context, _ASKED, "a receipt holds the settings of its search")
    elif texts:
        refuse(context, _OF_IMAGES, "it has no effect with --texts")
    if region is None:
        refuse(context, {"orientations", "scales", "region_weight", "shortlist"}, "it needs --region")
    if sheet is None:
        refuse(context, {"title"}, "it needs --sheet")
    if text is None:
        refuse(context, {"weight"}, "it needs --text")
    if (asked_nothing and receipt is None) or (query is not None and id is not None):
        raise typer.BadParameter(
            "give one query: a file, --id of a stored image, --text, or --receipt", param_hint="QUERY"
        )
    chosen, weights = conditions(where or []), _weights(weight or [])
    if query is not None and not query.exists():
        fail(f"{query} does not exist; give an image file, or --id of a stored image")
    from medlike import Archive, Query, Result
    from medlike.archive.search.text_result import TextResult
    from medlike.cli.screen import note, print_json

    if sheet is not None:
        from medlike.display.sheet import written_as

        written_as(sheet)
    with Archive.open(archive_folder(archive)) as opened:
        result: Result | TextResult
        if receipt is not None and asked_nothing:
            result = opened.repeat(_read_receipt(receipt))
        else:
            box = None if region is None else _box(region)
            asked = Query(image=query, id=None if id is None else full_id(opened, id), region=box, text=text)
            try:
                result = (
                    opened.nearest_texts(asked, k=k, where=chosen)
                    if texts
                    else opened.search(
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
                        weights=weights,
                    )
                )
            except ImageError as error:
                fail(f"{query}: {error}")
            if receipt is not None:
                written = printable_json(result.receipt, indent=1)
                receipt.write_text(written + "\n", encoding="utf-8")
        if sheet is not None:
            if isinstance(result, TextResult):
                fail("--sheet draws images, and this receipt is of a search for texts: leave it out")
            if title is not None:
                result = replace(result, title=title)
            result.sheet(sheet)
    for warning in result.warnings:
        note(f"medlike: {warning}")
    if format is Format.json:
        print_json(result.as_dict())
    elif isinstance(result, TextResult):
        (write_texts_csv if format is Format.csv else show_texts)(result)
    else:
        (write_csv if format is Format.csv else show)(result)


def _box(text: str) -> tuple[float, ...]:
    try:
        x0, y0, x1, y1 = (float(edge) for edge in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a box; write X0,Y0,X1,Y1 in pixels, for example 40,60,120,140", param_hint="--region"
        ) from None
    return x0, y0, x1, y1


def _weights(texts: list[str]) -> dict[str, float] | None:
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not a weight; write RANKING=NUMBER, for example words=2", param_hint="--weight"
            ) from None
    return found or None


def _read_receipt(file: Path) -> dict[str, Any]:
    """A receipt, or the JSON answer of a search that holds one."""
    try:
        read = strict_json.read(file)
    except FileNotFoundError:
        fail(f"{file} does not exist; give a query to search for, and its receipt is written there")
    except ValueError as error:
        fail(f"{file} is no receipt: {error}")
    if not isinstance(read, dict):
        fail(f"{file} is no receipt; give what --receipt or --format json has written")
    return dict(read.get("receipt", read))
