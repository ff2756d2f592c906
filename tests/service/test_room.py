"""The reading room in a browser, by mouse and keyboard, on samples and on an image whose texts are hostile."""

import csv

import pytest
from playwright.sync_api import expect
from tests.display.test_contrast import LEAST, contrast

from .browser import MEASURE, Room, chromium
from .running import running

pytestmark = pytest.mark.slow
EACH = 7  # of so many samples one is in the archive
HOSTILE = '<img src=x onerror="alert(1)">"\'><script>alert(2)</script>{{7*7}}'
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(3)"><script>alert(4)</script></svg>'


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """`medlike serve` over some of the samples and one image whose label, region and text are hostile."""
    from medlike import Archive
    from medlike.datasets.shipped import MANIFEST, samples

    folder = tmp_path_factory.mktemp("room")
    with (samples() / MANIFEST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for at, row in enumerate(rows) if at % EACH == 0]
    chosen.append({**rows[1], "label": HOSTILE, "region": HOSTILE, "text": f"effusion {HOSTILE}", "source": HOSTILE})
    for row in chosen:
        row["path"] = str(samples() / row["path"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(chosen)
    with Archive.create(folder / "archive") as archive:
        report = archive.add(folder / "manifest.csv")
        assert report.added == len(chosen)
    with running("--archive", folder / "archive", "--workers", "1") as started:
        yield started


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def room(service, browser):
    opened = Room(browser, service)
    yield opened
    opened.close()


def sample(name):
    from medlike.datasets.shipped import samples

    return (samples() / "queries" / name).read_bytes()


def begin(room, at=0):
    """Ask about the image of an example of the empty page."""
    room.page.locator(".examples button").nth(at).click()
    room.answered()


def test_a_dicom_file_is_asked_about_in_full(room):
    page = room.page
    room.drop("Doe^Jane.dcm", sample("ct-4-3.dcm"))
    room.answered()
    assert page.locator(".stage img").evaluate("image => image.naturalWidth") == 160
    expect(room.cards.first.locator(".facts")).to_contain_text("CT")
    with room.asking():
        room.drag((0.2, 0.3), (0.5, 0.6))
    expect(page.locator("article.card .match").first).to_be_visible()
    first, files = room.sent()[0][0], room.sent()[1]
    assert files == 3, "the picture, the image, and the image with its box"
    assert "encoded" in first and first["exclude_own_patient"] and first["collapse"] == "duplicates"
    with room.asking():
        page.locator(".query-box").press("ArrowRight")
    with room.asking():
        page.get_by_label("CT", exact=False).first.check()
    room.answered()
    texts = room.cards.locator(".facts").all_text_contents()
    assert texts and all(text.startswith("CT") for text in texts)
    files = room.sent()[1]
    with room.asking():
        room.button("Like").click()
    room.answered()
    expect(page.get_by_text("Your mark orders these answers.")).to_be_visible()
    expect(page.get_by_text("the box is set aside")).to_be_visible()
    assert len(room.sent()[0][-1]["like"]) == 1 and page.locator(".match").count() == 0
    with room.asking():
        room.button("Clear marks").click()
    room.button("Remove").click()
    room.answered()
    with room.asking():
        page.get_by_label("Order").select_option("exact")
    room.answered()
    assert room.sent()[0][-1]["rank"] == "exact" and room.sent()[1] == files, "the file is not sent again"
    expect(room.button("Share")).to_be_disabled()
    for url in [each.url for each in room.requests]:
        assert "Doe" not in url


def test_a_link_shows_the_same_answer_in_another_browser(room, service, browser):
    begin(room)
    with room.asking():
        room.button("Not like", 2).click()
    room.answered()
    room.button("Share").click()
    link = room.page.locator("#link").input_value()
    other = Room(browser, service)
    other.open(link.removeprefix(service.url + "/"))
    other.answered()
    expect(other.page.get_by_text("the answer of a shared link")).to_be_visible()
    assert other.ids() == room.ids()
    expect(other.page.locator("article.unliked, .notice").first).to_be_visible()
    other.button("Search anew").click()
    other.answered()
    other.close()
    room.button("Clear marks").click()
    room.answered()


def test_hits_are_compared_with_the_matched_box_on_each(room):
    page = room.page
    room.drop("query.dcm", sample("ct-4-3.dcm"))
    room.answered()
    with room.asking():
        room.drag((0.2, 0.3), (0.5, 0.6))
    expect(page.locator("article.card .match").first).to_be_visible()
    room.button("Compare").click()
    room.button("Compare", 1).click()
    room.button("Compare 2").click()
    panes = page.locator("dialog.comparing .viewer-pane")
    expect(panes).to_have_count(2)
    expect(page.locator("dialog.comparing .viewer-boxes")).to_have_count(2)
    panes.first.press("Escape")
    expect(page.locator("dialog.comparing")).to_have_count(0)
    room.answered()


def test_more_like_this_and_back(room):
    begin(room)
    first = room.ids()
    with room.asking():
        room.button("More like this", 2).click()
    room.answered()
    assert room.ids() != first and first[2] in room.page.url
    with room.asking():
        room.page.go_back()
    room.answered()
    assert room.ids() == first


def test_blind_reading_hides_labels_everywhere(room):
    begin(room)
    label = room.cards.first.locator(".label").inner_text()
    room.button("Hide labels").click()
    assert label not in room.page.locator("main").inner_text()
    assert room.page.locator(".labels").count() == 0
    room.button("Show labels").click()
    assert label in room.page.locator("main").inner_text()


def test_nothing_from_files_runs(room):
    page = room.page
    page.locator("#words").fill("effusion")
    page.locator("#words").press("Enter")
    room.answered()
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert page.locator("article.card script, article.card img[src=x], main script").count() == 0
    room.button("List").click()
    page.locator("details summary").evaluate_all("all => all.forEach(each => each.parentElement.open = true)")
    while page.get_by_role("button", name="Show all").count():
        page.get_by_role("button", name="Show all").first.click()
    assert HOSTILE in page.locator(".filters").first.inner_text()
    page.locator("#file").set_input_files({"name": f"{HOSTILE.replace('/', '')}.svg", "mimeType": "image/svg+xml",
                                           "buffer": SVG})  # fmt: skip
    expect(page.get_by_role("heading", name="This could not be searched for")).to_be_visible()
    page.locator("#words").fill(HOSTILE)
    page.locator("#words").press("Enter")
    expect(page.locator("#answers[aria-busy=false]")).to_be_visible()
    page.goto(f"{room.service.url}/#image={'f' * 32}")
    page.reload()
    expect(page.get_by_role("heading", name="This could not be searched for")).to_be_visible()


def test_the_keyboard_alone_is_enough(room):
    page, key = room.page, room.page.keyboard
    expect(page.locator(".examples button").first).to_be_visible()
    key.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    key.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator(".examples button").first.focus()
    key.press("Enter")
    room.answered()
    with room.asking():
        key.press("b")
    room.answered()
    expect(page.locator(".query-box")).to_be_focused()
    before = page.locator(".query-box").get_attribute("aria-label")
    with room.asking():
        key.press("ArrowRight")
        key.press("Shift+ArrowDown")
    assert page.locator(".query-box").get_attribute("aria-label") != before
    room.answered()
    with room.asking():
        page.locator(".query-box").press("Delete")
    room.answered()
    room.cards.first.focus()
    key.press("ArrowRight")
    expect(room.cards.nth(1)).to_be_focused()
    chosen = room.ids()[1]
    with room.asking():
        key.press("l")
    room.answered()
    card = page.locator(f"article.card[data-id='{chosen}']")
    expect(card).to_be_focused()
    expect(card.get_by_role("button", name="Like", exact=True)).to_have_attribute("aria-pressed", "true")
    with room.asking():
        key.press("l")
    key.press("g")
    expect(page.locator(".cards.list")).to_be_visible()
    with room.asking():
        card.press("m")
    room.answered()
    assert chosen in page.url
    key.press("/")
    expect(page.locator("#words")).to_be_focused()


def test_states_say_what_to_do(room):
    page = room.page
    room.drop("blood.jpg", sample("blood-BloodImage_00000.jpg"))
    room.answered()
    expect(page.locator(".banner")).to_contain_text("medlike cannot judge this kind of image")
    assert set(room.cards.locator(".said").all_text_contents()) == {"Among the nearest"}, "nothing is called alike"
    assert page.locator(".labels").count() == 0
    room.context.set_offline(True)
    page.locator("#words").fill("lesion")
    page.locator("#words").press("Enter")
    expect(page.get_by_role("heading", name="The service does not answer")).to_be_visible()
    room.context.set_offline(False)
    room.button("Try again").click()
    room.answered()
    room.button("Clear").click()
    problem = {"detail": "it failed", "request_id": "a1"}
    page.route("**/api/v1/search?*", lambda route: route.fulfill(status=500, json=problem))
    page.locator("#words").fill("lesion")
    page.locator("#words").press("Enter")
    expect(page.locator(".message")).to_contain_text("Request a1")
    page.unroute("**/api/v1/search?*")
    page.route("**/api/v1/search?*", lambda route: route.fulfill(status=401, json={"detail": "send the token"}))
    room.button("Try again").click()
    expect(page.get_by_role("heading", name="This page has lost its key")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_are_readable_in_both_themes(service, browser, theme):
    room = Room(browser, service, color_scheme=theme, viewport={"width": 1024, "height": 768})
    faint = []
    for act in (lambda: expect(room.page.locator(".examples button").first).to_be_visible(), lambda: begin(room),
                lambda: room.button("List").click(), lambda: room.page.keyboard.press("?")):  # fmt: skip
        act()
        texts = room.page.evaluate(MEASURE)
        assert any("not a medical device" in text for text, _, _ in texts)
        faint += [(text, ratio) for text, colour, behind in texts if (ratio := contrast(colour, behind)) < LEAST]
    width = room.page.evaluate("document.documentElement.scrollWidth")
    room.close()
    assert faint == [] and width == 1024


def test_the_theme_is_kept(room):
    ground = "getComputedStyle(document.body).backgroundColor"
    first = room.page.evaluate(ground)
    for name in ("Theme: as the system", "Theme: dark"):
        room.button(name).click()
    assert room.page.evaluate(ground) == first, "light is what the system asks for"
    room.button("Theme: light").click()
    room.button("Theme: as the system").click()
    assert room.page.evaluate(ground) != first
    room.page.reload()
    assert room.page.evaluate(ground) != first
