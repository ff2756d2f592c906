"""Contact sheets: the query, the hits, their distances, on one picture to look at or print."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from medlike import files as durable
from medlike.archive.search.result import Box, Hit, Picture, Result
from medlike.display.legend import legend
from medlike.errors import InputError
from medlike.types import JsonObject

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

NOTICE = "medlike is a research tool, not a medical device"

# Dark and neutral, as reading rooms are: nothing on the sheet is brighter or more colourful than the images.
GROUND = (18, 19, 21)
PANEL = (28, 30, 33)
EMPTY = (38, 40, 44)
BRIGHT = (232, 234, 237)
SOFT = (158, 163, 170)
ACCENT = (232, 178, 82)
MATCH = (96, 205, 190)

_MARGIN = 28
_GAP = 16
_PAD = 10
_TINT = 0.25  # how much of a cell that agrees in every bit is covered
_AGREES = 0.6  # share of equal bits from which a cell is tinted; half of them agree by chance
_LINE = 20  # height of a small line of text
_LABEL = 3  # lines below a hit at most
MISSING = "picture missing"
ITSELF, MIRRORED = "the query itself", "mirror image of the query"
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_LINES = ("modality", "region", "body_part", "view", "label")


def draw(
    results: Sequence[Result], columns: int = 5, tile: int = 216, rows: int = 4, agreement: bool | None = None
) -> Pillow.Image:
    """Draw one band for each result: its query at the left, hits in rank order, left to right, then down.

    Images whose pixels are gone are drawn as an empty tile that says so.

    Args:
        results: Results to draw.
        columns: Hits in a row.
        tile: Side of an image, pixels.
        rows: At most this many rows of hits for each query.
        agreement: Whether cells that agree are tinted; None: for searches by region only.

    Returns:
        An RGB picture.
    """
    bands = [_band(result, columns, tile, rows, agreement) for result in results]
    width = max((band.width for band in bands), default=640) + 2 * _MARGIN
    notes = _notes(results, width - 2 * _MARGIN)
    height = sum(band.height for band in bands) + _MARGIN * (len(bands) + 1) + 30 + _LINE * len(notes)
    sheet = Pillow.new("RGB", (width, height), GROUND)
    top = _MARGIN
    for band in bands:
        sheet.paste(band, (_MARGIN, top))
        top += band.height + _MARGIN
    pen = ImageDraw.Draw(sheet)
    for note in notes:
        pen.text((_MARGIN, top - 8), note, SOFT, _font(15))
        top += _LINE
    pen.text((_MARGIN, height - 34), NOTICE, SOFT, _font(15))
    return sheet


def written_as(path: Path) -> str:
    """Return the format that a name stands for: PNG or JPEG.

    Raises:
        InputError: The name has another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{path} cannot be drawn: give a name that ends in {', '.join(_SUFFIXES)}")
    return _SUFFIXES[suffix]


def write(picture: Pillow.Image, path: Path) -> None:
    """Write a sheet, whole or not at all.

    Raises:
        InputError: The name ends neither in .png nor in .jpg.
        ArchiveFull: The disk is full.
    """
    file = io.BytesIO()
    picture.save(file, written_as(path), quality=92)
    durable.write(path, file.getvalue(), mode=0o644)


def caption(hit: Hit) -> str:
    """Return the metadata line of a hit: modality, body part, label, as far as they are known and differ."""
    parts: list[str] = []
    shown: set[str] = set()
    for name in _LINES:
        words = str(hit.metadata.get(name) or "").replace("_", " ").split()
        # Labels often begin with the modality and region that the line has named already.
        while words and words[0].lower() in shown:
            del words[0]
        if words:
            parts.append(" ".join(words))
            shown |= {word.lower() for word in words}
    return " · ".join(parts)


def measure(hit: Hit) -> str:
    """Return distance and similarity as text; for a search by text the rank in each ranking."""
    if hit.score is not None:
        return " · ".join(f"{name} {place}" for name, place in hit.ranks.items()) or "in no ranking"
    if hit.distance is None or hit.similarity is None:
        return "not compared"
    near = f"{hit.distance:.0f} bit{'' if hit.distance == 1 else 's'}"
    if isinstance(hit.distance, float):
        near = f"{100 * hit.distance:.1f} % of bits"
    shares = share(hit)
    return f"{near} · similarity {hit.similarity:z.2f}" + (f" · {shares}" if shares else "")


def remark(hit: Hit) -> str:
    """Return what a hit is to its query: the same image, or its mirror image; empty if neither."""
    return ITSELF if hit.itself else MIRRORED if hit.mirrored else ""


def share(hit: Hit) -> str:
    """Return what the similarity of a hit means in its archive; empty if not known, and for the query itself."""
    if hit.itself:
        return ""
    if hit.label_share is not None:
        return f"{100 * hit.label_share:.0f} % share a label"
    if hit.neighbour_share is not None:
        return f"nearer than {100 * hit.neighbour_share:.0f} % here"
    return ""


def described(hit: Hit) -> str:
    """Return the line below a hit: the words of the query that its texts hold, else its metadata."""
    return ", ".join(hit.words) or caption(hit)


def seen(result: Result) -> str:
    """Return the title of the query, with the modality it was judged as unless it is an outlier."""
    if result.in_words_only:
        return "Query in words"
    return f"Query, seen as {result.modality}" if result.modality and not result.is_outlier else "Query"


def verdict(outlier: JsonObject | None) -> str:
    """Return the verdict on the query as a sentence; empty where there is none."""
    if outlier is None:
        return ""
    p = outlier["p_value"]
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
    share = "less than 0.1 %" if p < 0.001 else f"{100 * p:.1f} %" if p < 0.1 else f"{100 * p:.0f} %"
    kind = "Outlier: unlike anything the model knows" if outlier["is_outlier"] else "A known kind of image"
    return f"{kind}; {share} of known images are at least as unusual ({shown})"


def judgements(result: Result) -> list[tuple[str, bool]]:
    """Return the sentences on query and archive, each with whether it is a warning."""
    sentences = [(verdict(result.outlier), result.is_outlier)]
    if result.outlier is None and result.query_size is not None:
        sentences = [("No verdict on the query: the bundle judges no outliers", False)]
    if result.familiarity is not None:
        sentences.append((str(result.familiarity), result.familiarity.alike is False))
    elif result.unjudged is not None:
        sentences.append((result.unjudged, False))
    if not result.is_outlier:
        sentences.append((str(result.summary()), False))
    return [(sentence, warns) for sentence, warns in sentences if sentence]


def thumbnail(
    picture: Picture,
    side: int,
    size: tuple[int, int] | None = None,
    box: Box | None = None,
    agreement: NDArray[np.float32] | None = None,
) -> Pillow.Image:
    """Return a picture uint8 [H, W] or [H, W, 3] as RGB inside side x side pixels; small ones are enlarged.

    Args:
        picture: The pixels.
        side: Largest side, pixels.
        box: Drawn as a frame, in pixels of the image.
        size: Width and height of the image; None for those of the picture.
        agreement: float32 [14, 14], tints the cells that agree in most of their bits; NaN are left as they are.
    """
    image = Pillow.fromarray(np.ascontiguousarray(picture)).convert("RGB")
    width, height = size or image.size
    scale = side / max(image.size)
    shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(shape, Pillow.Resampling.LANCZOS if scale < 1 else Pillow.Resampling.BICUBIC)
    across, down = small.width / width, small.height / height
    if agreement is not None:
        small = _tinted(small, agreement, (width, height))
    if box is not None:
        x0, y0 = round(box[0] * across), round(box[1] * down)
        x1, y1 = max(x0, round(box[2] * across) - 1), max(y0, round(box[3] * down) - 1)
        pen = ImageDraw.Draw(small)
        # A dark line beside the bright one shows on white bone and on black air.
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), None, GROUND)
        pen.rectangle((x0, y0, x1, y1), None, MATCH, 2)
    return small


def absent(result: Result) -> str:
    """Return the text in place of a missing query picture: files are not stored, but a stored image should be there."""
    return MISSING if result.receipt.get("query", {}).get("kind") == "id" else "pixels not kept"


def shown_query(result: Result, side: int) -> Pillow.Image | None:
    """Draw the query with its region; None if its pixels are gone."""
    picture = result.query_picture()
    return None if picture is None else thumbnail(picture, side, result.query_size, result.query_box)


def shown_hit(result: Result, hit: Hit, side: int, tinted: bool) -> Pillow.Image | None:
    """Draw a hit with its box, and with its agreement map if `tinted`; None if its pixels are gone."""
    picture = result.hit_picture(hit.id)
    if picture is None:
        return None
    return thumbnail(picture, side, hit.size, hit.box, hit.agreement if tinted else None)


def overlay(agreement: NDArray[np.float32], size: tuple[int, int], side: int) -> Pillow.Image:
    """Return how an image agrees with a query as a picture to lay over it: RGBA, clear where it does not agree.

    Args:
        agreement: float32 [14, 14], tints the cells that agree in most of their bits.
        size: Width and height of the image.
        side: Longest side of the overlay, pixels.
    """
    scale = side / max(size)
    shape = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    drawn = Pillow.new("RGB", shape, MATCH)
    drawn.putalpha(_veil(agreement, size, shape))
    return drawn


def _tinted(small: Pillow.Image, agreement: NDArray[np.float32], size: tuple[int, int]) -> Pillow.Image:
    return Pillow.composite(Pillow.new("RGB", small.size, MATCH), small, _veil(agreement, size, small.size))


def _veil(agreement: NDArray[np.float32], size: tuple[int, int], shape: tuple[int, int]) -> Pillow.Image:
    """Return how much of each pixel is covered: a picture in grey of some shape, for an image of some size."""
    from medlike.imaging import Letterbox

    place = Letterbox.of(size[1], size[0])
    side = place.size / len(agreement)
    across, down = shape[0] / size[0], shape[1] / size[1]
    veil = Pillow.new("L", shape, 0)
    pen = ImageDraw.Draw(veil)
    for row, column in zip(*np.nonzero(agreement > _AGREES), strict=True):
        edges = place.from_box((column * side, row * side, (column + 1) * side, (row + 1) * side))
        x0, y0, x1, y1 = (edge * step for edge, step in zip(edges, (across, down) * 2, strict=True))
        strength = round(255 * _TINT * (float(agreement[row, column]) - _AGREES) / (1 - _AGREES))
        if round(x1) > round(x0) and round(y1) > round(y0):
            pen.rectangle((round(x0), round(y0), round(x1) - 1, round(y1) - 1), strength)
    return veil


def _band(result: Result, columns: int, tile: int, rows: int, agreement: bool | None) -> Pillow.Image:
    shown = result.hits[: columns * rows]
    across = max(1, min(columns, len(shown)))
    down = max(1, -(-len(shown) // columns))
    large = tile + tile // 3
    labels = [_label(hit, tile) for hit in shown]
    foot = 18 + _LINE * max((len(label) for label in labels), default=2)
    step_x, step_y = tile + 2 * _PAD + _GAP, tile + 2 * _PAD + foot + _GAP
    left = large + 2 * _PAD + 2 * _GAP
    head = 46
    width = left + across * step_x - _GAP
    below = _below_query(result, large + 2 * _PAD)
    height = head + max(down * step_y - _GAP, large + 2 * _PAD + 36 + _LINE * len(below))
    band = Pillow.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(band)
    count = {0: "No hits", 1: "1 hit"}.get(len(result.hits), f"{len(result.hits)} hits")
    if len(shown) < len(result.hits):
        count += f", the first {len(shown)} shown"
    # The heading has the row; how many hits there are stands over the hits, or behind it.
    title = _fitted(result.title, _font(24), width - pen.textlength(count, _font(20)) - _GAP)
    pen.text((0, 0), title, BRIGHT, _font(24))
    pen.text((max(left, pen.textlength(title, _font(24)) + _GAP), 3), count, SOFT, _font(20))
    _query(band, pen, result, below, 0, head, large)
    for number, hit in enumerate(shown):
        x, y = left + number % columns * step_x, head + number // columns * step_y
        tinted = hit.box is not None if agreement is None else agreement
        _hit(band, pen, hit, shown_hit(result, hit, tile, tinted), labels[number], x, y, tile, foot)
    return band


def _notes(results: Sequence[Result], room: float) -> list[str]:
    """Return the lines of the legend."""
    terms = [f"{term}: {meaning}" for term, meaning in legend(results)]
    return [line for term in terms for line in _wrapped(term, _font(15), room)]


def _below_query(result: Result, room: float) -> list[tuple[str, Colour]]:
    """Return the lines below the query with their colours."""
    return [
        (line, ACCENT if warns else SOFT)
        for sentence, warns in judgements(result)
        for line in _wrapped(sentence, _font(16), room)
    ]


def _label(hit: Hit, side: int) -> list[tuple[str, Colour]]:
    """Return the lines below a hit with their colours: its measure, and at most `_LABEL` of what it is."""
    lines = _wrapped(described(hit) or hit.id[:12], _font(15), side)
    if len(lines) > _LABEL:
        lines = [*lines[: _LABEL - 1], _fitted(f"{lines[_LABEL - 1]} …", _font(15), side)]
    measured = [(line, BRIGHT) for line in _wrapped(measure(hit), _font(16), side, " · ")]
    remarks = [(line, ACCENT) for line in _wrapped(remark(hit), _font(16), side)]
    return [*measured, *remarks, *((line, SOFT) for line in lines)]


def _query(
    band: Pillow.Image,
    pen: ImageDraw.ImageDraw,
    result: Result,
    below: Sequence[tuple[str, Colour]],
    x: int,
    y: int,
    side: int,
) -> None:
    pen.rectangle((x, y, x + side + 2 * _PAD - 1, y + side + 2 * _PAD - 1), PANEL, ACCENT, 2)
    if result.in_words_only:
        lines = _wrapped(result.query_text or "", _font(20), side)
        if len(lines) > side // 27:
            lines = [*lines[: side // 27 - 1], "…"]
        for number, line in enumerate(lines):
            pen.text((x + _PAD, y + _PAD + 27 * number), _fitted(line, _font(20), side), BRIGHT, _font(20))
    else:
        _place(band, pen, shown_query(result, side), absent(result), x + _PAD, y + _PAD, side)
    top, room = y + side + 2 * _PAD + 10, side + 2 * _PAD
    pen.text((x, top), _fitted(seen(result), _font(18), room), BRIGHT, _font(18))
    top += 26
    for line, colour in below:
        pen.text((x, top), line, colour, _font(16))
        top += _LINE


def _hit(
    band: Pillow.Image,
    pen: ImageDraw.ImageDraw,
    hit: Hit,
    picture: Pillow.Image | None,
    label: Sequence[tuple[str, Colour]],
    x: int,
    y: int,
    side: int,
    foot: int,
) -> None:
    pen.rectangle((x, y, x + side + 2 * _PAD - 1, y + side + 2 * _PAD + foot - 1), PANEL)
    _place(band, pen, picture, MISSING, x + _PAD, y + _PAD, side)
    number = str(hit.rank)
    width = pen.textlength(number, _font(18))
    pen.rounded_rectangle((x + _PAD, y + _PAD, x + _PAD + width + 14, y + _PAD + 27), 4, PANEL)
    pen.text((x + _PAD + 7, y + _PAD + 3), number, BRIGHT, _font(18))
    if hit.group_size is not None and hit.group_size > 1:
        more = f"+{hit.group_size - 1}"
        width = pen.textlength(more, _font(16))
        right = x + _PAD + side
        pen.rounded_rectangle((right - width - 14, y + _PAD, right, y + _PAD + 25), 4, PANEL)
        pen.text((right - width - 7, y + _PAD + 3), more, SOFT, _font(16))
    top = y + side + 2 * _PAD - 2
    for line, colour in label:
        measured = colour == BRIGHT
        pen.text((x + _PAD, top + (0 if measured else 5)), line, colour, _font(16 if measured else 15))
        top += _LINE


def _place(
    band: Pillow.Image, pen: ImageDraw.ImageDraw, picture: Pillow.Image | None, without: str, x: int, y: int, side: int
) -> None:
    pen.rectangle((x, y, x + side - 1, y + side - 1), (0, 0, 0) if picture is not None else EMPTY)
    if picture is None:
        width = pen.textlength(without, _font(16))
        pen.text((x + (side - width) / 2, y + side / 2 - 10), without, SOFT, _font(16))
        return
    band.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _fitted(text: str, font: Font, room: float) -> str:
    """Return a text cut to fit a width, with an ellipsis."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip(" ·") + "…"


def _wrapped(text: str, font: Font, room: float, between: str | None = None) -> list[str]:
    """Return a text in lines that fit a width, with breaks at blanks or another text; a wider part is broken too."""
    lines: list[str] = []
    for word in text.split(between):
        while word and font.getlength(word) > room:
            cut = next(at for at in range(len(word), 0, -1) if at == 1 or font.getlength(word[:at]) <= room)
            lines.append(word[:cut])
            word = word[cut:]
        if not word:
            continue
        if lines and font.getlength(f"{lines[-1]}{between or ' '}{word}") <= room:
            lines[-1] += f"{between or ' '}{word}"
        else:
            lines.append(word)
    return lines
