"""The compare viewer in a browser: exact pixels, and every gesture and key."""

from dataclasses import replace

import numpy as np
import pytest

from medlike.imaging import Window, read, render_colour

from .browsing import browsing, listening, middle, picture, settled
from .test_pictures import GREY, KINDS, original

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def address(kinds):
    with listening(kinds.archive.path) as address:
        yield address


@pytest.fixture(scope="module")
def page(address):
    with browsing(address) as page:
        yield page


@pytest.fixture(params=["webgl2", "canvas2d"])
def renderer(request):
    return request.param


def opened(page, kinds, *names, renderer="webgl2", **more):
    """Open images by kind, at 1:1 and without marks over them."""
    page.evaluate("([ids, options]) => open_(ids, options)",
                  [[{"id": kinds.ids[name], **more} for name in names], {"renderer": renderer}])
    settled(page)


def bare(page):
    """Show the active pane at 1:1 with nothing written over it."""
    page.evaluate("viewer.focus()")
    page.keyboard.press("a")
    page.keyboard.press("o")
    page.evaluate("document.activeElement.blur()")


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_that_medlike_renders(page, kinds, kind, renderer):
    image = original(kinds, kind)
    opened(page, kinds, kind, renderer=renderer)
    assert page.evaluate("viewer.panes.active.painter.kind") == renderer
    bare(page)
    expected = render_colour(image)
    grey = expected.ndim == 2
    if grey:
        expected = np.stack([expected] * 3, axis=2)
    np.testing.assert_array_equal(middle(picture(page), image.height, image.width), expected)
    if not grey:
        return
    for window in (Window(150.0, 700.0), Window(3.0, 1.0), Window(40.0, 333.3, "SIGMOID")):
        page.evaluate("(window) => viewer.setWindow(window)", vars(window))
        expected = render_colour(image, window)
        np.testing.assert_array_equal(middle(picture(page), image.height, image.width)[..., 0], expected)
    page.evaluate("viewer.panes.invert()")
    inverted = replace(image, photometry=replace(image.photometry, inverted=not image.photometry.inverted))
    expected = render_colour(inverted, window)
    np.testing.assert_array_equal(middle(picture(page), image.height, image.width)[..., 0], expected)
