"""Draw results: contact sheets and HTML pages.

Importing this room gives `Result` its `sheet` and `page`; the package's root imports it with `Archive` and `Result`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medlike.archive.search import result as results


class _Drawing:
    """The two ways to draw, loaded when they are needed."""

    def sheet(self, result: results.Result, path: Path | None, **settings: Any) -> Any:
        """Draw a contact sheet, and write it where a path is given."""
        from medlike.display import sheet

        if path is not None:
            sheet.written_as(path)  # before the work
        picture = sheet.draw([result], **settings)
        if path is not None:
            sheet.write(picture, path)
        return picture

    def page(self, found: Sequence[results.Result], path: str | Path | None, title: str) -> str:
        """Draw a page."""
        from medlike.display.page import page

        return page(found, path, title)

    def fragment(self, result: results.Result) -> str:
        """Draw one result for a notebook."""
        from medlike.display.page import fragment

        return fragment(result)


results.drawing = _Drawing()
