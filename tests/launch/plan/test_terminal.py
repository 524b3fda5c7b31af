"""What a reader of the terminal gets: what to run, why, each word explained, pictures."""

import json

import pytest

from launch.cli import main
from launch.plan.tables import WORDS


def said(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(["plan", *arguments])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_a_plan_can_be_read(capsys):
    text = said(capsys, "70b", "--gpus", "512", "--price", "2.5", "--scaling")
    assert "Run this: windtunnel submit 70b --cluster SITE --nodes 64 -o " in text
    assert "would fit and be" in text
    for word in ("pp", "vp", "dp", "mbs", "zero"):
        assert f"{word} {WORDS[word]}" in " ".join(text.split())
    for line in ("Memory of a GPU by pipeline stage", "F forward, B backward, · waiting", "strong scaling", "weak scaling"):
        assert line in text
    stages = [line.strip() for line in text.splitlines() if line.strip().startswith("stage 0")]
    assert any("W" in line and "|" in line for line in stages)
    assert any("FB" in line or "·B" in line for line in stages)
    assert "Not modelled:" in text
    assert "Outside what was validated" in text


def test_stages_are_priced_with_their_tokenizing(capsys):
    text = said(capsys, "xmodel2-1.2b", "--gpus", "64", "--kwh-price", "0.3")
    row = next(line for line in text.splitlines() if "whole recipe" in line)
    days, hours, kwh, cost = (float(cell.replace(",", "")) for cell in row.split("│")[2:6])
    assert hours == pytest.approx(24 * 64 * days, rel=0.01)
    assert cost == pytest.approx(0.3 * kwh, rel=0.01)


def test_a_folder_gets_everything_that_a_page_needs(capsys, tmp_path):
    said(capsys, "nano", "--gpus", "8", "--out", str(tmp_path / "plan"), "--json")
    content = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert content["command"].startswith("windtunnel submit nano")
    files = sorted(path.name for path in (tmp_path / "plan").iterdir())
    assert files == ["memory.svg", "pipeline.svg", "plan.json", "throughput.svg"]
