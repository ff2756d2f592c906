"""Answers on the terminal: results and texts as tables or CSV."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medlike.cli.options import SHORT
from medlike.escaping import write_rows

if TYPE_CHECKING:
    from medlike import Hit, Result
    from medlike.archive.search.text_result import TextResult
    from medlike.types import JsonObject

FIELDS = ("rank", "id", "distance", "similarity", "box", "source", "modality", "region", "label")
TEXT_FIELDS = ("rank", "id", "kind", "text", "distance", "similarity")


def show(result: "Result", title: str | None = None) -> None:
    """Print a result as a table, with the verdicts on query and archive above it."""
    from medlike.cli.screen import out, print_table, say
    from medlike.display.sheet import judgements, measure, remark, share

    console = out()
    if title:
        console.print()
        say(title, style="bold")
    for sentence, warns in judgements(result):
        say(sentence, style="bold red" if warns else None)
    if not result.hits:
        console.print("no hits")
        return
    # A narrow terminal shows ids as git shows commits: their first digits are enough for --id.
    narrow = console.width < 130
    facts = ("label",) if narrow else ("modality", "region", "label")
    in_words = result.weights is not None
    rows = [
        (
            hit.rank,
            *([", ".join(hit.words), measure(hit)] if in_words else [_distance(hit), f"{hit.similarity:z.2f}"]),
            *(hit.metadata.get(name) for name in facts[:-1]),
            f"({remark(hit)}) {hit.metadata.get(facts[-1]) or ''}" if remark(hit) else hit.metadata.get(facts[-1]),
            hit.id[:SHORT] if narrow else hit.id,
            place(hit.source),
            *([hit.member] if hit.member else []),
            *([f"+{hit.group_size - 1}" if hit.group_size > 1 else ""] if hit.group_size else []),
        )
        for hit in result.hits
    ]
    shares = [share(hit) for hit in result.hits]
    meaning = ("meaning",) if any(shares) and not narrow else ()
    if meaning:
        rows = [(*row[:3], text, *row[3:]) for row, text in zip(rows, shares, strict=True)]
    grouped = ("others",) if any(hit.group_size for hit in result.hits) else ()
    matched = ("member",) if any(hit.member for hit in result.hits) else ()
    measures = ("words", "places") if in_words else ("distance", "similarity")
    head = ("rank", *measures, *meaning, *facts, "id", "source", *matched, *grouped)
    print_table(head, rows, whole={"rank", "distance", "similarity", "id"})
    if narrow and shares[0]:
        say(f"first hit: {shares[0]}")
    if result.weights is not None:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in result.weights.items())
        say(f"fused by place, weights: {weights or 'none'}")


def show_texts(result: "TextResult") -> None:
    """Print stored texts as a table, nearest first, with the verdict on the query above it."""
    from medlike.cli.screen import out, print_table

    _show_verdict(result.outlier)
    if not result.hits:
        out().print("no texts")
        return
    rows = [
        (hit.rank, hit.distance, f"{hit.similarity:z.2f}", hit.kind, " ".join(hit.text.split()), hit.id[:SHORT])
        for hit in result
    ]
    print_table(("rank", "distance", "similarity", "kind", "text", "id"), rows, whole={"rank", "id"})


def _show_verdict(outlier: "JsonObject | None") -> None:
    from medlike.cli.screen import say
    from medlike.display.sheet import verdict

    if outlier is not None:
        say(verdict(outlier), style="bold red" if outlier["is_outlier"] else None)


def _distance(hit: "Hit") -> str:
    if hit.distance is None:
        return ""
    return f"{hit.distance:g}" if hit.box is None else f"{100 * hit.distance:.1f} %"


def place(source: object) -> str:
    """Return the path of an image, relative to the working folder if it is below it, or its SOP instance UID."""
    if not source:
        return ""
    if not isinstance(source, dict):
        return str(source)
    path = source.get("path")
    if not path:
        return str(source.get("sop_uid") or "")
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def write_texts_csv(result: "TextResult") -> None:
    """Print stored texts as CSV."""
    write_rows(sys.stdout, [TEXT_FIELDS, *([getattr(hit, name) for name in TEXT_FIELDS] for hit in result)])


def write_csv(result: "Result") -> None:
    """Print a result as CSV."""
    in_words = result.weights is not None
    of_study = any(hit.member for hit in result.hits)
    head = (*FIELDS, "itself", *(("member",) if of_study else ()))
    words_head = ("score", "words", "snippet") if in_words else ()
    rows: list[Sequence[object]] = [(*head, *words_head, "mirrored")]
    for hit in result.hits:
        metadata = [hit.metadata.get(name, "") for name in FIELDS[6:]]
        box = "" if hit.box is None else " ".join(map(str, hit.box))
        rows.append(
            [
                hit.rank,
                hit.id,
                hit.distance,
                hit.similarity,
                box,
                place(hit.source),
                *metadata,
                "yes" if hit.itself else "",
                *([hit.member] if of_study else []),
                *([hit.score, " ".join(hit.words), hit.snippet or ""] if in_words else []),
                "yes" if hit.mirrored else "",
            ]
        )
    write_rows(sys.stdout, rows)
