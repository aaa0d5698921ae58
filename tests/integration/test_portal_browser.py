"""The portal in Chromium: worklist, case, keyboard alone, without WebGL, on a phone; accessible, confined to its own host."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from corewatch import RESEARCH_LABEL
from corewatch.roles import Role
from tests.conftest import REQUIRE_SERVERS
from tests.integration.conftest import Series
from tests.support.chromium import accessibility_problems, chromium
from tests.support.portal import PASSWORD, RunningPortal, running_portal
from tests.support.portal_cases import PortalCases, ended, fill, opened
from tests.support.programs import COMMAND

pytestmark = [pytest.mark.slow, pytest.mark.servers]

VIEWER = "https://pacs.clinic.example/viewer?study={study_uid}"


@dataclass
class Filled:
    """A portal with one case of each kind."""

    portal: RunningPortal
    cases: PortalCases

    @property
    def url(self) -> str:
        return self.portal.url


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, stroke_series: Series) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("portal")
    command = [COMMAND, "run", str(stroke_series.folder), "--out", str(folder / "analysed"), "--qc"]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    with running_portal(folder / "site", {"viewer_url": VIEWER}) as portal:
        portal.user("brandt", Role.READER)
        portal.user("pacs", Role.OPERATOR)
        yield Filled(portal, fill(portal.settings, portal.ledger, stroke_series.folder, folder / "analysed"))


@pytest.fixture(scope="module")
def browser(tool: Callable[[str], str]) -> Iterator[Chrome]:
    with chromium(tool("chromium"), tool("chromedriver")) as driver:
        yield driver


def until(browser: Chrome, condition: Callable[[], Any], seconds: float = 20) -> Any:
    found = WebDriverWait(browser, seconds, poll_frequency=0.05).until(lambda _: condition() or False)
    assert found
    return found


def size(browser: Chrome, width: int, height: int = 900) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def sign_in(browser: Chrome, filled: Filled, login: str) -> None:
    """By keyboard alone: the field has the focus when the page opens."""
    size(browser, 1440)
    browser.delete_all_cookies()
    browser.get(f"{filled.url}/login")
    until(browser, lambda: focused(browser) == "login")
    ActionChains(browser).send_keys(login, Keys.TAB, PASSWORD, Keys.ENTER).perform()
    until(browser, lambda: browser.find_elements(By.ID, "rows"))


def drawn(browser: Chrome) -> int | None:
    text = browser.execute_script("return document.querySelector('#viewer canvas').dataset.drawn")
    return None if text is None else int(text)


def open_case(browser: Chrome, filled: Filled, case_id: str) -> None:
    browser.get(f"{filled.url}/cases/{case_id}")
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#viewer.ready canvas[data-drawn]"))


def focused(browser: Chrome) -> str:
    script = "const e = document.activeElement; return e.id || e.getAttribute('data-overlay') || e.className || e.tagName"
    return str(browser.execute_script(script))


def tab_to(browser: Chrome, wanted: str, limit: int = 60) -> None:
    for _ in range(limit):
        if focused(browser) == wanted:
            return
        ActionChains(browser).send_keys(Keys.TAB).perform()
    raise AssertionError(f"{wanted} is not reached by Tab; the focus is on {focused(browser)}")


def requested_hosts(browser: Chrome) -> set[str]:
    messages = (json.loads(one["message"])["message"] for one in browser.get_log("performance"))
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    addresses = {one["request"]["url"] for one in sent if one.get("documentURL", "").startswith("http")}
    return {address.split("/")[2] for address in addresses if address.startswith("http")}


def test_log_in_open_scroll_overlay_acknowledge_by_keyboard_alone(browser: Chrome, filled: Filled) -> None:
    sign_in(browser, filled, "brandt")
    assert browser.title.startswith("(1) Worklist")
    link = browser.find_element(By.CSS_SELECTOR, f"#row-{filled.cases.stroke} a")
    browser.execute_script("arguments[0].id = 'the-case'", link)
    tab_to(browser, "the-case")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#viewer.ready canvas[data-drawn]"))
    tab_to(browser, "stage")
    most = drawn(browser)
    assert most is not None
    words = browser.find_element(By.ID, "slice-words")
    assert f"Slice {most + 1} of 160" in words.text
    assert "instance" in words.text
    assert "core" in words.text
    begun = time.monotonic()
    for _ in range(80):  # the scan's half, and back by tens
        ActionChains(browser).send_keys(Keys.ARROW_UP).perform()
    until(browser, lambda: drawn(browser) == min(159, most + 80))
    assert time.monotonic() - begun < 20
    ActionChains(browser).send_keys(Keys.PAGE_DOWN, Keys.PAGE_DOWN).perform()
    until(browser, lambda: drawn(browser) == min(159, most + 80) - 20)
    ActionChains(browser).send_keys("2o").perform()
    assert browser.find_element(By.CSS_SELECTOR, "[data-window=stroke]").get_attribute("aria-pressed") == "true"
    assert browser.find_element(By.CSS_SELECTOR, "[data-overlay=fill]").get_attribute("aria-pressed") == "true"
    ActionChains(browser).send_keys(Keys.HOME).perform()
    until(browser, lambda: drawn(browser) == most)
    assert [browser.find_element(By.CSS_SELECTOR, f"[data-side={side}]").text for side in ("left", "right", "top", "bottom")] == [
        "R", "L", "A", "P",
    ]  # fmt: skip
    tab_to(browser, "acknowledge")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    until(browser, lambda: "Acknowledged by Brandt (brandt)" in browser.find_element(By.ID, "state").text)
    alert = filled.portal.ledger.alerts.get(filled.cases.stroke)
    assert alert is not None
    assert (alert.acknowledged_by, alert.acknowledged_as) == ("Brandt (brandt)", "portal")


def test_the_core_is_drawn_where_the_stroke_is(browser: Chrome, filled: Filled) -> None:
    """The filled core lies on the picture's right half, which is the patient's left, and switching it off removes it."""
    sign_in(browser, filled, "brandt")
    open_case(browser, filled, filled.cases.stroke)
    count = (
        "const c = document.querySelector('#viewer canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let left = 0, right = 0; for (let i = 0; i < d.length; i += 4) if (Math.abs(d[i] - d[i + 2]) > 40)"
        " ((i / 4) % c.width < c.width / 2) ? left++ : right++; return [left, right]"
    )
    browser.find_element(By.CSS_SELECTOR, "[data-overlay=fill]").click()
    left, right = until(browser, lambda: (found := browser.execute_script(count))[1] > 200 and found)
    assert right > 20 * left
    browser.find_element(By.CSS_SELECTOR, "[data-overlay=off]").click()
    until(browser, lambda: sum(browser.execute_script(count)) < 20)
    assert "need WebGL2" in browser.find_element(By.ID, "planes-words").text


def test_a_new_alert_appears_by_itself_and_is_announced(browser: Chrome, filled: Filled) -> None:
    sign_in(browser, filled, "brandt")
    until(browser, lambda: browser.find_element(By.ID, "live").get_attribute("data-state") == "live")
    ledger = filled.portal.ledger
    case_id = opened(ledger, "1.9.1", ledger.clock())
    begun = time.monotonic()
    until(browser, lambda: browser.find_elements(By.ID, f"row-{case_id}"))
    assert time.monotonic() - begun < 2
    before = len(browser.find_elements(By.CSS_SELECTOR, "tr.open"))
    facts = {"core_ml": 55.0, "core_ml_low": 40.0, "core_ml_high": 70.0, "side": "left", "alert": True, "unstable": False}
    ended(ledger, case_id, facts)
    until(browser, lambda: f"New alert: case {case_id}, 55 mL, patient's LEFT." in browser.find_element(By.ID, "announce").text)
    assert len(browser.find_elements(By.CSS_SELECTOR, "tr.open")) == before + 1
    assert browser.title.startswith(f"({before + 1}) ")


def test_a_list_that_is_not_live_says_so(browser: Chrome, filled: Filled) -> None:
    """The page is offline; it says since when, looks frozen, and becomes live again by itself."""
    sign_in(browser, filled, "brandt")
    until(browser, lambda: browser.find_element(By.ID, "live").get_attribute("data-state") == "live")
    browser.execute_script("document.getElementById('live').dataset.staleS = '1'")
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        text = until(browser, lambda: browser.find_element(By.ID, "stale").text)
        assert text.startswith("Not live since ")
        assert "not-live" in browser.execute_script("return document.documentElement.className")
    finally:
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    browser.execute_script("document.getElementById('live').dataset.staleS = '30'")
    until(browser, lambda: not browser.find_element(By.ID, "stale").is_displayed())


def test_search_leaves_no_identifier_in_the_address(browser: Chrome, filled: Filled) -> None:
    sign_in(browser, filled, "brandt")
    browser.find_element(By.CSS_SELECTOR, ".filters summary").click()
    browser.find_element(By.ID, "identifier").send_keys("PHANTOM-first", Keys.ENTER)
    until(browser, lambda: "found=" in browser.current_url)
    assert "PHANTOM" not in browser.current_url + browser.title
    assert [row.get_attribute("data-case") for row in browser.find_elements(By.CSS_SELECTOR, "tr[data-case]")] == [
        filled.cases.stroke
    ]
    views = [line for line in filled.portal.ledger.cases.history(filled.cases.stroke) if line.event == "portal.patient_viewed"]
    assert {line.detail["by"] for line in views} == {"brandt"}
    assert not any("PHANTOM" in json.dumps(line.to_json()) for line in filled.portal.ledger.audit_trail.lines())
    assert "PHANTOM-first" not in filled.portal.log.read_text()


def test_operators_see_no_patient_data_and_retry(browser: Chrome, filled: Filled) -> None:
    sign_in(browser, filled, "pacs")
    assert "PHANTOM" not in browser.page_source
    open_case(browser, filled, filled.cases.stroke)
    assert "PHANTOM" not in browser.page_source
    browser.get(f"{filled.url}/cases/{filled.cases.failed}")
    assert "called AE title not recognized" in browser.find_element(By.ID, "state").text
    browser.find_element(By.ID, "retry").click()
    until(browser, lambda: "Retried in the portal" in browser.find_element(By.CSS_SELECTOR, ".history").text)


def test_removed_images_are_said_to_be_removed(browser: Chrome, filled: Filled) -> None:
    sign_in(browser, filled, "brandt")
    browser.get(f"{filled.url}/cases/{filled.cases.removed}")
    until(browser, lambda: "removed by retention" in browser.find_element(By.ID, "viewer-problem").text)
    assert "removed by retention" in browser.find_element(By.ID, "state").text


@pytest.mark.parametrize("width", [1440, 390])
def test_pages_are_accessible_fit_and_ask_no_other_host(browser: Chrome, filled: Filled, width: int) -> None:
    """axe-core at WCAG A and AA in both themes; no violation of the content security policy; no scrolling to the side."""
    size(browser, width)
    browser.delete_all_cookies()
    browser.get(f"{filled.url}/login")
    problems = [f"login: {one}" for one in accessibility_problems(browser)]
    sign_in(browser, filled, "brandt")
    size(browser, width)
    browser.get_log("browser"), browser.get_log("performance")
    cases = filled.cases
    pages = [
        "/",
        "/?show=failed",
        f"/cases/{cases.stroke}",
        f"/cases/{cases.not_analysed}",
        f"/cases/{cases.removed}",
        "/account",
        "/nothing",
    ]
    for theme in ("dark", "light"):
        browser.execute_script("localStorage.setItem('theme', arguments[0])", theme)
        for path in pages:
            browser.get(filled.url + path)
            if path.endswith(cases.stroke):
                until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#viewer.ready"))
            problems += [f"{path} {theme}: {one}" for one in accessibility_problems(browser)]
            wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} at {width} px scrolls to the side by {wide} px"
            assert RESEARCH_LABEL in browser.find_element(By.CSS_SELECTOR, "footer.site").text
    assert problems == []
    messages = [one["message"] for one in browser.get_log("browser") if "/nothing" not in one["message"]]
    assert messages == []
    assert requested_hosts(browser) == {filled.url.split("/")[2]}


def test_three_planes_where_webgl_is(tool: Callable[[str], str], filled: Filled) -> None:
    with chromium(tool("chromium"), tool("chromedriver"), webgl=True) as browser:
        sign_in(browser, filled, "brandt")
        open_case(browser, filled, filled.cases.stroke)
        button = browser.find_element(By.CSS_SELECTOR, "#planes button")
        if not button.is_displayed():
            (pytest.fail if REQUIRE_SERVERS else pytest.skip)("this Chromium has no software WebGL2")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#planes canvas[data-ready]"), 40)
        assert [one["message"] for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []
        assert requested_hosts(browser) == {filled.url.split("/")[2]}
