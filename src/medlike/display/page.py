"""Results as HTML that needs nothing else: styles inside, images as data URIs, no script."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image as Pillow

from medlike.archive.search.result import Hit, Result
from medlike.display.sheet import MISSING, NOTICE, absent, described, measure, seen, shown_hit, shown_query, verdict

_STYLE = """
.medlike{--ground:#121315;--panel:#1c1e21;--bright:#e8eaed;--soft:#9ea3aa;--accent:#e8b252;
background:var(--ground);color:var(--bright);font:14px/1.45 system-ui,sans-serif;padding:20px;text-align:left}
.medlike *{box-sizing:border-box}
.medlike h1{font-size:22px;font-weight:600;margin:0 0 4px}
.medlike h2{font-size:18px;font-weight:600;margin:0 0 12px;overflow-wrap:anywhere}
.medlike p{margin:0 0 4px}
.medlike header{margin:0 0 24px}
.medlike .soft{color:var(--soft)}
.medlike .strange{color:var(--accent)}
.medlike section{display:grid;grid-template-columns:minmax(180px,260px) 1fr;gap:28px;margin:0 0 36px}
.medlike ol{display:grid;grid-template-columns:repeat(auto-fill,minmax(165px,1fr));gap:14px;list-style:none;
margin:0;padding:0}
.medlike li,.medlike .query{background:var(--panel);padding:10px;border-radius:4px;min-width:0}
.medlike .query{border:2px solid var(--accent)}
.medlike .picture{position:relative;aspect-ratio:1;background:#000;display:flex;align-items:center;
justify-content:center;margin-bottom:8px}
.medlike .picture img{max-width:100%;max-height:100%;width:100%;height:100%;object-fit:contain;margin:0}
.medlike .words{padding:16px;overflow-wrap:anywhere}
.medlike .rank,.medlike .more{position:absolute;top:0;background:var(--panel);padding:1px 8px}
.medlike .rank{left:0;border-radius:0 0 4px 0}
.medlike .more{right:0;border-radius:0 0 0 4px;color:var(--soft)}
.medlike li .soft{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.medlike code{font:12px ui-monospace,monospace;color:var(--soft)}
.medlike footer{color:var(--soft);border-top:1px solid #33363b;padding-top:12px}
@media(max-width:640px){.medlike section{grid-template-columns:1fr}}
@media print{.medlike{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.medlike li{break-inside:avoid}}
"""


def document(results: Sequence[Result], title: str = "medlike", side: int = 320) -> str:
    """A whole page with one part for each result. side: of the images, pixels."""
    body = "\n".join(_section(result, side) for result in results)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n"
        f"body{{margin:0;background:#121315}}{_STYLE}</style>\n</head>\n"
        f'<body class="medlike">\n<header><h1>{escape(title)}</h1>'
        f'<p class="soft">{_count(len(results), "query", "queries")}</p></header>\n'
        f"<main>\n{body}\n</main>\n<footer>{NOTICE}</footer>\n</body>\n</html>\n"
    )


def fragment(result: Result, side: int = 224) -> str:
    """One result for a notebook."""
    return f'<style>{_STYLE}</style><div class="medlike">{_section(result, side)}<footer>{NOTICE}</footer></div>'


def _section(result: Result, side: int) -> str:
    notes = []
    notes.append(f"<p>{escape(seen(result))}</p>")
    said = verdict(result.outlier)
    if said:
        strange = bool(result.outlier and result.outlier["is_outlier"])
        notes.append(f'<p class="{"strange" if strange else "soft"}">{escape(said)}</p>')
    notes += [f'<p class="strange">{escape(warning)}</p>' for warning in result.warnings]
    hits = "\n".join(_hit(result, hit, side) for hit in result.hits)
    listed = f"<ol>\n{hits}\n</ol>" if hits else '<p class="soft">No hits</p>'
    if result.in_words_only:
        picture = f'<span class="words">{escape(_cut(result.query_text or ""))}</span>'
    else:
        picture = _picture(shown_query(result, side), f"query {result.title}", absent(result))
    return (
        f"<section>\n<div><h2>{escape(result.title)}</h2>"
        f'<div class="query"><div class="picture">{picture}</div>'
        f"{''.join(notes)}</div></div>\n<div>{listed}</div>\n</section>"
    )


def _hit(result: Result, hit: Hit, side: int) -> str:
    below = described(hit)
    picture = _picture(shown_hit(result, hit, side, hit.box is not None), f"hit {hit.rank}", MISSING)
    more = ""
    if hit.group_size is not None and hit.group_size > 1:
        more = f'<span class="more" title="further images of this group">+{hit.group_size - 1}</span>'
    return (
        f'<li><div class="picture">{picture}<span class="rank">{hit.rank}</span>{more}</div>'
        f"<p>{escape(measure(hit))}</p>"
        f'<p class="soft" title="{escape(hit.snippet or below)}">{escape(below) or "&nbsp;"}</p>'
        f'<p><code title="{hit.id}">{hit.id[:16]}</code></p></li>'
    )


def _picture(picture: Pillow.Image | None, words: str, without: str) -> str:
    if picture is None:
        return f'<span class="soft">{without}</span>'
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(words)}" src="data:image/jpeg;base64,{data}">'


def _cut(text: str, longest: int = 400) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
