"""medlike search: find the stored images most similar to a query."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medlike import files, strict_json
from medlike.archive.search.settings import SearchSettings
from medlike.cli.answers import show, show_texts, write_csv, write_texts_csv
from medlike.cli.exits import fail
from medlike.cli.options import ArchivePlace, Format, ListFormat, conditions, full_id, opened, refuse
from medlike.cli.settings import options_from_settings
from medlike.errors import ImageError, InputError, QueryError
from medlike.escaping import printable_json
from medlike.option import Option

if TYPE_CHECKING:
    from medlike import Result
    from medlike.archive.search.text_result import TextResult
    from medlike.archive.searchable import Searchable
    from medlike.types import JsonObject

EXAMPLES = """[b]Examples[/b]

medlike search query.dcm --archive archive/

medlike search query.dcm --archive archive/ -k 20 --where modality=CT --where "age>=40" --sheet found.png

medlike search query.dcm --archive archive/ --region 40,60,120,140 --sheet found.png

medlike search --archive archive/ --id 1f0c... --group-by study --format json

medlike search a.dcm b.dcm c.dcm --as-study --archive archive/

medlike search --archive archive/ --id 1f0c... --like 20aa...,31b7... --unlike 9c44...

medlike search --archive archive/ --text "left pleural effusion"

medlike search query.dcm --archive archive/ --text "left pleural effusion" --weight image=2 --sheet found.png

medlike search query.dcm --archive archive/ --texts

medlike search query.dcm --archive archive/ --receipt receipt.json

medlike search --archive archive/ --receipt receipt.json
"""

# Options that only a search for images has. A receipt holds all of them but the sheet.
_OF_IMAGES = {
    "weights", "rank", "radius", "group_by", "collapse", "exclude_own_patient", "orientations", "scales",
    "region_weight", "region_distance", "region_turns", "shortlist", "codes", "sheet", "page",
    "like", "unlike",
}  # fmt: skip
_OF_REGIONS = {"orientations", "scales", "region_weight", "region_distance", "region_turns", "shortlist"}
_IN_RECEIPT = _OF_IMAGES - {"sheet", "page"} | {"texts", "k", "where", "region"}


@dataclass(frozen=True)
class QueryOptions:
    """What to search for: a file, a stored image, words, or words with one of these.

    Attributes:
        query: The file of an image, or files of several.
        id: The id of a stored image, or its first digits.
        text: Words.
        region: A box of the image: x0, y0, x1, y1, half-open, in its pixels.
        as_study: If true, several files are images of one study.
        like: Ids of stored images that hits are to be more like.
        unlike: Ids of those that hits are to be less like.
        decoding: Where the file is decoded.
        texts: If true, stored texts are searched instead of images.
    """

    query: Annotated[
        tuple[Path, ...],
        Option(
            "The image to search for: DICOM, PNG, JPEG, TIFF, BMP or WebP. Several with --as-study.",
            metavar="QUERY",
            argument=True,
        ),
    ] = ()
    id: Annotated[
        str | None, Option("Use a stored image as the query: its id, or at least the first 4 digits of it.")
    ] = None
    text: Annotated[
        str | None,
        Option("Search for words and their meaning. Combine it with QUERY or --id, or use it alone.", "--text -t"),
    ] = None
    region: Annotated[
        tuple[float, ...] | None,
        Option(
            "Find this box of the query, in pixels of the query image, anywhere in the stored images.",
            metavar="X0,Y0,X1,Y1",
            text=str,
        ),
    ] = None
    as_study: Annotated[
        bool,
        Option(
            "Search by several files of one study as one query. Hits are as near as the nearest file, grouped by study."
        ),
    ] = False
    like: Annotated[
        tuple[str, ...],
        Option("Find images more like these stored ones. Repeatable.", metavar="ID,ID", text=list[str]),
    ] = ()
    unlike: Annotated[
        tuple[str, ...],
        Option("Find images less like these stored ones. Repeatable.", metavar="ID,ID", text=list[str]),
    ] = ()
    decoding: Annotated[
        Literal["process", "inline"],
        Option("Decode QUERY in a worker process, which a harmful file cannot leave, or inline."),
    ] = "process"
    texts: Annotated[bool, Option("Return the stored texts nearest in meaning instead of images.")] = False

    @property
    def empty(self) -> bool:
        """Return True if there is nothing to search for."""
        return not self.query and self.id is None and self.text is None


@dataclass(frozen=True)
class SheetOptions:
    """The contact sheet and the page of a result.

    Attributes:
        sheet: The file to draw it in.
        page: The HTML file to draw it in.
        title: The heading of the query.
    """

    sheet: Annotated[
        Path | None, Option("Draw the query and its hits as a contact sheet, PNG or JPEG.", metavar="FILE")
    ] = None
    page: Annotated[
        Path | None, Option("Draw the query and its hits as an HTML page.", metavar="FILE")
    ] = None
    title: Annotated[
        str | None,
        Option(
            "With --sheet or --page: the heading of the query. By default it is Query, because a file name may "
            "identify a patient."
        ),
    ] = None


def _box(text: str) -> tuple[float, ...]:
    try:
        x0, y0, x1, y1 = (float(edge) for edge in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a box; write X0,Y0,X1,Y1 in pixels, for example 40,60,120,140", param_hint="--region"
        ) from None
    return x0, y0, x1, y1


def _weights(texts: list[str]) -> dict[str, float] | None:
    weights = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not a weight; write RANKING=NUMBER, for example words=2", param_hint="--weight"
            ) from None
    return weights or None


def _ids(texts: list[str]) -> tuple[str, ...]:
    return tuple(id.strip() for text in texts for id in text.split(","))


@options_from_settings(QueryOptions, region=_box, like=_ids, unlike=_ids)
@options_from_settings(SearchSettings, where=conditions, weights=_weights)
@options_from_settings(SheetOptions)
def search(
    context: typer.Context,
    query: QueryOptions,
    *,
    archive: ArchivePlace = None,
    settings: SearchSettings,
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the receipt of this search to FILE. Without a query: repeat the search that FILE records.",
        ),
    ] = None,
    format: ListFormat = Format.table,
    drawing: SheetOptions,
) -> None:
    """Find the stored images most similar to an image, a stored image, or a text.

    Distance counts differing bits (lower is more alike). Similarity is the correlation of content vectors (higher
    is more alike). With --text, several rankings are fused: by words, by the meaning of texts and images, and by
    the query image if you give one. Each hit shows its place in every ranking.
    """
    if receipt is not None and query.empty:
        refuse(context, _IN_RECEIPT, "a receipt holds the settings of its search")
    elif query.texts:
        refuse(context, _OF_IMAGES, "it has no effect with --texts")
    for needed, name, dependent in (
        (query.region, "--region", _OF_REGIONS),
        (drawing.sheet or drawing.page, "--sheet or --page", {"title"}),
        (query.text, "--text", {"weights"}),
    ):
        if needed is None:
            refuse(context, dependent, f"it needs {name}")
    if (query.empty and receipt is None) or (query.query and query.id is not None):
        raise typer.BadParameter(
            "give one query: a file, --id of a stored image, --text, or --receipt", param_hint="QUERY"
        )
    if len(query.query) > 1 and not query.as_study:
        raise typer.BadParameter("for several files of one study as one query add --as-study", param_hint="QUERY")
    if query.as_study and not query.query:
        raise typer.BadParameter("give the files of the study", param_hint="--as-study")
    for path in query.query:
        if not path.exists():
            fail(f"{path} does not exist; give an image file, or --id of a stored image")
    from medlike.archive.search.text_result import TextResult
    from medlike.cli.screen import note, print_json

    if drawing.sheet is not None:
        from medlike.display.sheet import written_as

        try:
            written_as(drawing.sheet)
        except InputError as error:
            raise typer.BadParameter(str(error), param_hint="--sheet") from None
    with opened(archive) as searched:
        if receipt is not None and query.empty:
            result = searched.repeat(_read_receipt(receipt))
        else:
            result = _search(searched, query, settings)
            if receipt is not None:
                with files.disk_errors(receipt):
                    files.write_text(receipt, printable_json(result.receipt, indent=1) + "\n")
        if drawing.sheet is not None or drawing.page is not None:
            if isinstance(result, TextResult):
                option = "--page" if drawing.sheet is None else "--sheet"
                fail(f"{option} draws images, and this receipt is of a search for texts: leave it out")
            if drawing.title is not None:
                result = replace(result, title=drawing.title)
            if drawing.sheet is not None:
                result.sheet(drawing.sheet)
            if drawing.page is not None:
                result.page(drawing.page)
    for warning in result.warnings:
        note(f"medlike: {warning}")
    if format is Format.json:
        print_json(result.as_dict())
    elif isinstance(result, TextResult):
        (write_texts_csv if format is Format.csv else show_texts)(result)
    else:
        (write_csv if format is Format.csv else show)(result)


def _search(searched: "Searchable", query: QueryOptions, settings: SearchSettings) -> "Result | TextResult":
    from medlike import Query

    id = None if query.id is None else full_id(searched, query.id)
    like, unlike = ([full_id(searched, mark) for mark in marks] for marks in (query.like, query.unlike))
    try:
        image_query = Query(
            None if query.as_study or not query.query else query.query[0],
            images=query.query if query.as_study else (),
            id=id,
            region=query.region,
            text=query.text,
            decoding=query.decoding,
            like=like,
            unlike=unlike,
        )
    except QueryError as error:
        raise typer.BadParameter(str(error), param_hint="QUERY") from None
    try:
        if query.texts:
            return searched.nearest_texts(image_query, k=settings.k, where=settings.where)
        # Hits of a study are grouped unless a caller says otherwise.
        chosen = {name: value for name, value in vars(settings).items() if name != "group_by" or value is not None}
        return searched.search(image_query, **chosen)
    except ImageError as error:
        fail(str(error) if query.as_study else f"{query.query[0]}: {error}")


def _read_receipt(file: Path) -> "JsonObject":
    """Return the receipt in a file that --receipt or --format json has written."""
    try:
        read = strict_json.read(file)
    except FileNotFoundError:
        fail(f"{file} does not exist; give a query to search for, and its receipt is written there")
    except ValueError as error:
        fail(f"{file} is not a receipt: {error}")
    if not isinstance(read, dict):
        fail(f"{file} is not a receipt; give what --receipt or --format json has written")
    return dict(read.get("receipt", read))
