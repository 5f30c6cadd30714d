"""The page of a daemon in a real cluster."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from conftest import TOPIC

PARTITION = f"{TOPIC}/0"


def row(page, name):
    return page.get_by_role("row").filter(has=page.get_by_role("button", name=name, exact=True))


def opened(view, real, **context):
    """The page with one partition's row open and its snapshots there."""
    one = view(real.origin, **context)
    page = one.open(open=PARTITION)
    expect(page.get_by_role("img")).to_be_visible()
    return one, page


def test_health_at_a_glance(view, real):
    page = view(real.origin).open()
    expect(page.locator("#verdict")).to_have_text("Healthy")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    figures = page.locator("#figures")
    for name in ("Broker", "Store", "Partitions", "Oldest snapshot", "Logs", "Truncation debt", "Work", "Drills"):
        expect(figures.get_by_text(name, exact=True)).to_be_visible()
    expect(page.locator("#who")).to_contain_text("broker 1 of e2e")
    expect(page).to_have_title(re.compile("^broker 1 "))
    status = real.node.status()[(TOPIC, 0)]
    shown = row(page, PARTITION)
    expect(shown).to_contain_text(status["role"])
    expect(shown.locator(".state")).to_have_text("ok")


def test_a_row_is_opened_and_closed_by_keyboard_alone(view, real):
    one = view(real.origin)
    page = one.open()
    button = page.get_by_role("button", name=PARTITION, exact=True)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the partitions")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == PARTITION:
            break
    expect(button).to_be_focused()
    width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
    assert width >= 2, "the focus is visible"
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    detail = page.locator("#detail")
    for fact in ("Decision", "Truncation held by", "Restore would take", "Last drill", "Topic id"):
        expect(detail.get_by_text(fact, exact=True)).to_be_visible()
    # The focus outlives a refresh, and so does the open row.
    one.wait_asked(2)
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(detail).to_have_count(0)


def test_the_timeline_has_the_snapshots_that_the_command_line_lists(view, real):
    _, page = opened(view, real)
    listed = real.listed(PARTITION)
    assert len(listed) >= 3
    table = page.get_by_role("table", name=f"Snapshots of {PARTITION}")
    ids = [one["snapshot_id"] for one in listed]
    expect(table.locator("code")).to_have_text(ids)
    first = table.get_by_role("row").nth(1)
    expect(first).to_contain_text(f"{listed[0]['last_included']['index']:,}")
    expect(first).to_contain_text("full" if listed[0]["increment"] == 0 else f"increment {listed[0]['increment']}")
    expect(first).to_contain_text("proven")
    assert page.locator(".timeline svg svg").count() == len(ids)


def test_a_daemon_that_is_gone_is_told_and_so_is_its_return(view, real):
    page = view(real.origin).open()
    lost = page.get_by_role("alert")
    expect(lost).to_be_hidden()
    real.node.sidecar_process.kill()
    try:
        expect(lost).to_be_visible()
        expect(lost).to_contain_text("The daemon does not answer since")
        expect(page.locator("#updated")).to_contain_text("next try in")
        # What was known stays on show.
        expect(row(page, PARTITION)).to_be_visible()
    finally:
        real.node.sidecar_process.start()
    real.cluster.wait("the daemon", lambda: real.node.status())
    page.get_by_role("button", name="Try now").click()
    expect(lost).to_be_hidden()
    real.cluster.wait("its snapshots", lambda: real.proven(300))


def test_updates_can_be_paused(view, real):
    one = view(real.origin)
    one.page.clock.install()
    page = one.open()
    pause = page.get_by_role("button", name="Pause updates")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#updated")).to_contain_text("paused")
    asked = one.asked()
    # By the page's own clock, which the test winds forward.
    page.clock.fast_forward(60_000)
    expect(page.locator("#updated")).to_contain_text("updated 1 min")
    assert one.asked() == asked
    pause.click()
    expect(page.locator("#updated")).not_to_contain_text("paused")
    expect(page.locator("#updated")).not_to_contain_text("1 min")
    assert one.asked() > asked


def test_a_page_that_nobody_sees_asks_nothing(view, real):
    one = view(real.origin)
    one.page.clock.install()
    page = one.open()
    look = """(hidden) => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(look, True)
    asked = one.asked()
    page.clock.fast_forward(60_000)
    expect(page.locator("#updated")).to_contain_text("updated 1 min")
    assert one.asked() == asked
    page.evaluate(look, False)
    expect(page.locator("#updated")).not_to_contain_text("1 min")
    assert one.asked() > asked


def test_work_shows_how_far_it_is_and_a_lost_cover_is_loud(view, real):
    one = view(real.origin)

    def worse(route):
        """The daemon's answer, with work and trouble that a sound cluster has not."""
        answer = route.fetch()
        status = answer.json()
        begun = status["now_unix_ms"] - 65_000
        work = {"kind": "restore", "topic": TOPIC, "partition": 7, "stage": "sending", "began_at_unix_ms": begun}
        brief = {"kind": "visit", "stage": "looking", "began_at_unix_ms": status["now_unix_ms"], "done_bytes": 0}
        status["running"] = [
            work | {"done_bytes": 3 << 20, "total_bytes": 12 << 20},
            work | brief | {"total_bytes": 0},
        ]
        status["summary"]["unprotected"] = 1
        status["partitions"][0]["unprotected"] = True
        route.fulfill(response=answer, json=status)

    one.page.route("**/status?*", worse)
    page = one.open()
    work = page.get_by_role("table", name="What runs now").get_by_role("row").nth(1)
    expect(work.get_by_role("cell")).to_have_text(["restore", "sending", "25 % of 12.0 MiB", "1 min 5 s"])
    bar = work.get_by_role("progressbar", name=f"Progress of {TOPIC}/7")
    assert bar.evaluate("(bar) => bar.value / bar.max") == 0.25
    expect(page.locator("#running-brief")).to_have_text("1 short visit runs")
    expect(page.locator("#verdict")).to_have_text("Needs attention")
    expect(page.locator("#problems")).to_contain_text("1 partition is unprotected")
    expect(page.locator("#partitions .state").first).to_have_text("unprotected")
    expect(page).to_have_title(re.compile(r"^\(1\) broker 1 "))
    one.shot("trouble")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_no_rule_of_accessibility_is_broken(view, real, scheme, width):
    one, page = opened(view, real, color_scheme=scheme, viewport={"width": width, "height": 740})
    one.shot(f"{scheme}-{'phone' if width == 360 else 'wide'}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) / 3
    assert (brightness < 60) == (scheme == "dark"), ground
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
