"""Judgements in a real browser, on the real server, which must not be lost."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from cytosae.cli.commands import app
from support.browser import NEEDED, Server, saved, unsent, until
from support.studies import SET

pytestmark = NEEDED


def test_ten_concepts_by_keyboard_while_the_server_is_killed(
    server: Server, tab: Callable[..., Any], concepts: list[int], study: Path, tmp_path: Path
) -> None:
    latents = concepts[5:15]
    work = server.worklist("By keyboard", latents, blind_labels=True, blind_raters=True)["id"]
    page = tab()
    page.goto(f"{server.url}#/annotate/{work}/0")
    page.wait_for_selector("text=Who is annotating")
    page.keyboard.type("Ute Ö")
    page.keyboard.press("Enter")
    verdicts = ["meaningful", "artefact", "cannot tell"]
    typed = {}
    for place, latent in enumerate(latents):
        page.wait_for_selector(f"[data-latent='{latent}']")
        assert page.locator(".caption").count() == 0  # labels are hidden
        if place == 4:
            server.kill()
        if place == 7:
            assert page.locator("[data-saved]").get_attribute("data-saved") != "saved"
        page.keyboard.press(str(1 + place % 3))
        page.keyboard.press("n")
        page.keyboard.type(f"name {place}")
        if place == 6:
            page.wait_for_selector("[data-saved=waiting]")
            kept = page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('cytosae:unsent:')).length")
            assert kept >= 3
        page.keyboard.press("Enter")
        typed[latent] = (verdicts[place % 3], f"name {place}")
        if place == 7:  # four are only in the browser; the page is closed without a word
            page.wait_for_selector(f"[data-latent='{latents[8]}']")
            context = page.context
            page.close(run_before_unload=False)
            server.start()
            page = context.new_page()
            page.goto(f"{server.url}#/annotate/{work}/8")
    page.wait_for_selector("text=are meaningful, by majority")

    def stored() -> dict[int, tuple[str, str]]:
        items = server.ask(f"worklists/{work}?rater=Ute%20%C3%96")["items"]
        of = {item["latent"]: item["annotation"] for item in items}
        return {latent: (one["verdict"], one["name"]) for latent, one in of.items() if one}

    end = time.monotonic() + 120
    while stored() != typed and time.monotonic() < end:
        time.sleep(0.2)
    assert stored() == typed
    until(page, "!Object.keys(localStorage).some(key => key.startsWith('cytosae:unsent:'))")
    page.reload()
    assert page.wait_for_selector("[data-meaningful]").get_attribute("data-meaningful") == "4/10"
    done = page.locator("[data-rater-row='Ute Ö'] td.num").all_inner_texts()
    assert done == ["10", "4", "3", "3"]

    out = tmp_path / "out.csv"
    result = CliRunner().invoke(app, ["annotations", "export", str(study), "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out, keep_default_na=False)
    mine = table[table["rater"] == "Ute Ö"].set_index("latent")
    assert {latent: (row["verdict"], row["name"]) for latent, row in mine.iterrows()} == typed
    told = CliRunner().invoke(app, ["annotations", "summary", str(study), "--worklist", str(work), "--json"])
    (summary,) = json.loads(told.stdout)["worklists"]
    assert summary["meaningful"] == {"x": 4, "y": 10, "first_ten": {"x": 4, "y": 10}}
    assert [rater["name"] for rater in summary["raters"]] == ["Ute Ö"]
    assert [summary["raters"][0][key] for key in ("done", "meaningful", "artefact", "cannot_tell")] == [10, 4, 3, 3]


@pytest.mark.slow
def test_two_raters_at_once(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    latents = concepts[20:24]
    work = server.worklist("Two at once", latents)["id"]
    said = {"Ann": "1121", "Bob": "1221"}
    pages = {rater: tab(rater) for rater in said}
    for rater, page in pages.items():
        page.goto(f"{server.url}#/annotate/{work}/0?rater={rater}")
    for place, latent in enumerate(latents):
        for page in pages.values():
            page.wait_for_selector(f"[data-latent='{latent}']")
        for rater, page in pages.items():
            page.keyboard.press(said[rater][place])
        for page in pages.values():
            saved(page)
            page.keyboard.press("ArrowRight")
    for page in pages.values():
        page.wait_for_selector("[data-rater-row=Ann]")
        assert page.faults == []
    page = pages["Ann"]
    page.goto(f"{server.url}#/worklists")
    page.goto(f"{server.url}#/summary/{work}")
    page.wait_for_selector("[data-rater-row=Bob]")
    rows = {rater: page.locator(f"[data-rater-row={rater}] td.num").all_inner_texts() for rater in said}
    assert rows == {"Ann": ["4", "3", "1", "0"], "Bob": ["4", "2", "2", "0"]}
    agreement = server.ask(f"summary?worklist={work}")["agreement"]["cohen"]
    assert agreement[0]["kappa"] == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))
    assert page.get_by_text("0.5", exact=True).count() >= 1


def test_a_stale_window_is_told_and_decides(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    latent = concepts[30]
    work = server.worklist("Stale", [latent])["id"]
    one, other = tab("Eve"), tab("Eve")
    for page in (one, other):
        page.goto(f"{server.url}#/annotate/{work}/0")
        page.wait_for_selector(f"[data-latent='{latent}']")
    one.keyboard.press("1")
    saved(one)
    other.keyboard.press("2")
    other.wait_for_selector("[data-saved=conflict]")
    other.reload()  # the draft is still there, and so is the conflict
    other.wait_for_selector("[data-saved=conflict]")
    other.get_by_role("button", name="Keep this version").click()
    saved(other)
    item = server.ask(f"worklists/{work}?rater=Eve")["items"][0]["annotation"]
    assert (item["verdict"], item["version"]) == ("artefact", 2)
    one.keyboard.press("3")
    one.wait_for_selector("[data-saved=conflict]")
    one.get_by_role("button", name="Take the stored version").click()
    assert one.get_by_role("radio", name="artefact").get_attribute("aria-checked") == "true"
    twin = one.context.new_page()  # a second tab of the same browser follows by itself
    twin.goto(f"{server.url}#/annotate/{work}/0")
    twin.wait_for_selector(f"[data-latent='{latent}']")
    one.keyboard.press("1")
    saved(one)
    twin.wait_for_selector("[role=radio][aria-checked=true].meaningful")
    history = server.ask(f"annotations/{SET}/{latent}/history")
    assert [row["verdict"] for row in sorted(history, key=lambda row: row["version"])] == [
        "meaningful",
        "artefact",
        "meaningful",
    ]


def test_own_names_are_shown_while_raters_are_hidden(
    server: Server, tab: Callable[..., Any], concepts: list[int]
) -> None:
    latent = concepts[40]
    work = server.worklist("Hidden", [latent], blind_raters=True)["id"]
    place = {"worklist": work, "dataset": SET, "latent": latent, "comment": "", "terms": {}, "specific_for": None}
    server.ask("annotations", {**place, "rater": "Ben", "verdict": None, "name": "of Ben", "version": 0}, "PUT")
    page = tab("Anna")
    page.goto(f"{server.url}#/annotate/{work}/0")
    page.wait_for_selector(f"[data-latent='{latent}']")
    page.locator("[data-name]").fill("needles of Anna")
    saved(page)
    page.goto(f"{server.url}#/concept/{SET}/{latent}")  # without a reload
    page.wait_for_selector("[data-name='needles of Anna']")
    page.goto(f"{server.url}#/concepts/{SET}?q=needles")
    until(page, "() => document.querySelectorAll('.list .item').length === 1")
    assert page.locator(".list .item .name").inner_text() == "needles of Anna"
    page.goto(f"{server.url}#/summary/{work}")
    page.wait_for_selector(f"[data-named='{latent}']")
    assert "of Ben" not in page.content()
    for kind in ("csv", "json"):
        with page.expect_download() as download:
            page.locator(f"[data-export={kind}]").click()
        text = Path(download.value.path()).read_text(encoding="utf-8-sig")
        assert "needles of Anna" in text
        assert "of Ben" not in text
    assert page.faults == []


def test_the_former_autoencoder_is_offered_and_judging_is_off(
    study: Path, tmp_path: Path, tab: Callable[..., Any]
) -> None:
    from cytosae.explorer.annotations import Database, default_address

    folder = Path(shutil.copytree(study, tmp_path / "replaced", ignore=shutil.ignore_patterns("annotations.sqlite*")))
    (folder / "former" / ("ab12" * 3)).mkdir(parents=True)
    for place in (folder, folder / "former" / ("ab12" * 3)):
        Database(default_address(place), "ab12" * 16).close()
    running = Server(folder)
    try:
        page = tab("Anna")
        for view in (f"concepts/{SET}", "patients", "worklists"):
            page.goto(f"{running.url}#/{view}")
            page.wait_for_selector("[data-banner]")
            assert f"cytosae explore {folder}/former/{'ab12' * 3}" in page.locator("[data-banner]").inner_text()
        page.wait_for_selector(f"[data-former='{'ab12' * 3}']")
        assert page.get_by_role("button", name="Worklist…").count() == 0
        assert page.locator("[data-banner] [data-export]").count() == 2
        assert page.faults == []
    finally:
        running.kill()


@pytest.mark.slow
def test_two_studies_of_one_name_share_no_judgement(
    study: Path, tmp_path: Path, tab: Callable[..., Any], concepts: list[int]
) -> None:
    folders = [
        Path(shutil.copytree(study, tmp_path / side / "study", ignore=shutil.ignore_patterns("annotations.sqlite*")))
        for side in "ab"
    ]
    running = Server(folders[0])
    try:
        page = tab("Anna")
        address = f"{running.url}#/concept/{SET}/{concepts[0]}"
        page.goto(address)
        page.get_by_role("button", name="Annotate").click()
        page.locator("input[data-name]").wait_for()
        running.kill()
        page.locator("input[data-name]").fill("of the first")
        page.wait_for_selector("[data-saved=waiting]")
        assert unsent(page) == ["of the first"]
        running.study = folders[1]  # of the same name, at the same address
        running.start()
        page.wait_for_selector("[data-saved=refused]")
        page.reload()
        page.get_by_role("button", name="Annotate").click()
        page.locator("input[data-name]").wait_for()
        assert page.locator("input[data-name]").input_value() == ""
        page.goto(f"{running.url}#/worklists")
        page.wait_for_selector("[data-unsent='1']")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert "of the first" in Path(download.value.path()).read_text(encoding="utf-8")
        assert running.ask("annotations") == []
        assert unsent(page) == ["of the first"]
        running.kill()
        running.study = folders[0]
        running.start()
        page.reload()
        until(page, "() => !Object.keys(localStorage).some(key => key.startsWith('cytosae:unsent:'))")
        assert [one["name"] for one in running.ask("annotations")] == ["of the first"]
    finally:
        running.kill()
