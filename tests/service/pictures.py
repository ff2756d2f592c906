"""Draw the pictures of the reading room: python -m tests.service.pictures docs/images."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from .browser import Room, chromium
from .running import running

QUALITY, SCALE = 85, 0.8
SIZE = {"width": 1280, "height": 800}


def main(folder):
    """Write a picture of each theme, of the samples that come with medlike."""
    from medlike.datasets.shipped import samples

    with (
        tempfile.TemporaryDirectory() as cache,
        running("--demo", environment={"XDG_CACHE_HOME": cache}) as service,
        chromium() as browser,
    ):
        for theme in ("dark", "light"):
            room = Room(browser, service, color_scheme=theme, viewport=SIZE)
            room.page.locator("#file").set_input_files(samples() / "queries" / "chest-86d19bba.jpg")
            room.answered()
            if theme == "dark":
                with room.asking():
                    room.drag((0.08, 0.5), (0.46, 0.82))
                room.page.locator("article.card .match").first.wait_for()
                room.answered()
            room.page.wait_for_load_state("networkidle")
            save(room.page.screenshot(), Path(folder) / f"room-{theme}.jpg")
            room.close()


def save(screenshot, file):
    """Write a screenshot as a smaller JPEG."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    size = (round(picture.width * SCALE), round(picture.height * SCALE))
    picture.resize(size, Image.Resampling.LANCZOS).save(file, quality=QUALITY, optimize=True)
    print(file, f"{file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
