"""Pictures of stored images: rendered, as thumbnails, and as pixels for a viewer."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from medlike.errors import InputError
from medlike.service import thumbnails
from medlike.service.answers import answer
from medlike.service.compression import coding, encoded
from medlike.service.conditional import byte_range, cached, entity_tag, readable, unchanged
from medlike.service.context import OfArchive, Target
from medlike.service.descriptions import described
from medlike.service.parameters import known_parameters
from medlike.service.problems import Refusal
from medlike.service.routes.images import ImageId
from medlike.types import JsonObject, Picture

if TYPE_CHECKING:
    from medlike.imaging import Image

router = APIRouter(tags=["pictures"], dependencies=[Depends(known_parameters)])

#: Longest side of a WebP, pixels.
WEBP_SIDE = 16_383
#: Seconds for which a picture waits for others to be drawn.
PATIENCE = 30.0

Version = Annotated[
    str | None,
    Query(description="The version of the image that a link names; the answer may then be cached.", max_length=64),
]
Frame = Annotated[int | None, Query(description="Another frame of its file, from 0.", ge=0, le=1 << 31)]
Number = Annotated[float | None, Query(ge=-1e12, le=1e12, allow_inf_nan=False)]

PHOTOMETRY: JsonObject = {
    "type": "object",
    "required": ["id", "frame", "frames", "shape", "type", "spacing", "photometry", "shading", "table"],
    "properties": {
        "shape": {"type": "array", "items": {"type": "integer"}, "description": "Rows, columns, and 3 for RGB."},
        "type": {"enum": ["uint8", "uint16", "int16", "float32"], "description": "Type of a sample of /pixels."},
        "photometry": {"type": "object", "description": (
            "What the file says. Modality units are stored * slope + intercept, or modality_lut of stored. Windows are "
            "in modality units. If inverted, 255 - shown is shown. Stored values within padding are black.")},
        "shading": {"type": ["object", "null"], "description": (
            "What is shown by default of modality units: kind window (center, width, function by DICOM PS3.3 "
            "C.11.2.1), kind range (low, high: floor(clip((units - low) * (255 / (high - low)), 0, 255) + 0.5), for "
            "low = high 255 above it), or kind voi_lut. null for colour: samples of 8 bits are shown as stored.")},
        "table": {"type": ["object", "null"], "description": (
            "The same as a table: shown, in base64, has a byte for each stored value from first on. null for colour "
            "and floats.")},
    },
}  # fmt: skip


def pictured(*types: str) -> dict[int | str, JsonObject]:
    """Return the successful answers of a route for the API's description.

    Args:
        *types: Media types.
    """
    content = {type: {"schema": {"type": "string", "format": "binary"}} for type in types}
    return {
        "200": {"description": "The picture.", "content": content},
        "304": {"description": "It is the one of If-None-Match."},
        "410": {"description": "Its pixels are gone."},
    }


@readable(router, "/images/{id}/rendered", response_class=Response, responses=pictured("image/png", "image/webp"))
def rendered(
    request: Request,
    of: OfArchive,
    id: ImageId,
    window: Annotated[
        float | None, Query(description="Width of the window, in modality units.", gt=0, le=1e12, allow_inf_nan=False)
    ] = None,
    level: Annotated[Number, Query(description="Centre of the window, in modality units.")] = None,
    invert: Annotated[bool, Query(description="Show dark what the file shows bright.")] = False,
    size: Annotated[int | None, Query(description="Longest side, pixels; never enlarged.", ge=16, le=16_384)] = None,
    frame: Frame = None,
    format: Literal["png", "webp"] = "png",
    quality: Annotated[int | None, Query(description="Of WebP; lossless unless given.", ge=1, le=100)] = None,
    v: Version = None,
) -> Response:
    """Draw an image from its own pixels: as its file says, or with a window (DICOM PS3.3 C.11.2.1.2)."""
    from medlike.imaging import Window, render_colour, scaled

    if (window is None) != (level is None):
        raise InputError("window and level belong together: give both, or none for what the file says")
    if quality is not None and format != "webp":
        raise InputError("quality is of WebP, and a PNG is lossless: leave it out, or give format=webp")
    settings = window, level, invert, size, format, quality
    headers = _headers(request, of, id, frame, "rendered", *settings)
    if not_modified := _unchanged(request, headers):
        return not_modified
    with _turn(of):
        image = _image(of, id, frame)
        if image.colour and (window is not None or invert):
            raise InputError(f"image {id} is in colour: window, level and invert are for grey images, leave them out")
        if invert:
            image = replace(image, photometry=replace(image.photometry, inverted=not image.photometry.inverted))
        shown = render_colour(image, None if window is None or level is None else Window(level, window))
        if size is not None:
            shown = scaled(shown, size)
        if format == "webp" and max(shown.shape[:2]) > WEBP_SIDE:
            raise InputError(f"WebP holds at most {WEBP_SIDE} pixels a side: give size, or format=png")
        body = _written(shown, format, quality)
    return Response(body, headers=headers, media_type=f"image/{format}")


@readable(router, "/images/{id}/thumbnail", response_class=Response, responses=pictured("image/jpeg", "image/webp"))
async def thumbnail(
    request: Request,
    of: OfArchive,
    id: ImageId,
    size: Annotated[int, Query(description="Longest side, pixels; never enlarged.", ge=16, le=512)] = 128,
    format: Literal["jpeg", "webp"] = "jpeg",
    v: Version = None,
) -> Response:
    """Draw a small picture of an image, from its preview where there is one."""
    # One row by its key: that takes less than to hand the request to a thread.
    stamp = of.archive.stamp(id)
    headers = cached(request, entity_tag("thumbnail", stamp, size, format), stamp)
    if not_modified := unchanged(request, headers):
        return not_modified
    kept, key = of.service.thumbnails, (of.archive.id, stamp, size, format)
    body = kept.get(key)
    if body is None:
        body = await run_in_threadpool(_thumbnail, of, id, size, format)
        kept.keep(key, body)
    return Response(body, headers=headers, media_type=f"image/{format}")


def _thumbnail(of: Target, id: str, size: int, format: str) -> bytes:
    preview = of.archive.preview(id)
    if preview is not None:
        return thumbnails.from_preview(preview, size, format)
    with _turn(of):
        body = thumbnails.from_image(of.archive, id, size, format)
    if body is None:
        raise _gone(of, id, None)
    return body


@readable(router, "/images/{id}/picture", response_class=Response, responses=pictured("image/jpeg", "image/png"))
def picture(request: Request, of: OfArchive, id: ImageId, v: Version = None) -> Response:
    """Give the picture that results show: the stored preview as it is, else the image in full as PNG."""
    stamp = of.archive.stamp(id)
    headers = cached(request, entity_tag("picture", stamp), stamp)
    if not_modified := unchanged(request, headers):
        return not_modified
    preview = of.archive.preview(id)
    if preview is not None:
        return Response(preview, headers=headers, media_type="image/jpeg")
    with _turn(of):
        shown = of.archive.picture(id)
        if shown is None:
            raise _gone(of, id, None)
        return Response(_written(shown, "png", None), headers=headers, media_type="image/png")


@readable(
    router, "/images/{id}/pixels", response_class=Response,
    responses={
        **pictured("application/octet-stream"),
        "206": {"description": "The range that was asked for."},
        "416": {"description": "The range lies outside, or there are several."},
    },
)  # fmt: skip
def pixels(request: Request, of: OfArchive, id: ImageId, frame: Frame = None, v: Version = None) -> Response:
    """Give the stored values of an image by rows, little-endian; a colour pixel is R, G, B. See its photometry."""
    chosen = None if "range" in request.headers else coding(request.headers)
    headers = _headers(request, of, id, frame, "pixels")
    plain_tag = headers.get("etag", "")
    if chosen is not None and plain_tag:
        headers["etag"] = f'{plain_tag[:-1]}-{chosen}"'
    if not_modified := _unchanged(request, headers):
        return not_modified
    with _turn(of):
        values = _image(of, id, frame).pixels
        body = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        headers |= {
            "vary": "accept-encoding",
            "accept-ranges": "bytes",
            "x-pixel-shape": ", ".join(map(str, values.shape)),
            "x-pixel-type": values.dtype.name,
        }
        if chosen is not None:
            headers["content-encoding"] = chosen
            return Response(encoded(body, chosen), headers=headers, media_type="application/octet-stream")
    part = byte_range(request, len(body), plain_tag)
    if part is None:
        return Response(body, headers=headers, media_type="application/octet-stream")
    headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{len(body)}"
    return Response(body[part], 206, headers, "application/octet-stream")


@readable(router, "/images/{id}/photometry", responses=described(PHOTOMETRY, "How stored values are shown."))
def photometry(request: Request, of: OfArchive, id: ImageId, frame: Frame = None, v: Version = None) -> Response:
    """Say how the values of /pixels are shown, so that a viewer draws exactly what /rendered draws."""
    from medlike.imaging import Lut, Window, lookup_table, shading

    headers = _headers(request, of, id, frame, "photometry", weak=True)
    if not_modified := _unchanged(request, headers):
        return not_modified
    with _turn(of):
        image = _image(of, id, frame)
        shown: JsonObject | None = None
        table: JsonObject | None = None
        if not image.colour:
            chosen = shading(image)
            if isinstance(chosen, Window):
                shown = {"kind": "window", **asdict(chosen)}
            elif isinstance(chosen, Lut):
                shown = {"kind": "voi_lut"}
            else:
                shown = {"kind": "range", "low": chosen[0], "high": chosen[1]}
        if not image.colour and image.pixels.dtype.kind != "f":
            first, bytes_shown = lookup_table(image)
            table = {"first": first, "shown": base64.b64encode(bytes_shown.tobytes()).decode()}
    value = {
        "id": id,
        "frame": image.frame,
        "frames": image.frames,
        "shape": list(image.pixels.shape),
        "type": image.pixels.dtype.name,
        "spacing": None if image.spacing is None else list(image.spacing),
        "photometry": image.photometry.as_dict(),
        "shading": shown,
        "table": table,
    }
    return answer(value, headers=headers)


def _headers(
    request: Request, of: Target, id: str, frame: int | None, form: str, *settings: object, weak: bool = False
) -> dict[str, str]:
    """Return the headers for caches of a form of an image."""
    stamp = of.archive.stamp(id)
    if frame is not None:
        # The stamp is the image's own: of another frame it says nothing.
        return {"cache-control": "no-store"}
    tag = entity_tag(form, stamp, *settings)
    return cached(request, f"W/{tag}" if weak else tag, stamp)


def _unchanged(request: Request, headers: dict[str, str]) -> Response | None:
    return unchanged(request, headers) if "etag" in headers else None


def _image(of: Target, id: str, frame: int | None) -> "Image":
    image = of.archive.image(id, frame, viewer=of.viewer)
    if image is None:
        raise _gone(of, id, frame)
    return image


def _gone(of: Target, id: str, frame: int | None) -> Refusal:
    """Return the answer for pixels that are gone; no path is in it, which may name somebody."""
    facts = of.archive.facts(id, viewer=of.seeing(False))
    if frame not in (None, facts.frame):
        return Refusal(410, (
            f"frame {frame} of the file of {id} is not stored, and the file cannot be read: index it with all its "
            f"frames, or ask for frame {facts.frame}"
        ))  # fmt: skip
    if facts.pixels == "copy":
        return Refusal(410, f"the stored pixels of {id} are missing: restore them from a backup, see `medlike verify`")
    return Refusal(410, (
        f"the file that {id} was added from has been moved, changed or deleted: put it back, or index it at its new "
        "place with `medlike index`; its thumbnail and picture are kept"
    ))  # fmt: skip


@contextmanager
def _turn(of: Target) -> Iterator[None]:
    """Draw only so many pictures at once: each takes memory for its pixels."""
    if not of.service.renderings.acquire(timeout=PATIENCE):
        raise Refusal(503, f"{of.service.limits.renderings} pictures have been drawn for {PATIENCE:.0f} s: try again")
    try:
        yield
    finally:
        of.service.renderings.release()


def _written(shown: Picture, format: str, quality: int | None) -> bytes:
    from PIL import Image as Pillow

    file = io.BytesIO()
    drawn = Pillow.fromarray(shown)
    if format == "png":
        drawn.save(file, "PNG", compress_level=1)
    elif quality is None:
        drawn.save(file, "WEBP", lossless=True, quality=20, method=1)
    else:
        drawn.save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()
