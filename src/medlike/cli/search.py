"""medlike search: find the stored images most like one."""

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
        typer.Option("--id", help="Search for a stored image, by the id of a hit or its first digits, at least 4."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", "-t", help="Search by words and by what they mean; alone, or with QUERY or --id."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="RANKING=NUMBER",
            help="With --text: the weight of a ranking, 1 unless given: words, texts, pictures, image. Repeat it for "
            "more.",
        ),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Answer with the stored texts nearest in meaning, not with images.")
    ] = False,
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
        typer.Option(
            metavar="FILE", help="Draw a contact sheet, PNG or JPEG: the query, the hits, their distances."
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            "--title",
            help="With --sheet: its heading, in place of Query. The name of the query's file, which may name somebody, "
            "is left out.",
        ),
    ] = None,
) -> None:
    """Find the stored images most like one: a file, or an image of the archive; or those that words describe.

    Distance counts differing bits (lower is more alike); similarity is the correlation of content (higher is
    more alike). With --text several rankings are fused, by words, by the meaning of texts and of pictures, and by
    the image if there is one; a hit shows its place in each.
    """
    asked_nothing = query is None and id is None and text is None
    if asked_nothing and receipt is not None:
        refuse(context, _ASKED, "a receipt says how it was searched")
    elif texts:
        refuse(context, _OF_IMAGES, "a search for texts has no use for it")
    if region is None:
        refuse(context, {"orientations", "scales", "region_weight", "shortlist"}, "it says how a --region is searched")
    if sheet is None:
        refuse(context, {"title"}, "it is the heading of a --sheet")
    if text is None:
        refuse(context, {"weight"}, "it weighs the rankings of a search by --text")
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
            f"{text!r} is no box; write X0,Y0,X1,Y1 in pixels, for example 40,60,120,140", param_hint="--region"
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
                f"{text!r} is no weight; write RANKING=NUMBER, for example words=2", param_hint="--weight"
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
