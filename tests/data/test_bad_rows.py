"""Bad rows in one sentence: where they are, which they are, and why."""

from __future__ import annotations

from datasets import Dataset

from fedumm.data.bad_rows import describe

ROWS = Dataset.from_dict({"image_id": [f"a{row}" for row in range(40)]})
PLAIN = Dataset.from_dict({"n": [1]})


def test_rows_with_the_same_reason_are_told_together() -> None:
    bad = {"training": (ROWS, {3: "is empty", 5: "is large", 9: "is empty"}), "evaluation": (PLAIN, {0: "is empty"})}
    assert describe(bad) == (
        "training rows 3 (image_id a3), 9 (image_id a9): is empty; training row 5 (image_id a5): is large; "
        "evaluation row 0: is empty"
    )


def test_of_many_rows_twenty_are_told() -> None:
    for count, more in ((21, "; and 1 row more"), (40, "; and 20 rows more")):
        told = describe({"training": (ROWS, dict.fromkeys(range(count), "x"))})
        assert told.count("image_id") == 20
        assert told.endswith(more)
    assert "more" not in describe({"training": (ROWS, dict.fromkeys(range(20), "x"))})


def test_names_stay_on_the_line() -> None:
    rows = Dataset.from_dict({"image_id": ["a\n\x1b[31mb"]})
    assert describe({"training": (rows, {0: "x"})}) == "training row 0 (image_id a\\n\\x1b[31mb): x"
