"""A headless Chromium, and one page in it whose every request, error and breach of policy is noted."""

import contextlib
import os
import urllib.parse

from playwright.sync_api import expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A page polls every 5 s, and backs off to three times that soon.
PATIENCE_MS = 60_000
NOTE_BREACHES = """
    window.breaches = [];
    document.addEventListener('securitypolicyviolation', (event) => window.breaches.push(event.violatedDirective));
"""


@contextlib.contextmanager
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class View:
    """One page of the daemon at `origin`."""

    def __init__(self, browser, origin, screenshots, **context):
        self.origin = origin
        self.screenshots = screenshots
        settings = {"viewport": {"width": 1280, "height": 900}} | context
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        self.page.add_init_script(NOTE_BREACHES)
        self.requests = []
        self.errors = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, **query):
        self.page.goto(f"{self.origin}/?{urllib.parse.urlencode(query)}")
        # It has been told something.
        expect(self.page.locator("#verdict")).not_to_have_class("state")
        return self.page

    def asked(self):
        """How often the page has asked for the status."""
        return sum("/status?" in url for url in self.requests)

    def wait_asked(self, times):
        """Waits until it has asked so many times more."""
        before = self.asked()
        while self.asked() < before + times:
            self.page.wait_for_event("requestfinished", lambda request: "/status?" in request.url)

    def shot(self, name, full_page=True):
        self.screenshots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self.screenshots / f"{name}.png", full_page=full_page)

    def close(self):
        """Whatever a test did: no script failed, nothing broke the policy, and nobody else was asked for anything."""
        breaches = self.page.evaluate("window.breaches")
        self.context.close()
        assert breaches == []
        assert self.errors == []
        elsewhere = [url for url in self.requests if not url.startswith((f"{self.origin}/", "data:"))]
        assert elsewhere == []
        assert len(self.requests) > 1
