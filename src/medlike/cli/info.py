"""medlike info: show what an archive holds."""

from typing import TYPE_CHECKING

from medlike.cli.options import ArchivePlace, Report, ReportFormat, archive_folder, opened, remote
from medlike.cli.screen import size

if TYPE_CHECKING:
    from medlike.types import JsonObject

EXAMPLES = """[b]Examples[/b]

medlike info --archive archive/

medlike info --archive archive/ --format json
"""


def info(archive: ArchivePlace = None, format: ReportFormat = Report.table) -> None:
    """Show what an archive holds: images, bytes by part and per image, bundle, generation."""
    from medlike.cli.screen import print_json, print_table

    with opened(archive) as described:
        facts = described.info()
    images = facts["images"]
    each = {part: round(count / images, 1) for part, count in facts["bytes"].items()} if images else {}
    facts["bytes_an_image"] = each
    if format is Report.json:
        print_json(facts)
        return
    bundle, text, fit = facts["bundle"], facts["text_bundle"], facts["fit"]
    codes = f"{fit['bits']} bits from {fit['images']} images{_labels(fit)}  {fit['digest'][:16]}" if fit else "none"
    rows = [
        ("archive", str(archive if remote(archive) else archive_folder(archive))),
        ("images", facts["images"]),
        ("texts", facts["texts"]),
        ("bundle", f"{bundle['name']}  {bundle['digest'][:16]}"),
        ("text bundle", f"{text['name']}  {text['digest'][:16]}" if text else "none"),
        ("fit", codes),
        ("generation", facts["generation"]),
        *([("waiting", facts["received"])] if facts.get("received") else []),
        *((f"refused, {entry['name']}", entry["reason"]) for entry in facts.get("refused", [])),
        *((f"bytes, {part}", _bytes(count, images)) for part, count in facts["bytes"].items()),
    ]
    print_table(("", ""), rows)


def _labels(fit: "JsonObject") -> str:
    labels = fit["labels"]
    return f" and {labels['labels']} values of {labels['field']}" if labels and labels["used"] else ""


def _bytes(count: int, images: int) -> str:
    return f"{size(count)}, {size(round(count / images))} an image" if images else size(count)
