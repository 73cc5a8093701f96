"""Labels of frontier points do not lie on each other."""

import pandas as pd

from sdb_leaderboard.figures import place_labels


def place(points: list[tuple[float, float, bool]]) -> list[str]:
    drawn = pd.DataFrame(points, columns=["tok_s_user", "pass_at_1", "is_on_frontier"])
    drawn = drawn.assign(threshold=float("nan"), num_steps=float("nan"), policy="prefix:0.9")
    return place_labels(drawn, (100.0, 10_000.0, 0.0, 1.0)).tolist()


def test_a_label_in_the_way_of_the_last_one_goes_below() -> None:
    crowded = [(1000.0, 0.99, True), (1100.0, 0.98, True), (1200.0, 0.97, True)]
    assert place(crowded) == ["top right", "bottom left", "bottom left"]
    assert place(list(reversed(crowded))) == ["bottom left", "bottom left", "top right"]


def test_points_with_room_and_points_without_a_label_stay() -> None:
    apart = [(1000.0, 0.99, True), (1100.0, 0.98, False), (1200.0, 0.8, True), (4000.0, 0.8, True)]
    assert place(apart) == ["top right"] * 4
