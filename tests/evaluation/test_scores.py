"""Means that leave out what has no score, and say so."""

import math

import pytest

from photophone.evaluation.scores import mean_scores, unscored_lines


def test_undefined_scores_enter_no_mean_and_are_named():
    rows = [{"pesq": 3.0, "stoi": 0.5}, {"pesq": math.nan, "stoi": 0.7}, {"pesq": -math.inf, "stoi": 0.9}]
    means = mean_scores(rows, ["a", "b", "c"])
    assert means["pesq"] == 3 and means["stoi"] == pytest.approx(0.7)
    assert means["unscored"] == {"pesq": ["b", "c"]}
    assert unscored_lines("ours", means, 3) == ["ours, pesq: 1 of 3 clips scored, not b, c"]


def test_a_column_without_any_score_has_no_mean():
    means = mean_scores([{"mos": math.nan}, {"mos": math.nan}])
    assert math.isnan(means["mos"]) and means["unscored"] == {}
    assert mean_scores([]) == {"unscored": {}}


def test_many_names_are_cut_and_failures_give_their_reason():
    means = mean_scores([{"x": 1.0}] + [{"x": math.nan}] * 8)
    assert unscored_lines("ours", means, 9) == ["ours, x: 1 of 9 clips scored, not 2, 3, 4, 5, 6 and 3 more"]
    failed = unscored_lines("peer", {"failed": {"7": "it made NaN"}}, 9)
    assert failed == ["peer: failed on 1 of 9 clips, 7 (it made NaN)"]
