"""medlike facets: show how many images have which value of each field."""

from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.options import ArchivePlace, Report, ReportFormat, conditions, opened

if TYPE_CHECKING:
    from medlike.archive.search.facets import Facet

EXAMPLES = """[b]Examples[/b]

medlike facets --archive archive/

medlike facets --archive archive/ --where modality=CT --format json
"""


def facets(
    *,
    archive: ArchivePlace = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", metavar="CONDITION", help="Count only images that match, as for search."),
    ] = None,
    generation: Annotated[
        int | None,
        typer.Option("--generation", min=0, help="Count as of an earlier generation.", show_default="newest"),
    ] = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Number of values listed for a field.")] = 10,
    format: ReportFormat = Report.table,
) -> None:
    """Show how many images have which value of each field: values, the most frequent first, or quartiles.

    JSON holds histograms too. Of patients, studies and series only the number is shown.
    """
    from medlike.cli.screen import out, print_json, print_table, say

    with opened(archive) as searched:
        counted = searched.facets(conditions(where or ()) or None, generation, most)
    if format is Report.json:
        print_json(counted.to_dict())
        return
    if not counted.total:
        out().print("no images")
        return
    say(f"{counted.total} images as of generation {counted.generation}")
    rows = [(each.field, each.images, each.missing, _values(each)) for each in counted.facets if each.images]
    print_table(("field", "images", "without", "values"), rows, whole={"field", "images", "without"})


def _values(facet: "Facet") -> str:
    if facet.kind == "identifier":
        return f"{facet.distinct} different"
    if facet.quartiles is not None:
        least, lower, median, upper, most = (f"{value:g}" for value in facet.quartiles)
        return least if least == most else f"{least} to {most}, half of them {lower} to {upper}, median {median}"
    listed = ", ".join(f"{value} {images}" for value, images in facet.values)
    return f"{listed}, others {facet.others}" if facet.others else listed
