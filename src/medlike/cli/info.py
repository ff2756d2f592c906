"""medlike info: what an archive holds."""

from medlike.cli.options import ArchiveFolder, Report, ReportFormat, archive_folder

EXAMPLES = """[b]Examples[/b]

medlike info --archive archive/

medlike info --archive archive/ --format json
"""


def info(archive: ArchiveFolder = None, format: ReportFormat = Report.table) -> None:
    """What an archive holds: images, bytes by part, bundle, generation."""
    from medlike import Archive
    from medlike.cli.screen import print_json, print_table, size

    folder = archive_folder(archive)
    with Archive.open(folder) as opened:
        facts = opened.info()
    if format is Report.json:
        print_json(facts)
        return
    bundle = facts["bundle"]
    rows = [
        ("archive", str(folder)),
        ("images", facts["images"]),
        ("bundle", f"{bundle['name']}  {bundle['digest'][:16]}"),
        ("generation", facts["generation"]),
        *([("waiting", facts["received"])] if facts.get("received") else []),
        *((f"refused, {entry['name']}", entry["reason"]) for entry in facts.get("refused", [])),
        *((f"bytes, {part}", size(count)) for part, count in facts["bytes"].items()),
    ]
    print_table(("", ""), rows)
