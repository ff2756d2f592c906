"""A page with a viewer over a service, in Debian's Chromium."""

import io
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image as Pillow
from playwright.sync_api import sync_playwright
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

import medlike.service
from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections

from .conftest import OWNER, as_owner

CHROMIUM = "/usr/bin/chromium"
STATIC = Path(medlike.service.__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE = """<!doctype html><html lang="en"><title>viewer</title>
<link rel="stylesheet" href="/test/viewer/viewer.css"><link rel="stylesheet" href="/test/page.css">
<div id="room"></div><script type="module" src="/test/page.js"></script></html>"""
STYLE = "html, body { margin: 0; height: 100% } #room { position: absolute; inset: 0 }"
SCRIPT = """
import { openViewer, SHORTCUTS } from "/test/viewer/viewer.js";
window.open_ = (ids, options) => {
  window.viewer?.close();
  window.events = [];
  window.viewer = openViewer(document.getElementById("room"), ids, options);
  for (const name of ["window", "view", "frame", "failed", "loaded", "preview", "focus", "dismiss", "link", "invert"])
    window.viewer.addEventListener(name, (event) => window.events.push([name, event.detail]));
  return window.viewer.ready;
};
window.shortcuts = SHORTCUTS;
window.started = true;
"""
#: Counts uploads of textures.
WATCH = """
window.watched = { uploads: 0 };
for (const name of ["texImage2D", "texSubImage2D"]) {
  const plain = WebGL2RenderingContext.prototype[name];
  WebGL2RenderingContext.prototype[name] = function (...given) { watched.uploads++; return plain.apply(this, given); };
}
"""


@contextmanager
def listening(path):
    """Serve an archive and the viewer's files in a thread of this process; returns the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        collections = Collections([Collection("first", path)])
        app = create_app(collections, Access(OWNER, port=port))
        plain = {"/test/page.css": (STYLE, "text/css"), "/test/page.js": (SCRIPT, "text/javascript")}
        app.router.routes.append(Route("/favicon.ico", lambda _: Response(status_code=204)))
        for place, (text, kind) in plain.items():
            app.router.routes.append(Route(place, lambda _, t=text, k=kind: HTMLResponse(t, media_type=k)))
        policy = {"content-security-policy": POLICY}
        app.router.routes.append(Route("/test", lambda _: HTMLResponse(PAGE, headers=policy)))
        app.mount("/test", StaticFiles(directory=STATIC))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(30)
            collections.close()


@contextmanager
def browsing(address, gl=True, size=(1040, 800)):
    """Start Chromium with a page of the viewer; all that it complains about is in `page.complaints`."""
    with sync_playwright() as playwright:
        flags = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"] if gl else ["--disable-gpu"]
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--force-color-profile=srgb", *flags]
        )
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, extra_http_headers=as_owner(), has_touch=True
        )
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda sent: sent.url.startswith(address) or page.complaints.append(sent.url))
        page.add_init_script(WATCH)
        page.goto(f"{address}/test")
        until(page, "window.started")
        yield page
        browser.close()


def until(page, condition):
    """Wait until an expression holds; the policy of the page lets playwright's own way not pass."""
    page.evaluate(f"""() => new Promise((done) => {{
      const next = () => ({condition}) ? done() : requestAnimationFrame(next);
      next();
    }})""")


def settled(page):
    """Wait until the page has drawn all that it is about to draw."""
    page.evaluate("""() => new Promise((done) => {
      let left = 3;
      const next = () => left-- ? requestAnimationFrame(next) : done();
      next();
    })""")


@contextmanager
def script_time(page):
    """Measure the milliseconds of the processor that scripts take within, whatever else the machine does."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent():
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return 1000 * next(each["value"] for each in metrics if each["name"] == "ScriptDuration")

    begun, time = spent(), []
    yield time
    time.append(spent() - begun)
    devtools.detach()


def picture(page, pane=0):
    """What is seen of a pane, uint8 [H, W, 3]."""
    settled(page)
    shot = page.locator(".viewer-pane").nth(pane).screenshot()
    return np.asarray(Pillow.open(io.BytesIO(shot)).convert("RGB"))


def middle(shot, height, width):
    """The middle of a picture, which is the frame at 1:1."""
    top, left = round((shot.shape[0] - height) / 2), round((shot.shape[1] - width) / 2)
    return shot[top : top + height, left : left + width]
