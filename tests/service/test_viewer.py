"""The compare viewer in a browser: exact pixels, and every gesture and key."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medlike import Archive
from medlike.imaging import Window, read, render_colour

from .browsing import browsing, listening, middle, picture, script_time, settled, until
from .dicoms import shades, write_dicom, write_kinds
from .test_pictures import original

KINDS = ("signed", "monochrome1", "voi lut", "padded", "sigmoid", "frames", "wide", "float", "palette", "colour",
         "units", "falling")  # fmt: skip

@pytest.fixture(scope="module")
def kinds(tmp_path_factory, tiny_regional_bundle, encoder):
    """An archive of one image of each kind of photometry, also a falling slope and a table of units."""
    folder = tmp_path_factory.mktemp("viewed")
    files = write_kinds(folder / "files")
    table = Dataset()
    table.ModalityLUTType = "US"
    table.LUTDescriptor, table.LUTData = [1024, 200, 16], [abs((at * 7) % 2000 - 1000) for at in range(1024)]
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    values = shades(0, 1500, seed=12).astype(np.uint16)
    files["units"] = write_dicom(folder / "units.dcm", values, ModalityLUTSequence=[table])
    files["falling"] = write_dicom(folder / "falling.dcm", values.astype(np.int16), RescaleSlope="-0.7",
                                   RescaleIntercept="600", WindowCenter="200", WindowWidth="650")  # fmt: skip
    with Archive.create(folder / "archive", tiny_regional_bundle, encoder=encoder) as archive:
        archive.add(list(files.values()), "reference", "middle", fit="never")
        paths = {source["path"]: id for id, source in archive.sources(archive.ids()).items()}
        ids = {kind: paths[str(file)] for kind, file in files.items()}
        yield SimpleNamespace(archive=archive, files=files, ids=ids)


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


def opened(page, kinds, *names, renderer="canvas2d", size=(200, 150), **more):
    """Open images by kind in panes of a size; with more facts of each."""
    page.evaluate(
        """async ([items, options, width, height]) => {
          const ready = open_(items, options);
          const style = viewer.panes.element.style;
          const across = width * items.length + 2 * (items.length - 1);
          [style.flex, style.width, style.height] = ["none", `${across}px`, `${height}px`];
          await ready;
        }""",
        [[{"id": kinds.ids[name], **more} for name in names], {"renderer": renderer}, *size],
    )  # fmt: skip
    settled(page)
    assert page.evaluate("viewer.panes.active.painter.kind") == renderer
    page.evaluate("viewer.focus()")


def value(page, path, pane=0):
    """What the viewer holds of a pane."""
    return page.evaluate(f"viewer.panes.all[{pane}].{path}")


def text(page, name, pane=0):
    """What is written in a corner of a pane."""
    settled(page)
    return page.locator(f".viewer-{name}").nth(pane).text_content()


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_that_medlike_renders(page, kinds, kind, renderer):
    image = original(kinds, kind)
    opened(page, kinds, kind, renderer=renderer, size=(image.width + 30, image.height + 20))
    page.keyboard.press("a")
    page.keyboard.press("o")
    page.evaluate("document.activeElement.blur()")

    def seen():
        return middle(picture(page), image.height, image.width)

    expected = render_colour(image)
    if expected.ndim == 3:
        np.testing.assert_array_equal(seen(), expected)
        return
    np.testing.assert_array_equal(seen(), np.stack([expected] * 3, axis=2))
    window = Window(150.0, 700.0)
    page.evaluate("(window) => { viewer.setWindow(window); viewer.panes.invert() }", vars(window))
    inverted = replace(image, photometry=replace(image.photometry, inverted=not image.photometry.inverted))
    np.testing.assert_array_equal(seen()[..., 0], render_colour(inverted, window))


#: The levels of an image under each window, off the screen; as strings, which travel fast.
LEVELS = """async ([id, windows]) => {
  const [{ Source }, { tones }, { levelOf }] = await Promise.all(
    ["source", "shading", "canvas2d"].map((name) => import(`/test/viewer/${name}.js`)));
  const frame = await new Source("/api/v1").frame(id, null);
  return windows.map((window) => {
    const made = tones(frame, window, false);
    return Array.from(frame.samples, (value) => String.fromCharCode(levelOf(value, made))).join("");
  });
}"""
WINDOWS = (
    Window(3.0, 1.0), Window(0.25, 0.5), Window(1e6, 10.0), Window(-300.5, 1234.5), Window(40.0, 333.3, "SIGMOID"),
    Window(500.0, 999.0, "LINEAR_EXACT"),
)  # fmt: skip


@pytest.mark.parametrize("kind", ["signed", "monochrome1", "voi lut", "padded", "float", "falling", "units"])
def test_steps_are_exact_for_every_window(page, kinds, kind):
    image = original(kinds, kind)
    shown = page.evaluate(LEVELS, [kinds.ids[kind], [vars(window) for window in WINDOWS]])
    for window, levels in zip(WINDOWS, shown, strict=True):
        levels = np.frombuffer(levels.encode("latin-1"), np.uint8).reshape(image.pixels.shape)
        np.testing.assert_array_equal(levels, render_colour(image, window), str(window))


def test_dragging_uploads_no_texture_and_takes_little_script(page, kinds):
    opened(page, kinds, "signed", "signed", renderer="webgl2")
    box = page.locator(".viewer-pane").first.bounding_box()
    x, y = box["x"] + 60, box["y"] + 60
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("""() => {
      watched.uploads = watched.drawn = 0;
      const { painter } = viewer.panes.active;
      const { draw } = painter;
      painter.draw = (...given) => { watched.drawn++; draw(...given); };
    }""")
    with script_time(page) as time:
        for step in range(1, 25):
            page.mouse.move(x + 3 * step, y + step)
        page.mouse.up()
        settled(page)
    assert page.evaluate("watched.uploads") == 0
    drawn = page.evaluate("watched.drawn")
    assert drawn > 3 and time[0] / drawn < 2, "milliseconds of script a frame"
    window = value(page, "window")
    assert window["width"] == round(400 * np.exp(2 * 72 / 300)) and window["center"] < 40
    assert value(page, "window", 1) == window


UNDER = "(at) => { const [pane] = viewer.panes.all; return pane.pixelAt(...pane.onCanvas(...at)) }"


def test_linked_panes_zoom_and_move_together_until_unlinked(page, kinds):
    opened(page, kinds, "signed", "grey")
    box = page.locator(".viewer-pane").first.bounding_box()
    place = box["x"] + 30, box["y"] + 40
    page.mouse.move(*place)
    settled(page)
    before = page.evaluate(UNDER, place)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    until(page, "viewer.panes.all[0].view.zoom > 1.5")
    settled(page)
    after = page.evaluate(UNDER, place)
    np.testing.assert_allclose(before, after, atol=0.6)  # the pixel under the cursor stays there
    assert {key: value(page, "view", 1)[key] for key in ("zoom", "x", "y")} == {
        key: value(page, "view")[key] for key in ("zoom", "x", "y")
    }
    page.mouse.down(button="middle")
    page.mouse.move(place[0] + 40, place[1])
    page.mouse.up(button="middle")
    moved = value(page, "view")["x"]
    assert moved == pytest.approx(value(page, "view", 1)["x"]) and moved != 0
    page.keyboard.down(" ")
    page.mouse.down()
    page.mouse.move(place[0], place[1])
    page.mouse.up()
    page.keyboard.up(" ")
    assert value(page, "view")["x"] < moved and value(page, "window") is None
    page.keyboard.press("l")
    page.keyboard.press("+")
    assert value(page, "view", 1)["zoom"] < value(page, "view")["zoom"]
    page.mouse.dblclick(*place)
    settled(page)
    assert value(page, "view")["zoom"] == 1 and value(page, "view", 1)["zoom"] > 1


def test_windows_are_linked_by_modality(page, kinds):
    of = (("signed", "CT"), ("signed", "CT"), ("wide", "DX"))
    items = [{"id": kinds.ids[kind], "modality": modality} for kind, modality in of]
    page.evaluate("(items) => open_(items, { renderer: 'canvas2d' })", items)
    before = page.evaluate("viewer.panes.all[2].currentWindow()")
    page.locator("select").select_option("Lung")
    assert value(page, "window") == value(page, "window", 1) == {"center": -600, "width": 1500, "function": "LINEAR"}
    after = value(page, "window", 2)
    assert after["width"] == pytest.approx(before["width"] * 1500 / 400)
    assert text(page, "window").startswith("W 1500 L −600")
    page.evaluate("viewer.focus()")
    for key, width in (("3", 1800), ("4", 80), ("5", 400)):
        page.keyboard.press(key)
        assert value(page, "window")["width"] == width
    page.keyboard.press("1")
    assert value(page, "window") is None and value(page, "window", 2) is None


def test_the_pixel_under_the_cursor_is_read_in_modality_units(page, kinds):
    opened(page, kinds, "signed", size=(260, 192), modality="CT")
    box = page.locator(".viewer-pane").bounding_box()
    page.mouse.move(box["x"] + 2 * 31 + 1, box["y"] + 2 * 17 + 1)
    stored = int(original(kinds, "signed").pixels[17, 31])
    said = f"x 31, y 17: {stored - 24} HU (stored {stored})".replace("-", "−")
    assert text(page, "value") == said
    page.keyboard.press("Alt+ArrowRight")
    stored = int(original(kinds, "signed").pixels[17, 32])
    assert text(page, "value") == f"x 32, y 17: {stored - 24} HU (stored {stored})".replace("-", "−")
    assert page.locator(".viewer-cross").is_visible()
    opened(page, kinds, "colour", size=(260, 192))
    page.keyboard.press("Alt+ArrowLeft")
    red, green, blue = original(kinds, "colour").pixels[48, 65]
    assert text(page, "value") == f"x 65, y 48: {red}, {green}, {blue}"


def test_frames_by_wheel_and_keys(page, kinds):
    opened(page, kinds, "frames", size=(80, 80))
    page.keyboard.press("a")
    page.keyboard.press("o")
    frames = list(read(kinds.files["frames"], "all"))
    page.mouse.move(40, 100)
    for act, number in (
        (lambda: page.keyboard.press("Home"), 0), (lambda: page.mouse.wheel(0, 120), 1),
        (lambda: page.keyboard.press("PageDown"), 2), (lambda: page.keyboard.press("PageUp"), 1),
        (lambda: page.keyboard.press("End"), 2),
    ):  # fmt: skip
        act()
        until(page, f"viewer.panes.active.frame.frame === {number}")
        assert text(page, "frame") == f"Frame {number + 1} of 3"
        page.evaluate("document.activeElement.blur()")
        np.testing.assert_array_equal(middle(picture(page), 40, 40)[..., 0], render_colour(frames[number]))
        page.evaluate("viewer.focus()")


def test_slices_are_other_images(page, kinds):
    ids = [kinds.ids[kind] for kind in ("signed", "wide", "monochrome1")]
    page.evaluate("(ids) => open_([{ id: ids[1], slices: ids }], { renderer: 'canvas2d' })", ids)
    assert text(page, "frame") == "Slice 2 of 3"
    page.evaluate("viewer.focus()")
    page.keyboard.press("PageUp")
    until(page, "viewer.panes.active.frame.photometry.intercept === -24")
    assert text(page, "frame") == "Slice 1 of 3"


@pytest.mark.parametrize(
    ("keys", "change"),
    [
        ("r", lambda a: np.rot90(a, -1)), ("R", np.rot90), ("h", np.fliplr), ("v", np.flipud), ("i", lambda a: 255 - a),
        ("rh", lambda a: np.fliplr(np.rot90(a, -1))), ("vr", lambda a: np.rot90(np.flipud(a), -1)),
        ("rri", lambda a: 255 - np.rot90(a, 2)), ("rhi0", lambda a: a),
    ],
)  # fmt: skip
def test_turned_flipped_and_inverted(page, kinds, renderer, keys, change):
    opened(page, kinds, "signed", renderer=renderer)
    for key in keys + "ao":
        page.keyboard.press(f"Shift+{key}" if key == "R" else key)
    page.evaluate("document.activeElement.blur()")
    expected = change(render_colour(original(kinds, "signed")))
    np.testing.assert_array_equal(middle(picture(page), *expected.shape)[..., 0], expected)


def test_the_matched_box_lies_where_it_matched(page, kinds):
    opened(page, kinds, "signed", size=(260, 192), boxes=[[10, 20, 60, 50]])
    points = "document.querySelector('.viewer-boxes polygon').getAttribute('points')"
    assert page.evaluate(points) == "20.00,40.00 120.00,40.00 120.00,100.00 20.00,100.00"
    page.keyboard.press("h")
    settled(page)
    assert page.evaluate(points).startswith("240.00,40.00 140.00,40.00")
    page.keyboard.press("b")
    assert not page.locator(".viewer-boxes").is_visible()


def test_two_fingers_zoom(page, kinds):
    opened(page, kinds, "signed")
    touch = page.context.new_cdp_session(page)
    box = page.locator(".viewer-pane").bounding_box()

    def send(kind, *xs):
        points = [{"x": box["x"] + x, "y": box["y"] + 70, "id": at} for at, x in enumerate(xs)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", 90)
    send("touchStart", 90, 110)
    for apart in (20, 30, 40):
        send("touchMove", 100 - apart, 100 + apart)
    send("touchEnd")
    settled(page)
    assert value(page, "view")["zoom"] == pytest.approx(4, rel=0.05) and value(page, "window") is None


def test_keys_are_shown_and_all_named(page, kinds):
    opened(page, kinds, "signed")
    page.keyboard.press("?")
    rows = page.locator(".viewer-help tr")
    assert page.locator(".viewer-help").is_visible()
    assert rows.count() > page.evaluate("shortcuts.length")
    assert "undefined" not in page.locator(".viewer-help").text_content()
    page.keyboard.press("Escape")
    assert not page.locator(".viewer-help").is_visible()
    assert page.evaluate("events.filter(([name]) => name === 'dismiss').length") == 0
    page.evaluate("viewer.focus()")
    page.keyboard.press("Escape")
    assert page.evaluate("events.filter(([name]) => name === 'dismiss').length") == 1


def test_pixels_that_are_gone_leave_the_preview_with_a_sentence(page, kinds):
    page.route("**/pixels*", lambda route: route.fulfill(
        status=410, json={"detail": "the file that it was added from has been moved"}))  # fmt: skip
    try:
        opened(page, kinds, "grey", size=(250, 350))
    finally:
        page.unroute("**/pixels*")
    message = text(page, "message")
    assert "stored preview" in message and "The file that it was added from has been moved." in message
    assert picture(page)[100:250, 60:190].std() > 20
    assert page.locator("select").is_disabled()
    page.complaints[:] = [said for said in page.complaints if "410" not in said]


def test_the_preview_is_there_before_the_pixels(page, kinds):
    opened(page, kinds, "grey")
    names = page.evaluate("events.map(([name]) => name)")
    assert names.index("preview") < names.index("loaded")


def test_a_lost_context_is_replaced(page, kinds):
    opened(page, kinds, "signed", renderer="webgl2")
    page.evaluate("viewer.panes.active.canvas.getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()")
    until(page, "viewer.panes.active.painter.kind === 'canvas2d'")
    for key in "ao":
        page.keyboard.press(key)
    page.evaluate("document.activeElement.blur()")
    expected = render_colour(original(kinds, "signed"))
    np.testing.assert_array_equal(middle(picture(page), *expected.shape)[..., 0], expected)


def test_eight_at_most_and_a_closed_viewer_leaves_nothing(page, kinds):
    ids = [kinds.ids["signed"]] * 8
    page.evaluate("(ids) => open_(ids, { renderer: 'canvas2d' })", ids)
    assert page.locator(".viewer-pane canvas").count() == 8
    with pytest.raises(Exception, match="1 to 8 images, and 9 were given"):
        page.evaluate("(ids) => open_(ids)", [*ids, ids[0]])
    page.evaluate("(ids) => open_(ids, { renderer: 'canvas2d' })", ids[:2])
    assert page.locator(".viewer-pane").count() == 2
    page.evaluate("viewer.close()")
    assert page.locator("#room > *").count() == 0


def test_nothing_was_complained_of(page):
    """By the policy for scripts and styles, by scripts that failed, or of requests to another host."""
    assert page.complaints == []
