"""Writing what a program found into a page, between the markers of its name."""

import re
from datetime import UTC, datetime
from pathlib import Path


def write(page, name, text):
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`, and add the date."""
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    content = Path(page).read_text(encoding="utf-8")
    if not marked.search(content):
        raise ValueError(f"{page} has no place for {name}")
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    Path(page).write_text(marked.sub(rf"\g<1>{text} ({day})\n\g<2>", content), encoding="utf-8")
