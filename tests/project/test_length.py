"""Pages stay short, and the README comes to its limits soon. Words are counted as `wc -w` does.

docs/cli.md is made from the help of the commands and counts for nothing.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS, README = 14_200, 1_200


def test_the_pages_of_docs_stay_short():
    words = {page.name: len(page.read_text(encoding="utf-8").split()) for page in (ROOT / "docs").glob("*.md")}
    words.pop("cli.md")
    assert len(words) > 10
    longest = ", ".join(f"{name} {count:,}" for name, count in sorted(words.items(), key=lambda item: -item[1])[:5])
    assert sum(words.values()) <= DOCS, f"docs/*.md have {sum(words.values()):,} words, {DOCS:,} at most: {longest}"


def test_the_readme_comes_to_its_limits_soon():
    before, heading, _ = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Limits\n")
    assert heading
    assert len(before.split()) <= README, f"README.md has {len(before.split()):,} words before its limits"
