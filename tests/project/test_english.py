"""Pages are in plain English: no long sentences, long lines or private words outside of tables and code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
FOLDERS = (".", ".github", "docs", "docs/site", "research", "samples")
WRITTEN = ("acir", "bundles", "benchmarks", "protocols")  # pages of results that no study writes
PAGES = sorted(
    [str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).glob("*.md")]
    + [f"docs/results/{name}.md" for name in WRITTEN]
)
KINDS = ("long sentences", "long lines", "private words")
WORDS, COLUMNS = 30, 120

# Words that only the people who wrote them understand, with the field's words for them.
PRIVATE = {
    r"strangers?|strange (?:pictures?|images?)": "outlier, out-of-distribution",
    r"kin\b": "related sources",
    r"(?:was|were|is|are|be|being|been) told\b|told (?:apart|from|of|by)\b": "stated, distinguished",
    r"tell(?:s|ing)? of\b": "describe",
    r"what (?:is|was|were) asked\b|was asked for\b|asked in words\b|the asked\b": "query",
    r"tak(?:e|es|en|ing) in\b|took in\b": "ingest, index, add",
    r"let(?:s|ting)? go\b": "release",
    r"sa(?:id|ys|y) of\b": "state about",
    r"found out\b": "detected",
    r"even(?:ed|ing|s)? out\b": "whitened",
    r"at home\b": "on the training collections",
    r"gives? away\b|given away\b|giving away\b": "reveal",
    r"by heart\b": "memorise",
    r"rivals?\b": "baseline",
    r"twins?\b": "reference implementation",
    r"crossings?\b": "cross-modal text encoder",
    r"what (?:grew|came of it)\b": "a heading that names its subject",
    r"come(?:s)? to (?:its|an|their) end\b": "finish",
    r"goes? with it\b|go with one another\b": "belongs to, is compatible with",
    r"for the sake of\b": "for",
    r"somebody who\b|who (?:looks|has words|draws|may not|asks)\b": "you",
}
_PRIVATE = re.compile(r"\b(?:" + "|".join(PRIVATE) + r")", re.IGNORECASE)
_STARTS_WITH_WHO = re.compile(r"^(?:Who|Whoever) (?!.*\?$)", re.DOTALL)
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9`])")
_NOT_AN_END = re.compile(r"\b(?:e\.g|i\.e|et al|vs|cf|Dr|Fig|approx)\.$")
_INSERT = re.compile(r"<!-- figures: .*?<!-- end of figures -->", re.DOTALL)  # written from results, by `make docs`


def paragraphs(text: str) -> Iterator[str]:
    """Return the prose of a page, a paragraph or list item at a time; code in it counts as one word."""
    skipped = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("table_open", "table_close", "heading_open", "heading_close"):
            skipped = token.type.endswith("open")
        elif token.type == "inline" and not skipped:
            parts = []
            for child in token.children or ():
                if child.type == "code_inline":
                    parts.append("`code`")
                elif child.type in ("softbreak", "hardbreak"):
                    parts.append(" ")
                elif child.type == "text":
                    parts.append(child.content)
            yield "".join(parts)


def sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph."""
    found: list[str] = []
    for part in _END.split(" ".join(paragraph.split())):
        if found and _NOT_AN_END.search(found[-1]):
            found[-1] += " " + part
        else:
            found.append(part)
    return found


def long_lines(text: str) -> list[str]:
    """Return the lines outside of tables and code that are too long."""
    covered: set[int] = set()
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("table_open", "fence", "code_block", "html_block") and token.map:
            covered.update(range(*token.map))
    return [line for i, line in enumerate(text.splitlines()) if len(line) > COLUMNS and i not in covered]


def faults(text: str) -> dict[str, list[str]]:
    """Return what is wrong with a page, by kind."""
    text = _INSERT.sub("", text)
    found: dict[str, list[str]] = {"long lines": long_lines(text), "long sentences": [], "private words": []}
    for paragraph in paragraphs(text):
        for sentence in sentences(paragraph):
            if len(re.findall(r"[\w`][^\s]*", sentence)) > WORDS:
                found["long sentences"].append(sentence)
            private = [match[0] for match in _PRIVATE.finditer(sentence)]
            if _STARTS_WITH_WHO.match(sentence):
                private.append(sentence[:40])
            found["private words"] += private
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_in_plain_english(page):
    for kind, found in faults((ROOT / page).read_text(encoding="utf-8")).items():
        shown = "\n  ".join(found)
        assert not found, f"{page}: {len(found)} {kind}; rewrite:\n  {shown}"


def test_what_it_counts():
    words = " ".join(["word"] * WORDS)
    page = f"# A heading\n\nShort. {words.capitalize()}, see [`a b`](x.md).\n\n| {words} {words} |\n|---|\n| x |\n"
    assert {kind: len(found) for kind, found in faults(page).items()} == {
        "long lines": 1, "long sentences": 1, "private words": 0,
    }  # fmt: skip
    assert faults(f"```\n{'x' * 200}\n```\n") == {kind: [] for kind in KINDS}
    assert faults("See e.g. The next. It has 0.5 of it.")["long sentences"] == []
    assert len(sentences("See e.g. The next. It has 0.5 of it.")) == 2
    assert faults("It is told from strangers.")["private words"] == ["is told", "strangers"]
    for plain in ("Whose image is it?", "Who may write? Keep the rest.", "We told you so.", "It is kept, akin to it."):
        assert faults(plain)["private words"] == [], plain
    assert faults("Who draws a box gets an answer.")["private words"]
