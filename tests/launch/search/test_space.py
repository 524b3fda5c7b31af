"""What is searched, and where a sampler looks: pure functions of seed and what is known."""

import math

import pytest
from typer.testing import CliRunner

from launch.cli import build, main
from launch.search.errors import SearchError
from launch.search.sweep.sampler import grid, spread, tpe
from launch.search.sweep.space import TABLE_5, parse_dimension

DIMENSIONS = [parse_dimension(text) for text in TABLE_5]


def test_table_5_is_what_is_searched_by_default():
    emb, base, depth, lr = DIMENSIONS
    assert [emb.at(0), emb.at(1), emb.num_values] == [2, 20, 19]
    assert base.choices == (32, 64, 128, 256, 512, 1024)
    assert [depth.at(0), depth.at(0.5), depth.at(1), depth.num_values] == [1, 3, 5, 41]
    assert [lr.at(0), lr.at(0.5), lr.at(1)] == [0.001, 0.01, 0.1]


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda one: one.name)
def test_a_value_and_its_place_agree(dimension):
    for unit in (0.1, 0.37, 0.5, 0.93):
        value = dimension.at(unit)
        assert dimension.at(dimension.unit(value)) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("peak_lr", "write key=low:high"), ("peak_lr=0.1:0.01", "low must be below"), ("peak_lr=0:1:log", "above 0"),
        ("peak_lr=a:b", "could not convert"), ("peak_lr=1:2:lin", "neither log nor step"), ("dim_model_base=64", "two"),
    ],
)  # fmt: skip
def test_a_range_that_cant_be_searched_is_refused(text, says):
    with pytest.raises(SearchError, match=says):
        parse_dimension(text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep", "demo", "--search", "optim.peak_lrr=0.001:0.1"], "did you mean peak_lr"),
        (["sweep", "demo", "--search", "dim_model_base=0.5,2"], "mup.dim_model_base=0.5"),
        (["sweep", "demo", "--search", "peak_lr=1:2", "--search", "optim.peak_lr=1:3"], "named twice"),
        (["sweep", "demo", "--weight", "cod=1"], "there are: code"),
        (["sweep", "demo", "--method", "annealing"], "method='annealing'"),
        (["mix", "demo", "--stage", "anneal"], "there are: stable, decay"),
        (["mix", "demo", "--no-worse", "code=much"], "write source=number"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_message_before_anything_is_written(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["sweep", "mix", "worker"])
def test_help_has_an_example(command):
    shown = CliRunner().invoke(build(), [command, "--help"]).output
    assert f"Example: windtunnel {command}" in shown


def test_spread_points_cover_every_key_and_are_the_same_again():
    points = spread(DIMENSIONS, 32, seed=0)
    assert points == spread(DIMENSIONS, 32, seed=0) != spread(DIMENSIONS, 32, seed=1)
    assert {point["mup.dim_model_base"] for point in points} == {32, 64, 128, 256, 512, 1024}
    assert sum(point["optim.peak_lr"] < 0.01 for point in points) == 16  # even on the log scale


def test_a_grid_has_no_more_points_than_asked_for_and_all_choices_where_they_fit():
    alone = grid([DIMENSIONS[1]], 10)
    assert [point["mup.dim_model_base"] for point in alone] == [32, 64, 128, 256, 512, 1024]
    assert 16 <= len(grid(DIMENSIONS, 30)) <= 30


def test_tpe_goes_where_it_is_good_and_asks_the_same_again():
    def loss(point):
        return 3 + math.log(point["optim.peak_lr"] / 0.02) ** 2

    lr = [DIMENSIONS[3]]
    told = [(point, loss(point), None) for point in spread(lr, 16, seed=0)]
    told.append(({"optim.peak_lr": 0.02}, None, 9.0))  # pruned: known to be bad, without an objective
    asked = tpe(lr, told, 8, seed=5)
    assert asked == tpe(lr, told, 8, seed=5)
    assert len({point["optim.peak_lr"] for point in asked}) == 8  # the constant liar keeps them apart
    assert sum(0.007 < point["optim.peak_lr"] < 0.06 for point in asked) >= 5
