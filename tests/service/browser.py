"""A browser on the reading room: Debian's Chromium, which notes what it asks for and what its policy forbids."""

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

PATIENCE = 30_000  # milliseconds
NOTE_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""
MEASURE = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), texts = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
    if (!text || !parent.checkVisibility({ visibilityProperty: true }) || parent.closest(":disabled")) continue;
    const behind = [];
    for (let at = parent; at; at = at.parentElement) behind.push(getComputedStyle(at).backgroundColor);
    texts.push([text, getComputedStyle(parent).color, behind]);
  }
  return texts;
}"""


@contextmanager
def chromium():
    """Start the browser, and end it."""
    path = shutil.which("chromium")
    assert path, "needed: chromium; install with: sh tests/system-packages.sh"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Room:
    """The reading room in a browser of its own: `page` is playwright's."""

    def __init__(self, browser, service, **settings):
        self.service = service
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **settings})
        self.context.add_init_script(NOTE_VIOLATIONS)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.requests, self.errors, self.dialogs = [], [], []
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.open()

    def open(self, fragment=""):
        """Open the printed address, and then the page with a fragment."""
        self.page.goto(f"{self.service.url}/?token={self.service.token}")
        if fragment:
            self.page.goto(f"{self.service.url}/{fragment}")
            self.page.reload()

    @property
    def cards(self):
        """Return the hits that are shown."""
        return self.page.locator("article.card")

    def ids(self):
        """Return the ids of the hits that are shown, in order."""
        return self.cards.evaluate_all("cards => cards.map(card => card.dataset.id)")

    def answered(self):
        """Wait until the answer of the last question is shown."""
        expect(self.page.locator("#answers[aria-busy=false] article.card").first).to_be_visible()

    def asking(self):
        """Return a context in which a search is sent, and what it holds as `value` afterwards."""
        return self.page.expect_response(lambda response: "/api/v1/search" in response.url)

    def button(self, name, at=0):
        """Return a button by its whole name."""
        return self.page.get_by_role("button", name=name, exact=True).nth(at)

    def drop(self, name, content):
        """Drop a file on the page."""
        transfer = self.page.evaluate_handle(
            """([name, content]) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([new Uint8Array(content)], name));
              return transfer;
            }""",
            [name, list(content)],
        )
        self.page.dispatch_event("body", "drop", {"dataTransfer": transfer})

    def drag(self, start, end):
        """Drag over the question, from and to a place in shares of its picture."""
        frame = self.page.locator(".stage").bounding_box()
        points = [(frame["x"] + frame["width"] * x, frame["y"] + frame["height"] * y) for x, y in (start, end)]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        self.page.mouse.move(*points[1], steps=4)
        self.page.mouse.up()

    def sent(self):
        """Return the bodies of the searches that were sent as JSON, and the number of files that were sent."""
        searches = [each for each in self.requests if "/api/v1/search" in each.url]
        bodies = [each.post_data_json for each in searches if "json" in each.headers.get("content-type", "")]
        return bodies, len([each for each in self.requests if "multipart" in each.headers.get("content-type", "")])

    def close(self):
        """Close the page; nothing may have been asked of elsewhere, forbidden by the policy, run or failed."""
        hosts = {urlsplit(each.url).netloc for each in self.requests if not each.url.startswith("blob:")}
        violations = self.page.evaluate("window.violations")
        self.context.close()
        assert hosts == {urlsplit(self.service.url).netloc}
        assert (violations, self.errors, self.dialogs) == ([], [], [])
