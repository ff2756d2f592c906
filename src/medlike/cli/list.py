"""medlike list: show stored images without a query."""

import sys
from typing import Annotated

import typer

from medlike.cli.answers import place
from medlike.cli.options import ArchivePlace, Format, ListFormat, conditions, opened

EXAMPLES = """[b]Example[/b]

medlike list --archive archive/ --where modality=CT --limit 20 --offset 40
"""

FIELDS = ("modality", "region", "label", "sex", "age", "body_part", "view")


def list_images(
    *,
    archive: ArchivePlace = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", metavar="CONDITION", help="List only images that match, as for search."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of images.")] = 100,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Number of images to skip.")] = 0,
    format: ListFormat = Format.table,
) -> None:
    """List stored images in the order they were added."""
    from medlike.cli.screen import note, out, print_json, print_table
    from medlike.escaping import write_rows

    with opened(archive) as searched:
        listing = searched.browse(conditions(where or ()), limit, offset)
    if format is Format.json:
        page = {"total": listing.total, "images": [vars(image) for image in listing.images]}
        print_json({**page, "warnings": list(listing.warnings)})
        return
    rows = [
        [image.id, *(image.metadata.get(name) for name in FIELDS), image.width, image.height, place(image.source)]
        for image in listing.images
    ]
    head = ("id", *FIELDS, "width", "height", "source")
    if format is Format.csv:
        write_rows(sys.stdout, [head, *(["" if cell is None else cell for cell in row] for row in rows)])
    elif not rows:
        out().print("no images" if not listing.total else f"no images after the first {offset}")
    else:
        # Columns that no image of the page fills would only take room.
        filled = [at for at, _ in enumerate(head) if any(row[at] not in (None, "") for row in rows)]
        print_table([head[at] for at in filled], [[row[at] for at in filled] for row in rows], whole={"id"})
    for warning in listing.warnings:
        note(f"medlike: {warning}")
    if listing.total > len(rows):
        shown = f"{offset + 1} to {offset + len(rows)}" if rows else "none"
        note(f"medlike: {shown} of {listing.total} images; others with --limit and --offset")
