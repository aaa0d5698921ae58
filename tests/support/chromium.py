"""Debian's Chromium without a screen, driven by selenium; it reaches nothing but loopback."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

AXE = Path(__file__).parent / "vendor" / "axe-core-4.14.1" / "axe.min.js"
_AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@contextmanager
def chromium(binary: str, driver: str, *, webgl: bool = False, width: int = 1440, height: int = 900) -> Iterator[Chrome]:
    """A fresh browser."""
    with tempfile.TemporaryDirectory(prefix="chromium") as profile:
        options = ChromeOptions()
        options.binary_location = binary
        flags = [
            "--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-component-update", "--disable-sync", f"--window-size={width},{height}", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]  # fmt: skip
        flags += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"] if webgl else ["--disable-gpu", "--disable-3d-apis"]
        for flag in flags:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = Chrome(options=options, service=Service(driver))
        try:
            browser.set_page_load_timeout(30)
            browser.set_script_timeout(30)
            yield browser
        finally:
            browser.quit()


def accessibility_problems(browser: Chrome) -> list[str]:
    """What axe-core finds of WCAG A and AA on the page that is open."""
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script(
        "const done = arguments[1]; axe.run(document, {runOnly: arguments[0]}).then(r => done(r.violations), e => done(String(e)))",
        _AXE_RULES,
    )
    assert isinstance(found, list), found
    return [f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:4]]}" for one in found]
