"""Pictures that are no medical images, drawn by code: every kind from a fixed seed, the same on every machine.

The outlier score of a bundle is fitted to them, beside the out-of-distribution images that a collection may bring.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Grey = npt.NDArray[np.uint8]
Draw = Callable[[np.random.Generator], Image.Image]


def draw_outliers(numbers: Iterable[int], seed: int = 0) -> dict[str, list[Grey]]:
    """Draw the grey pictures of these numbers, of every kind: kind -> uint8 [H, W] each."""
    numbers = list(numbers)
    pictures = {}
    for place, (kind, draw) in enumerate(KINDS.items()):
        randoms = [np.random.default_rng((seed, place, number)) for number in numbers]
        pictures[kind] = [np.asarray(draw(random).convert("L")) for random in randoms]
    return pictures


def _size(random: np.random.Generator) -> tuple[int, int]:
    return int(random.integers(240, 720)), int(random.integers(240, 720))


def _words(random: np.random.Generator, count: int) -> str:
    letters = np.array(list(string.ascii_lowercase))
    words = ["".join(random.choice(letters, int(random.integers(2, 10)))) for _ in range(count)]
    return " ".join(words)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _page(random: np.random.Generator) -> Image.Image:
    """Draw a page of text: paragraphs, sometimes a table, dark on bright."""
    width, height = _size(random)
    page = Image.new("L", (width, height), int(random.integers(225, 256)))
    pen = ImageDraw.Draw(page)
    size = int(random.integers(9, 22))
    ink = int(random.integers(0, 70))
    left = int(random.integers(8, 40))
    top = left
    while top < height - size:
        if random.random() < 0.12:
            top += size
            continue
        pen.text((left, top), _words(random, int(random.integers(3, 16))), fill=ink, font=_font(size))
        top += round(1.4 * size)
    if random.random() < 0.4:
        for x in np.linspace(left, width - left, int(random.integers(3, 7))):
            pen.line((x, left, x, height - left), fill=ink)
    return page


def _screen(random: np.random.Generator) -> Image.Image:
    """Draw a screenshot: windows with a title bar, buttons and text, on a bright or a dark desktop."""
    width, height = _size(random)
    dark = random.random() < 0.5
    desk, panel, ink = (25, 45, 215) if dark else (200, 245, 30)
    screen = Image.new("L", (width, height), desk + int(random.integers(-20, 21)))
    pen = ImageDraw.Draw(screen)
    for _ in range(int(random.integers(1, 5))):
        x, y = int(random.integers(0, width // 2)), int(random.integers(0, height // 2))
        right, bottom = int(random.integers(x + 90, width + 60)), int(random.integers(y + 90, height + 60))
        pen.rectangle((x, y, right, bottom), fill=panel, outline=ink)
        pen.rectangle((x, y, right, y + 18), fill=int(random.integers(60, 180)))
        pen.text((x + 6, y + 3), _words(random, 3), fill=ink, font=_font(11))
        for line in range(y + 26, bottom - 40, 15):
            pen.text((x + 8, line), _words(random, int(random.integers(1, 9))), fill=ink, font=_font(10))
        for button in range(x + 8, right - 60, 70):
            pen.rounded_rectangle((button, bottom - 28, button + 58, bottom - 8), 4, fill=150, outline=ink)
    return screen


def _chart(random: np.random.Generator) -> Image.Image:
    """Draw a chart with axes: curves or bars."""
    width, height = _size(random)
    chart = Image.new("L", (width, height), 255 if random.random() < 0.8 else 20)
    pen = ImageDraw.Draw(chart)
    left, bottom = 40, height - 30
    for y in np.linspace(20, bottom, 6):
        pen.line((left, y, width - 10, y), fill=205)
        pen.text((8, y - 5), f"{int(random.integers(0, 100))}", fill=100, font=_font(10))
    if random.random() < 0.5:
        for _ in range(int(random.integers(1, 5))):
            xs = np.linspace(left, width - 10, 60)
            ys = bottom - 30 - (bottom - 60) * _unit(np.cumsum(random.normal(size=60)))
            tone, thick = int(random.integers(0, 200)), int(random.integers(1, 4))
            pen.line([(float(x), float(y)) for x, y in zip(xs, ys, strict=True)], fill=tone, width=thick)
    else:
        edges = np.linspace(left, width - 10, int(random.integers(4, 15)))
        for a, b in pairwise(edges):
            pen.rectangle((a + 3, float(random.uniform(25, bottom)), b - 3, bottom), fill=int(random.integers(0, 200)))
    pen.line((left, 10, left, bottom, width - 10, bottom), fill=128, width=2)
    return chart


def _unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (values - values.min()) / max(float(np.ptp(values)), 1e-9)


def _shapes(random: np.random.Generator) -> Image.Image:
    """Draw circles, boxes, polygons and lines of any tone on a plain ground."""
    width, height = _size(random)
    picture = Image.new("L", (width, height), int(random.choice([0, 0, 255, int(random.integers(0, 256))])))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(2, 25))):
        tone = int(random.integers(0, 256))
        x, y = random.uniform(-0.1, 1, 2) * (width, height)
        w, h = random.uniform(0.03, 0.5, 2) * (width, height)
        form = int(random.integers(4))
        if form == 0:
            pen.ellipse((x, y, x + w, y + h), fill=tone)
        elif form == 1:
            pen.rectangle((x, y, x + w, y + h), fill=tone)
        elif form == 2:
            points = random.uniform(-0.5, 0.5, (int(random.integers(3, 8)), 2)) * (w, h) + (x, y)
            pen.polygon([(float(a), float(b)) for a, b in points], fill=tone)
        else:
            pen.line((x, y, x + w, y + h), fill=tone, width=int(random.integers(1, 12)))
    return picture


def _noise(random: np.random.Generator) -> Image.Image:
    """Draw noise: white, or blurred to a grain, normal, even or black and white."""
    width, height = _size(random)
    grain = int(random.choice([1, 1, 2, 4, 8]))
    shape = (height // grain, width // grain)
    form = int(random.integers(3))
    values: npt.NDArray[np.floating]
    if form == 0:
        values = random.normal(random.uniform(70, 180), random.uniform(20, 70), shape)
    elif form == 1:
        values = random.uniform(0, 255, shape)
    else:
        values = 255.0 * (random.random(shape) < random.uniform(0.1, 0.9))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)


def _clouds(random: np.random.Generator) -> Image.Image:
    """Draw clouds: noise whose power falls with frequency, as in a natural scene."""
    size = 384
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(random.normal(size=(size, size))) * frequency ** -random.uniform(0.7, 2.2)
    values = np.real(np.fft.ifft2(spectrum))
    return Image.fromarray((255 * _unit(values)).astype(np.uint8))


def _pattern(random: np.random.Generator) -> Image.Image:
    """Draw a pattern: stripes, checks, rings or a matrix code."""
    size = 360
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    period, angle = random.uniform(6, 70), random.uniform(0, np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = -np.sin(angle) * x + np.cos(angle) * y
    form = int(random.integers(4))
    if form == 0:
        values = np.sin(2 * np.pi * along / period)
    elif form == 1:
        values = np.sign(np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period))
    elif form == 2:
        values = np.sin(2 * np.pi * np.hypot(x - random.uniform(0, size), y - random.uniform(0, size)) / period)
    else:
        cells = int(random.integers(15, 45))
        bits = random.random((cells, cells)) < 0.5
        return Image.fromarray((255 * bits).astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    return Image.fromarray((127.5 * (1 + values * random.uniform(0.4, 1))).astype(np.uint8))


def _ramps(random: np.random.Generator) -> Image.Image:
    """Draw next to nothing: a plain tone, a gradient, or one soft spot."""
    size = 320
    y, x = np.mgrid[0:size, 0:size] / size
    form = int(random.integers(3))
    if form == 0:
        values = np.full((size, size), random.uniform(0, 255)) + random.normal(0, random.uniform(0, 3), (size, size))
    elif form == 1:
        angle = random.uniform(0, 2 * np.pi)
        values = random.uniform(60, 255) * _unit(np.cos(angle) * x + np.sin(angle) * y)
    else:
        centre = random.uniform(0.3, 0.7, 2)
        far = np.hypot(x - centre[0], y - centre[1])
        values = random.uniform(120, 255) * np.exp(-((far / random.uniform(0.05, 0.4)) ** 2))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _scene(random: np.random.Generator) -> Image.Image:
    """Draw a landscape like a child's: sky, hills, houses and trees, softened and grained like a photograph."""
    width, height = _size(random)
    y = np.linspace(0, 1, height)[:, None]
    sky = random.uniform(140, 250) - random.uniform(-60, 90) * y
    picture = Image.fromarray(np.clip(np.broadcast_to(sky, (height, width)), 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for layer in range(int(random.integers(1, 4))):
        xs = np.linspace(0, width, 40)
        ys = height * (0.4 + 0.15 * layer + 0.12 * _unit(np.cumsum(random.normal(size=40))))
        edge = [(float(a), float(b)) for a, b in zip(xs, ys, strict=True)]
        pen.polygon([(0, height), *edge, (width, height)], fill=int(random.integers(30, 170)))
    for _ in range(int(random.integers(1, 9))):
        x, base = random.uniform(0, width), random.uniform(0.6, 0.95) * height
        tall, tone = random.uniform(0.08, 0.4) * height, int(random.integers(0, 220))
        if random.random() < 0.5:
            pen.rectangle((x, base - tall, x + 0.8 * tall, base), fill=tone)
            pen.polygon([(x, base - tall), (x + 0.4 * tall, base - 1.5 * tall), (x + 0.8 * tall, base - tall)], fill=60)
        else:
            pen.rectangle((x - 3, base - tall, x + 3, base), fill=50)
            pen.ellipse((x - 0.4 * tall, base - 1.5 * tall, x + 0.4 * tall, base - 0.5 * tall), fill=tone)
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)), np.float64)
    grained = soft + random.normal(0, random.uniform(2, 12), soft.shape)
    return Image.fromarray(np.clip(grained, 0, 255).astype(np.uint8))


def _texture(random: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    """Return noise from 0 to 1 whose power falls with frequency: float64 [height, width]."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(random.normal(size=(height, width))) * frequency ** -random.uniform(0.6, 1.8)
    return _unit(np.real(np.fft.ifft2(spectrum)))


def _leaves(random: np.random.Generator) -> Image.Image:
    """Draw things that hide each other, of all sizes, each with a surface and a light of its own ("dead leaves")."""
    size = int(random.integers(256, 400))
    picture = Image.new("L", (size, size), int(random.integers(0, 256)))
    smallest = random.uniform(3, 20)
    surfaces = [_texture(random, size, size) for _ in range(4)]
    for _ in range(int(random.integers(60, 200))):
        # Areas fall as a power, as those of things in photographs do.
        radius = min(smallest * random.power(1.5) ** -1.5, 0.45 * size)
        mask = Image.new("L", (size, size), 0)
        pen = ImageDraw.Draw(mask)
        x, y = random.uniform(0, size, 2)
        if random.random() < 0.5:
            ratio = random.uniform(0.4, 1)
            pen.ellipse((x - radius, y - ratio * radius, x + radius, y + ratio * radius), fill=255)
        else:
            angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 8))))
            pen.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles.tolist()], fill=255)
        surface: npt.NDArray[np.float64] = np.full((size, size), random.uniform(10, 245))
        if radius > 0.05 * size:
            light = np.linspace(-1, 1, size).reshape((-1, 1) if random.random() < 0.5 else (1, -1))
            turned = np.rot90(surfaces[int(random.integers(len(surfaces)))], int(random.integers(4)))
            surface = surface + random.uniform(0, 90) * (turned - 0.5)
            surface = surface + random.uniform(-40, 40) * light
        picture.paste(Image.fromarray(np.clip(surface, 0, 255).astype(np.uint8)), (0, 0), mask)
    soft = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.5)))
    values = np.asarray(soft, np.float64) + random.normal(0, random.uniform(0, 8), (size, size))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _branches(random: np.random.Generator) -> Image.Image:
    """Draw a lit disk in the dark with a bright spot from which dark lines branch."""
    size = 400
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    centre = random.uniform(-0.3, 0.3, 2)
    far = np.hypot(x - centre[0], y - centre[1])
    ground = random.uniform(70, 150) - random.uniform(20, 70) * np.hypot(x, y) + 15 * _texture(random, size, size)
    ground = ground + random.uniform(40, 120) * np.exp(-((far / random.uniform(0.04, 0.09)) ** 2))
    picture = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    ends = [(size * (0.5 + centre[0]), size * (0.5 + centre[1]), random.uniform(0, 2 * np.pi), random.uniform(4, 8))
            for _ in range(int(random.integers(4, 9)))]  # fmt: skip
    tone = int(random.integers(25, 75))
    while ends:
        left, top, angle, width = ends.pop()
        for _ in range(int(random.integers(8, 30))):
            angle += random.normal(0, 0.18)
            right, bottom = left + 7 * np.cos(angle), top + 7 * np.sin(angle)
            pen.line((left, top, right, bottom), fill=tone, width=max(1, round(width)))
            left, top = right, bottom
        if width > 1.2:
            ends += [(left, top, angle + turn, 0.7 * width) for turn in (-0.5, 0.4)]
    values = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)), np.float64)
    values = values + random.normal(0, random.uniform(0, 5), values.shape)
    values[np.hypot(x, y) > random.uniform(0.42, 0.6)] = random.uniform(0, 12)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _droplets(random: np.random.Generator) -> Image.Image:
    """Draw many round bodies on a bright ground, ring-shaped or full, some with a dark kernel."""
    size = 400
    picture = Image.new("L", (size, size), int(random.integers(165, 245)))
    pen = ImageDraw.Draw(picture)
    radius, tone = random.uniform(8, 40), int(random.integers(90, 190))
    for _ in range(int(random.integers(1, 4) * (size / radius / 2) ** 2 / 3)):
        x, y = random.uniform(0, size, 2)
        r, ratio = radius * random.uniform(0.85, 1.15), random.uniform(0.8, 1.2)
        shade = tone + int(random.integers(-15, 16))
        pen.ellipse((x - r, y - ratio * r, x + r, y + ratio * r), fill=shade, outline=shade - 25)
        if random.random() < 0.6:
            inner = 0.45 * r
            pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=min(shade + 30, 255))
    for _ in range(int(random.integers(0, 6))):
        x, y = random.uniform(0, size, 2)
        r = radius * random.uniform(0.7, 1.6)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=int(random.integers(30, 110)))
    values = np.asarray(picture.filter(ImageFilter.GaussianBlur(random.uniform(0.8, 3))), np.float64)
    values = values + 25 * (_texture(random, size, size) - 0.5)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


KINDS: Mapping[str, Draw] = {
    "text page": _page,
    "screenshot": _screen,
    "chart": _chart,
    "shapes": _shapes,
    "noise": _noise,
    "clouds": _clouds,
    "pattern": _pattern,
    "blank": _ramps,
    "drawn scene": _scene,
    "things": _leaves,
    "branching lines": _branches,
    "round bodies": _droplets,
}
