"""The page: whole, self-contained, honest about what is missing, readable in both themes, and alive in a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recipe.errors import RunError
from recipe.report.collect import RunView
from recipe.report.coordinates import coordinate_check
from recipe.report.page import ASSETS, render, write_report
from recipe.report.tasks import GROUPS, Row, load_published
from recipe.rundir import write_text
from tests.recipe.report.runs import write_coord_check, write_evaluations, write_run

VOID = {"meta", "link", "br", "input", "img", "hr"}


class Outline(HTMLParser):
    """Checks that elements nest, and gathers what leads outside."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self.links += [found[key] for key in ("href", "src") if key in found]
        if "id" in found:
            self.ids.append(found["id"])
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = write_run(tmp_path_factory.mktemp("runs") / "one")
    write_coord_check(run, {"mlp": 0.5})
    write_evaluations(run)
    return write_report([run]).read_text(encoding="utf-8")


def charts(page: str) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)
    return {spec["id"]: spec for spec in map(json.loads, found)}


def test_the_page_is_well_formed_and_needs_no_network(page: str) -> None:
    outline = Outline(page)
    assert len(set(outline.ids)) == len(outline.ids)
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert "url(http" not in page
    assert len(page) < 5_000_000


def test_what_the_run_wrote_is_text_not_markup(page: str) -> None:
    assert "<script>alert" not in page
    assert "Once &lt;b&gt;" in page


def test_loss_and_learning_rate_share_one_axis_through_both_stages(page: str) -> None:
    training = charts(page)["training"]
    assert [panel["id"] for panel in training["panels"]] == ["loss", "lr"]
    assert [band["label"] for band in training["bands"]] == ["stable", "decay"]
    raw, mean = training["panels"][0]["series"]
    assert raw["x"][-1] == 25600
    assert max(mean["y"][-50:]) - min(mean["y"][-50:]) < max(raw["y"][-50:]) - min(raw["y"][-50:])
    assert charts(page)["throughput"]["marks"] == [{"x": 64 * 251, "label": "attempt 2"}]


def test_the_heldout_table_shows_a_defeat_as_one(page: str) -> None:
    assert "+0.7500" in page  # docs: 3.0 − 2.25
    assert "−0.2500" in page  # code: 3.0 − 3.25
    assert 'class="num bad"' in page
    assert "below the unigram on 2 of 2 sources, the bigram on 2 of 2 sources and the trigram on 1 of 2 sources." in page


def test_an_evaluation_during_training_has_no_baselines_yet(tmp_path: Path) -> None:
    run = write_run(tmp_path / "live")
    for file in run.eval.glob("heldout-*"):
        found = json.loads(file.read_text())
        for row in found["sources"].values():
            row["baselines"] = {}
        write_text(file, json.dumps(found))
    page = render([RunView(run)])
    Outline(page)
    assert "no baselines yet" in page
    assert "below the unigram" not in page


def test_empty_categories_are_named(page: str) -> None:
    assert "math (sums)" in page
    for category in ("code", "logic", "knowledge", "commonsense"):
        assert f"{category}: empty" in page


def test_a_category_that_python_cannot_fill_is_told_apart(tmp_path: Path) -> None:
    view = RunView(write_run(tmp_path / "python"))
    doctests = view.resolved.config.sources["sums"].model_copy(update={"kind": "python", "what": "doctests"})
    view.resolved.config.sources["sums"] = doctests
    assert view.why_empty("commonsense").startswith("Python's doctests hold none")
    assert view.why_empty("logic") == "the recipe has no source for it"


def test_the_coordinate_check_names_the_module_that_grows(page: str, tmp_path: Path) -> None:
    section = page.split('<section id="coordinates">')[1].split("</section>")[0]
    assert section.count("<svg") == 6
    assert re.search(r"mlp</th>\s*<td class=\"num bad\">\+0\.500", section)
    assert section.count(">ok</td>") == 5
    run = write_run(tmp_path / "grows")
    write_coord_check(run, {"mlp": 0.5})
    check = coordinate_check(RunView(run))
    assert check is not None
    heights = {panel.module: [y for _, y in panel.curves[0].dots] for panel in check.panels}
    assert heights["mlp"][2] < heights["mlp"][0]  # up the page
    assert heights["attention"][2] == pytest.approx(heights["attention"][0])
    assert "Not checked yet" in render([RunView(write_run(tmp_path / "unchecked"))])


def test_a_coordinate_check_of_another_scaling_is_not_passed_off_as_the_runs(page: str, tmp_path: Path) -> None:
    assert "with this run's scaling (minicpm)" in page
    run = write_run(tmp_path / "other")
    write_coord_check(run, {}, scale_emb=3.0)
    assert "another scaling than this run's (scale_emb 3.0 for" in render([RunView(run)])


def test_the_audit_is_told_by_attempt(page: str) -> None:
    assert "ran and passed once, after the first step of attempt 1; not reached in 2" in page


def section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}">')[1].split("</section>")[0]


def scores(table: str) -> dict[str, list[str]]:
    """Model → its cells."""
    rows = re.findall(r"<th scope=\"row\">(.*?)</th>(.*?)</tr>", table)
    return {name: re.findall(r">([\d.]+|–)</td>", cells) for name, cells in rows}


def test_benchmarks_stand_beside_published_rows(page: str, tmp_path: Path) -> None:
    shown = section(page, "benchmarks")
    commonsense, reasoning, agents = map(scores, shown.split("<table")[1:])
    assert commonsense["one"] == ["–", "25.00", "–", "–", "–", "25.00", "–", "–", "–"]  # two of eight tasks have no mean
    assert agents["one"] == ["50.00", "–", "–", "–", "–"]
    assert commonsense["Xmodel-2-1.2B"] == ["39.16", "71.55", "74.65", "47.45", "29.20", "74.81", "93.60", "63.93", "61.79"]
    assert agents["Xmodel-2-1.2B"][:2] == ["13.70", "40.00"]
    assert list(commonsense)[1:] == sorted(list(commonsense)[1:], key=lambda name: float(commonsense[name][-1]))
    assert set(reasoning["one"]) == {"–"}
    assert re.findall(r"<details( open)?><summary>(.*?)</summary>", shown) == [
        (" open", "commonsense"), ("", "complex reasoning, not run here"), (" open", "agents"),
    ]  # fmt: skip
    run = write_run(tmp_path / "more")
    write_evaluations(run)
    others = tmp_path / "others.json"
    others.write_text('{"Other-1B": {"arc_easy": 66.5}}')
    shown = section(render([RunView(run)], published=others), "benchmarks")
    assert "Other-1B" in shown
    assert "66.50" in shown
    others.write_text('{"Other-1B": {"chess": 66.5}}')
    with pytest.raises(RunError, match="no benchmark chess"):
        render([RunView(run)], published=others)


def test_the_published_rows_have_the_means_that_the_report_prints() -> None:
    """Tables 2 to 4 of arXiv 2412.19638. Three of its means on agents aren't those of their values: there OLMo has 4.32,
    MiniCPM 12.52 and Xmodel-2 14.21."""
    printed = {
        "MobiLlama-1B": (55.23, 11.31, 7.61), "TinyLLaMA1.1-1.1B": (55.24, 10.02, 7.77), "OLMo-1B": (55.97, 9.93, 5.31),
        "OpenELM-1.1B": (56.95, 8.16, 7.87), "Llama-3.2-1B": (57.70, 18.88, 10.99), "MiniCPM-1.2B": (59.45, 35.20, 12.54),
        "Fox-1-1.6B": (59.57, 22.27, 9.21), "InternLM2.5-1.8B": (60.16, 31.61, 12.71), "Qwen2-1.5B": (60.45, 36.64, None),
        "StableLM-2-zephyr-1.6B": (61.29, 28.41, 8.35), "SmolLM-1.7B": (61.92, 20.13, 8.55),
        "Qwen2.5-1.5B": (63.14, 39.98, 11.92), "DCLM-1B": (63.81, 16.59, 7.52), "Phi-1.5-1.3B": (65.68, 29.65, 6.04),
        "Xmodel-2-1.2B": (61.79, 39.62, 14.17),
    }  # fmt: skip
    rows = load_published(None)
    assert set(rows) == set(printed)
    for model, means in printed.items():
        for names, mean in zip(GROUPS.values(), means, strict=True):
            found = Row(model, [rows[model].get(name) for name in names]).mean
            assert found == (mean if mean is None else pytest.approx(mean, abs=0.0101)), (model, names)


def test_calibration_and_loss_by_index_are_drawn(page: str) -> None:
    shown = section(page, "calibration")
    assert shown.count('class="bin"') >= 5
    assert re.search(r"a = −0\.5\d", shown)
    assert re.search(r"b = 1\.7\d", shown)


def test_the_planner_is_held_against_the_measurement(page: str) -> None:
    shown = section(page, "machine")
    assert "What the planner would choose" not in shown
    row = re.search(r"tokens a second</th>(.*?)</tr>", shown)
    assert row is not None
    assert re.findall(r">([^<]+)</td>", row[1]) == ["800", "1K", "−20 %"]
    assert "precision fp32" in shown


def test_every_evaluation_has_a_row_with_its_change(page: str) -> None:
    table = page.split("Every evaluation")[1].split("</table>")[0]
    rows = [re.findall(r"[−+]?\d+\.\d{4}", row) for row in table.split("<tr")[2:]]
    assert rows == [["2.7500", "3.7500"], ["2.2500", "−0.5000", "3.2500", "−0.5000"]]


def test_runs_side_by_side(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "first"), write_run(tmp_path / "second", worse_by=0.3)]
    path = write_report(runs, tmp_path / "both.html")
    page = path.read_text(encoding="utf-8")
    Outline(page)
    names = {series["name"] for series in charts(page)["training"]["panels"][0]["series"]}
    assert names == {"first", "second"}
    assert not (tmp_path / "first" / "report.html").exists()


def test_branches_are_drawn_beside_their_run_and_theirs_beside_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    late = write_run(run.branches / "late")
    write_run(late.branches / "again")
    loss, _lr = charts(write_report([run]).read_text(encoding="utf-8"))["training"]["panels"]
    assert {series["name"] for series in loss["series"]} == {"one", "one › late", "one › late › again"}


def test_a_run_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "new", num_steps=0)
    for file in run.eval.iterdir():
        file.unlink()
    run.metrics.unlink()
    page = render([RunView(run)])
    Outline(page)
    assert "No step has been taken yet" in page
    assert "Not evaluated yet" in page


def test_a_line_cut_short_and_a_step_run_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "killed")
    again = json.dumps(RunView(run).metrics[10] | {"loss": 9.5, "attempt": 2})
    write_text(run.metrics, run.metrics.read_text() + again + "\n" + '{"step": 401, "lo')
    metrics = RunView(run).metrics
    assert len(metrics) == 400
    assert metrics[10]["loss"] == 9.5


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colors."""
    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_text_and_lines_stand_out_in_both_themes(theme: str) -> None:
    css = (ASSETS / "style.css").read_text(encoding="utf-8")
    block = css.split(theme, 1)[1].split("}", 1)[0]
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for paper in ("paper", "card"):
        for name in ("ink", "muted", "accent", "good", "bad"):
            assert contrast(colors[name], colors[paper]) >= 4.5, (name, paper)
        for number in range(8):
            assert contrast(colors[f"c{number}"], colors[paper]) >= 3, (number, paper)


DRIVER = """
<script>
const report = (text) => {
  const line = document.createElement("pre");
  Object.assign(line, { className: "driver", textContent: text, hidden: true });
  document.body.append(line);
};
window.addEventListener("error", (event) => report("ERROR " + event.message));
window.addEventListener("load", () => setTimeout(() => {
  const root = document.querySelector("#chart-training"), svg = root.querySelector("svg"), tip = root.querySelector(".tip");
  const key = (name) => svg.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const label = () => [...svg.querySelectorAll("text.axis")].map((node) => node.textContent).join(" ");
  svg.focus();
  key("ArrowRight");
  report("TIP " + (tip.hidden ? "hidden" : tip.textContent));
  const before = label();
  key("+");
  report("ZOOMED " + (label() !== before));
  key("0");
  report("BACK " + (label() === before));
  const log = [...root.querySelectorAll("button")].find((button) => button.textContent === "log values");
  log.click();
  report("LOG " + (label() !== before) + " " + log.getAttribute("aria-pressed"));
  document.getElementById("theme").click();
  report("THEME " + document.documentElement.dataset.theme);
  report("WIDE " + (document.documentElement.scrollWidth > innerWidth));
  const drawn = (node) => node.querySelectorAll("path").length > 0;
  report("CHARTS " + [...document.querySelectorAll(".chart svg")].every(drawn));
}, 300));
</script></body>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (Debian package chromium)")
@pytest.mark.parametrize("width_px", [480, 1280])
def test_in_a_real_browser(page: str, tmp_path: Path, width_px: int) -> None:
    """No script error, keyboard reads and zooms, axes turn logarithmic, nothing runs over the edge."""
    file = tmp_path / "driven.html"
    file.write_text(page.replace("</body>", DRIVER), encoding="utf-8")
    command = [
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width_px},900",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--enable-logging=stderr", "--v=0",
        "--dump-dom", file.as_uri() + "?theme=light",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    said = re.findall(r'<pre class="driver"[^>]*>(.*?)</pre>', done.stdout)
    assert "CONSOLE" not in done.stderr
    assert said[0].startswith("TIP ")
    assert "tokens" in said[0]
    assert said[1:] == ["ZOOMED true", "BACK true", "LOG true true", "THEME dark", "WIDE false", "CHARTS true"]
