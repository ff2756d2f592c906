"""The commissioning report as a page that needs nothing else. It shows no picture and no file name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from medlike.training.commission import sentences

_STYLE = """
body{margin:0 auto;max-width:60rem;padding:24px;font:15px/1.5 system-ui,sans-serif;color:#1c1e21;background:#fff}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}.soft{color:#5b6067}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid #dfe2e6;
vertical-align:top;overflow-wrap:anywhere}th{font-weight:600}
.advice{background:#fff6e0;border-left:4px solid #c98a12;padding:8px 16px;margin:16px 0}
.good{background:#e9f6ec;border-left:4px solid #2f8a46;padding:8px 16px;margin:16px 0}
footer{margin-top:40px;color:#5b6067;border-top:1px solid #dfe2e6;padding-top:12px}
"""


def page(report: dict[str, Any]) -> str:
    """The report of `commission` as HTML: no script, no address, styles inside."""
    bundle = report["bundle"]
    said = report["advice"]
    box = (
        '<div class="advice"><ul>' + "".join(f"<li>{escape(line)}</li>" for line in said) + "</ul></div>"
        if said
        else '<div class="good">Nothing asks for action.</div>'
    )
    parts = [
        "<h1>Commissioning report</h1>",
        f'<p class="soft">Bundle {escape(bundle["name"])}, {bundle["bits"]} bits, digest '
        f"{escape(bundle['digest'][:16])}. Images were taken to be usual for this place.</p>",
        box,
        _table(("", ""), sentences(report)),
        "<h2>False alarms</h2>",
        '<p class="soft">p-values of all images, with how many each bar holds; where the bundle fits the place, all '
        "bars are about as high. What lies left of the line is flagged.</p>",
        histogram(report["false_alarms"]["p_values"], report["false_alarms"]["threshold"]),
        _table(
            ("modality", "units", "flagged", "95 % interval"),
            [
                (name, row["units"], f"{row['share']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}")
                for name, row in report["false_alarms"]["by_modality"].items()
            ],
        ),
        _listed(
            "Flagged, the strangest first",
            ("image", "p", "score"),
            [(r["name"], f"{r['p_value']:.4f}", f"{r['score']:.2f}") for r in report["false_alarms"]["flagged"]],
        ),
        _listed(
            "Scanners",
            ("scanner", "images", "flagged", "drift", "own neighbours", "by chance"),
            [
                (
                    row["scanner"],
                    row["images"],
                    f"{row['share']:.1%}",
                    f"{row['drift']:.2f}",
                    f"{row['own_neighbours']:.0%}",
                    f"{row['own_by_chance']:.0%}",
                )
                for row in report["scanners"]
            ],
        ),
        _listed(
            "Near-duplicates",
            ("one", "other", "pixels", "patients"),
            [
                (p["one"], p["other"], "equal" if p["equal"] else "alike", "differ" if p["patients_differ"] else "")
                for p in report["near_duplicates"]["listed"]
            ],
        ),
        _listed("Refused", ("file", "reason"), [(r["name"], r["reason"]) for r in report["skipped"]]),
        '<p class="soft">drift: AUROC of a scanner\'s outlier scores against those of the calibration; 0.5 is '
        "none. own neighbours: share of the ten nearest that come from the same scanner; far above chance, the "
        "scanner is recognised rather than the anatomy, or has an anatomy of its own.</p>",
        "<footer>Made by medlike commission. A research tool, not a medical device.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Commissioning report</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def histogram(counts: Sequence[int], threshold: float, width: int = 640, height: int = 120) -> str:
    """Bars as inline SVG: counts of equal bins over [0, 1], each written above its bar, and a line at the threshold."""
    most, bar, top = max(max(counts, default=0), 1), width / max(len(counts), 1), 14
    bars = "".join(
        f'<rect x="{i * bar + 1:.1f}" y="{top + height * (1 - count / most):.1f}" width="{bar - 2:.1f}" '
        f'height="{height * count / most:.1f}" fill="#4a7bb5"/>'
        f'<text x="{(i + 0.5) * bar:.1f}" y="{top + height * (1 - count / most) - 3:.1f}" text-anchor="middle" '
        f'font-size="10" fill="#5b6067">{count}</text>'
        for i, count in enumerate(counts)
    )
    base, at = top + height, threshold * width
    line = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{base + 4}" stroke="#c98a12" stroke-width="2"/>'
    axis = "".join(
        f'<text x="{x:.1f}" y="{base + 17}" text-anchor="{anchor}">{text}</text>'
        for x, anchor, text in ((0, "start", "0"), (at + 4, "start", f"{threshold:g}"), (width, "end", "1"))
    )
    return (
        f'<svg viewBox="0 0 {width} {base + 20}" width="100%" role="img" aria-label="Histogram of p-values" '
        f'font-size="12">{bars}{line}{axis}</svg>'
    )


def _listed(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return f"<h2>{escape(title)}</h2>{_table(head, rows)}" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    top = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>" if any(head) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"
