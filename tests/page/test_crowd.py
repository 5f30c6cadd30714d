"""The page of a daemon with ten thousand partitions, one of which has a name that means something to a browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, expect

HOSTILE = "<img src=x onerror=\"document.title='taken over'\">/0"
FAILING = "failing/0"


def names(page):
    return page.locator("#partitions .open").all_text_contents()


def test_ten_thousand_partitions_come_in_pages(view, crowd):
    one = view(crowd.origin)
    page = one.open()
    expect(page.locator("#page")).to_have_text("Page 1 of 201")
    assert len(names(page)) == 50
    expect(page.locator("#shown")).to_have_text("1 to 50 of 10,002")
    one.shot("ten-thousand", full_page=False)
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#shown")).to_have_text("51 to 100 of 10,002")
    page.get_by_role("button", name="Last").click()
    expect(page.locator("#page")).to_have_text("Page 201 of 201")
    assert len(names(page)) == 2
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    # The address brings the same page back.
    assert "page=201" in page.url
    page.reload()
    expect(page.locator("#page")).to_have_text("Page 201 of 201")


def test_search_filter_and_order(view, crowd):
    page = view(crowd.origin).open()
    page.get_by_label("Search").fill("TOPIC-042/9")
    expect(page.locator("#shown")).to_have_text("1 to 11 of 11 that match, of 10,002")
    assert names(page) == [f"topic-042/{number}" for number in (9, *range(90, 100))]
    page.get_by_label("Search").fill("no such topic")
    expect(page.locator("#none")).to_have_text("No partition is like that.")
    page.get_by_label("Search").fill("")
    expect(page.locator("#shown")).to_have_text("1 to 50 of 10,002")

    page.get_by_role("button", name="Needs attention").click()
    expect(page.locator("#shown")).to_have_text("1 to 1 of 1 that match, of 10,002")
    assert names(page) == [FAILING]
    page.get_by_role("button", name="All", exact=False).first.click()
    expect(page.locator("#page")).to_have_text("Page 1 of 201")

    page.get_by_label("Sort by").select_option("debt")
    page.wait_for_url("**sort=debt")
    worst = crowd.ask("sort=debt&page_size=50")["partitions"]
    expected = [f"{one['topic']}/{one['partition']}" for one in worst]
    expect(page.locator("#partitions .open").first).to_have_text(expected[0])
    assert names(page) == expected
    assert worst[0]["truncation_debt_bytes"] >= worst[1]["truncation_debt_bytes"] > 0


def test_names_and_errors_are_text_whatever_is_in_them(view, crowd):
    one = view(crowd.origin)
    page = one.open(search="<img")
    assert names(page) == [HOSTILE]
    page.get_by_role("button", name=HOSTILE, exact=True).click()
    expect(page.locator("#detail")).to_be_visible()
    page = one.open(only="failing", open=FAILING)
    detail = page.locator("#detail")
    expect(detail).to_contain_text("<script>document.title='taken over'</script>")
    expect(detail).to_contain_text("in a row")
    expect(page.locator("#verdict")).to_have_text("Needs attention")
    expect(page.locator("#problems")).to_contain_text("1 partition fails")
    assert page.locator("#partitions img, #partitions script, #partitions a").count() == 0
    assert "taken over" not in page.title()
    one.shot("failing")
    # Not even the page's own script could make markup of a string, and a breach would have been noticed.
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.querySelector('#detail').innerHTML = '<b>bold</b>'")
    assert page.evaluate("window.breaches.splice(0)") == ["require-trusted-types-for"]
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
