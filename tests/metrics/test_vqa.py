"""VQA v2 accuracy: every clause of the official rule, with values worked out by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedumm.metrics import (
    VqaResult,
    best_score,
    merge,
    normalises_to_nothing,
    normalize_answer,
    vqa_accuracy,
    vqa_score,
)
from fedumm.metrics.vqa import _CONTRACTIONS

Question = tuple[str, list[str], str, str]

ANSWERS = st.sampled_from(["yes", "Yes", "no", "2", "two", "the red", "red.", "a-b", "", "dont", " no\n"])


@given(st.lists(ANSWERS, min_size=1, max_size=10))
def test_no_answer_scores_above_the_best_reachable_score(references: list[str]) -> None:
    """Against every answer that there is here, normalised and not, and one that matches nothing."""
    tried = {*references, *map(normalize_answer, references), "other", "", "Yes", "No", "2", "two", "red", "a", "b"}
    assert best_score(references) == max(vqa_score(answer, references) for answer in tried)


@pytest.mark.parametrize(
    ("references", "best"),
    [
        (["red"], 1.0),
        (["red"] * 2, 1 / 3),
        (["red"] * 3, 2 / 3),
        (["red"] * 4, 1.0),
        (["red", "blue"], 1 / 6),
        (["Red.", "red", "blue"], 4 / 9),
        ([str(number) for number in range(10)], 0.3),
    ],
)
def test_few_or_divided_references_bound_the_score(references: list[str], best: float) -> None:
    assert best_score(references) == pytest.approx(best)


def test_without_references_there_is_no_best_score() -> None:
    with pytest.raises(ValueError, match="references is empty"):
        best_score([])


@pytest.mark.parametrize("text", ["A", "the", " a an ", "-", "+", "?!", ".", "", "\n", "a."])
def test_of_some_answers_the_rule_leaves_nothing(text: str) -> None:
    assert normalises_to_nothing(text)
    assert vqa_score("", [text]) == 1.0, "an empty prediction is then right"


@pytest.mark.parametrize("text", ["0", "none", "ab", "3.5", "'", ":"])
def test_of_others_it_leaves_something(text: str) -> None:
    assert not normalises_to_nothing(text)
    assert vqa_score("", [text]) == 0.0


def split_answers(prediction: str, equal: int, total: int = 10) -> list[str]:
    """``equal`` times the prediction, the rest something else."""
    return [prediction] * equal + ["other answer"] * (total - equal)


@pytest.mark.parametrize(
    ("equal", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (5, 1.0), (9, 1.0), (10, 1.0)]
)
def test_score_by_number_of_equal_answers_of_ten(equal: int, score: float) -> None:
    """Leave-one-out: 3 equal answers give .9, where the shortcut min(3/3, 1) would give 1."""
    assert vqa_score("cat", split_answers("cat", equal)) == score


@pytest.mark.parametrize("position", range(10))
def test_score_does_not_depend_on_who_answered(position: int) -> None:
    references = ["dog"] * 10
    references[position] = "cat"
    assert vqa_score("cat", references) == 0.3


class TestUnanimous:
    """Normalisation runs only if the human answers are not all identical."""

    def test_nothing_is_normalised(self) -> None:
        assert vqa_score("Yes", ["yes"] * 10) == 0
        assert vqa_score("yes.", ["yes"] * 10) == 0
        assert vqa_score("2", ["two"] * 10) == 0

    def test_an_equal_answer_scores_even_where_normalising_would_change_it(self) -> None:
        assert vqa_score("The Gap!", ["The Gap!"] * 10) == 1

    def test_one_dissenter_switches_normalisation_on_for_both_sides(self) -> None:
        assert vqa_score("Yes", ["yes"] * 9 + ["no"]) == 1
        assert vqa_score("yes", ["Yes!"] * 9 + ["no"]) == 1

    def test_identity_is_judged_before_normalisation(self) -> None:
        """'Yes' and 'yes' are the same normalised, but not identical as given."""
        assert vqa_score("YES", ["yes"] * 9 + ["Yes"]) == 1

    def test_identity_is_judged_after_newline_tab_and_strip(self) -> None:
        """Step 1 comes first: these ten are unanimous, so the prediction stays as it is."""
        assert vqa_score("Yes", ["yes"] * 9 + [" yes\n"]) == 0
        assert vqa_score("\tyes ", ["yes"] * 9 + [" yes\n"]) == 1

    def test_inner_newline_and_tab_become_spaces(self) -> None:
        assert vqa_score("red\nand\tblue", ["red and blue"] * 10) == 1

    def test_other_inner_spaces_stay(self) -> None:
        assert vqa_score("red  car", ["red car"] * 10) == 0

    def test_variant_that_always_normalises(self) -> None:
        assert vqa_score("Yes.", ["yes"] * 10, always_normalize=True) == 1
        assert vqa_score("no", ["yes"] * 10, always_normalize=True) == 0


class TestPunctuation:
    @pytest.mark.parametrize("mark", list(';/[]"{}()=+\\_-><@`,?!'))
    def test_each_mark(self, mark: str) -> None:
        """Between letters a mark becomes a space; next to a space it is deleted."""
        assert normalize_answer(f"x{mark}y") == "x y"
        assert normalize_answer(f"x{mark} y") == "x y"
        assert normalize_answer(f"p {mark}q x{mark}y") == "p q xy"

    @pytest.mark.parametrize("mark", list(":'#$%&*|~^"))
    def test_marks_outside_the_official_list_stay(self, mark: str) -> None:
        assert normalize_answer(f"x{mark}y") == f"x{mark}y"

    def test_one_mark_next_to_a_space_deletes_that_mark_everywhere(self) -> None:
        assert normalize_answer("t-shirt - red") == "tshirt red"

    def test_only_that_mark(self) -> None:
        assert normalize_answer("t-shirt, red/blue") == "t shirt red blue"

    def test_comma_between_digits_deletes_every_mark(self) -> None:
        assert normalize_answer("1,000") == "1000"
        assert normalize_answer("1,000 t-shirts/caps") == "1000 tshirtscaps"

    def test_comma_elsewhere_does_not(self) -> None:
        assert normalize_answer("x,000 t-shirts") == "x 000 t shirts"
        assert normalize_answer("1, 000 t-shirts") == "1 000 t shirts"

    def test_the_check_reads_the_original_text(self) -> None:
        """In 'x;-y', ';' becomes a space first; '-' was not next to one and becomes a space too."""
        assert normalize_answer("x;-y-z") == "x y z"

    def test_a_comma_number_is_seen_before_commas_are_removed(self) -> None:
        """',' is late in the list of marks: the ';' before it must see '1,0' all the same."""
        assert normalize_answer("a1;b 1,0?c") == "a1b 10c"

    def test_step_one_makes_a_tab_count_as_a_space(self) -> None:
        assert vqa_score("x-y\t-z", split_answers("xy z", 4)) == 1


class TestDots:
    def test_dots_go_unless_a_digit_follows(self) -> None:
        assert normalize_answer("u.s.a.") == "usa"
        assert normalize_answer("2.5") == "2.5"
        assert normalize_answer(".5") == ".5"
        assert normalize_answer("5.") == "5"
        assert normalize_answer("v.2 x") == "v.2 x"

    def test_of_several_dots_only_the_one_before_the_digit_stays(self) -> None:
        assert normalize_answer("x...5") == "x.5"

    def test_at_most_32_dots_are_removed(self) -> None:
        """The official call passes re.UNICODE, which is 32, as the count."""
        assert normalize_answer("x" + "." * 32) == "x"
        assert normalize_answer("x" + "." * 33) == "x."

    def test_dots_that_stay_do_not_count(self) -> None:
        assert normalize_answer(".5 " * 40 + "x" + "." * 32) == ".5 " * 40 + "x"


class TestWords:
    @pytest.mark.parametrize(
        ("word", "digit"),
        [
            ("none", "0"), ("zero", "0"), ("one", "1"), ("two", "2"), ("three", "3"), ("four", "4"),
            ("five", "5"), ("six", "6"), ("seven", "7"), ("eight", "8"), ("nine", "9"), ("ten", "10"),
        ],
    )  # fmt: skip
    def test_number_words(self, word: str, digit: str) -> None:
        assert normalize_answer(word.title()) == digit

    @pytest.mark.parametrize("word", ["eleven", "twenty", "no", "once", "someone"])
    def test_other_words_are_not_numbers(self, word: str) -> None:
        assert normalize_answer(word) == word

    def test_articles_go_as_whole_words_only(self) -> None:
        assert normalize_answer("The cat and an owl, a theatre") == "cat and owl theatre"
        assert normalize_answer("A") == ""

    def test_an_article_freed_by_punctuation_goes_too(self) -> None:
        assert normalize_answer("vitamin-a") == "vitamin"

    def test_spaces_are_folded(self) -> None:
        assert normalize_answer("  red   car ") == "red car"

    def test_an_answer_that_is_only_an_article_matches_another(self) -> None:
        """Both become empty: odd, but official."""
        assert vqa_score("the", ["a"] * 4 + ["b"] * 6) == 1


class TestContractions:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("dont", "don't"),
            ("ISNT", "isn't"),
            ("couldnt've", "couldn't've"),
            ("couldn'tve", "couldn't've"),
            ("oclock", "o'clock"),
            ("twas", "'twas"),
            ("ow's'at", "'ow's'at"),
            ("'ows'at", "'ow's'at"),
            ("'ow'sat", "'ow's'at"),
            ("yall", "y'all"),
            ("yall'll", "y'all'll"),
            ("y'allll", "y'all'll"),
            ("yall'd've", "y'all'd've"),
            ("y'all'dve", "y'all'd've"),
            ("wont you", "won't you"),
        ],
    )
    def test_apostrophes_are_put_back(self, text: str, expected: str) -> None:
        assert normalize_answer(text) == expected

    def test_official_oddities_are_kept(self) -> None:
        assert normalize_answer("somebody'd") == "somebodyd"
        assert normalize_answer("somebodyd") == "somebodyd"

    @pytest.mark.parametrize("text", ["lets", "shes", "were", "well", "id", "ill", "yall've", "im", "ive", "id've"])
    def test_words_the_official_table_does_not_reach(self, text: str) -> None:
        """Some look like contractions; 'Im', 'Ive', 'Id've' have a capital and the text has none."""
        assert normalize_answer(text) == text

    def test_size_of_the_table(self) -> None:
        """No entry lost: the official table has this many keys."""
        assert len(_CONTRACTIONS) == 120

    def test_number_words_come_before_contractions_and_joins(self) -> None:
        assert normalize_answer("one o.clock") == "1 o'clock"


class TestNumberOfReferences:
    def test_one_reference_is_equality_after_normalising_both_sides(self) -> None:
        assert vqa_score("circle", ["circle"]) == 1
        assert vqa_score("The Circle.", ["circle"]) == 1
        assert vqa_score("2", ["Two"]) == 1
        assert vqa_score("square", ["circle"]) == 0

    @pytest.mark.parametrize(
        ("equal", "total", "score"),
        [(1, 2, 1 / 6), (2, 2, 1 / 3), (1, 3, 2 / 9), (2, 3, 4 / 9), (3, 3, 2 / 3), (4, 4, 1.0), (3, 5, 0.8)],
    )
    def test_below_ten_the_official_rule_goes_on(self, equal: int, total: int, score: float) -> None:
        assert vqa_score("cat", split_answers("cat", equal, total)) == pytest.approx(score, abs=1e-15)

    def test_two_unanimous_references_are_not_normalised(self) -> None:
        assert vqa_score("Cat", ["cat", "cat"]) == 0

    def test_no_reference_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="at least one human answer"):
            vqa_score("cat", [])

    def test_a_string_is_not_taken_for_its_letters(self) -> None:
        with pytest.raises(TypeError, match="not one string"):
            vqa_score("y", "yes")


def brute_force(prediction: str, references: list[str]) -> Fraction:
    """The official loop: every annotator, against the list of the others."""
    prediction = prediction.replace("\n", " ").replace("\t", " ").strip()
    answers = [answer.replace("\n", " ").replace("\t", " ").strip() for answer in references]
    if any(answer != answers[0] for answer in answers):
        prediction, answers = normalize_answer(prediction), [normalize_answer(answer) for answer in answers]
    scores = []
    for left_out in range(len(answers)):
        others = answers[:left_out] + answers[left_out + 1 :]
        matches = sum(answer == prediction for answer in others)
        scores.append(min(Fraction(1), Fraction(matches, 3)))
    return sum(scores, Fraction(0)) / len(scores)


@given(ANSWERS, st.lists(ANSWERS, min_size=2, max_size=12))
def test_score_equals_leave_one_out_in_fractions(prediction: str, references: list[str]) -> None:
    """The closed form is the official loop, correctly rounded."""
    assert vqa_score(prediction, references) == float(brute_force(prediction, references))


@given(st.text(max_size=30), st.lists(st.text(max_size=5), min_size=1, max_size=10))
def test_any_text_scores_between_zero_and_one(prediction: str, references: list[str]) -> None:
    assert 0 <= vqa_score(prediction, references) <= 1


class TestAccuracy:
    def test_overall_and_per_type_in_percent(self) -> None:
        result = vqa_accuracy(
            ["yes", "2", "red", "blue"],
            [split_answers(word, equal) for word, equal in [("yes", 10), ("2", 3), ("red", 1), ("blue", 0)]],
            answer_types=["yes/no", "number", "other", "other"],
            question_types=["is the", "how many", "what color", "how many"],
        )
        assert result.overall == pytest.approx(55)
        assert result.count == 4
        assert result.per_answer_type == pytest.approx({"yes/no": 100, "number": 90, "other": 15})
        assert result.per_question_type == pytest.approx({"is the": 100, "how many": 45, "what color": 30})
        assert result.answer_type_counts == {"yes/no": 1, "number": 1, "other": 2}
        assert result.question_type_counts == {"is the": 1, "how many": 2, "what color": 1}

    def test_overall_is_the_mean_over_questions_not_over_types(self) -> None:
        result = vqa_accuracy(["x"] * 4, [["x"] * 10] * 3 + [["y"] * 10], answer_types=["p", "p", "p", "q"])
        assert result.overall == 75

    def test_without_types(self) -> None:
        assert vqa_accuracy(["x"], [["x"] * 10]) == VqaResult(overall=100.0, count=1)

    def test_the_official_variant_is_the_default(self) -> None:
        assert vqa_accuracy(["Yes"], [["yes"] * 10]).overall == 0

    def test_result_is_not_rounded(self) -> None:
        result = vqa_accuracy(["x"] * 3, [["x"] * 10] + [["y"] * 10] * 2)
        assert result.overall == pytest.approx(100 / 3, abs=1e-12)

    def test_result_can_be_sent_as_json(self) -> None:
        result = vqa_accuracy(["x"], [["x"] * 10], ["other"], ["what"])
        assert VqaResult(**json.loads(json.dumps(asdict(result)))) == result

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([], []), "nothing to score"),
            ((["x"], []), "references has 0 items, predictions has 1"),
            ((["x"], [["x"]], ["other", "other"]), "answer_types has 2 items, predictions has 1"),
            ((["x"], [["x"]], None, []), "question_types has 0 items, predictions has 1"),
            ((["x", "x"], [["x"], []]), r"references\[1\] is empty"),
        ],
    )
    def test_bad_input_is_named(self, arguments: tuple[list[str], ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            vqa_accuracy(*arguments)


QUESTION = st.tuples(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=10), st.sampled_from("pqr"), st.sampled_from("uv"))
CLIENTS = st.lists(st.lists(QUESTION, min_size=1, max_size=6), min_size=1, max_size=5)


class TestMerge:
    @given(CLIENTS)
    def test_equals_scoring_all_examples_together(self, clients: list[list[Question]]) -> None:
        """Clients report means and counts only; nothing may be lost by that."""
        merged = merge([vqa_accuracy(*zip(*client, strict=True)) for client in clients])
        together = vqa_accuracy(*zip(*(question for client in clients for question in client), strict=True))
        assert merged.overall == pytest.approx(together.overall, abs=1e-9)
        assert merged.per_answer_type == pytest.approx(together.per_answer_type, abs=1e-9)
        assert merged.per_question_type == pytest.approx(together.per_question_type, abs=1e-9)
        assert merged.count == together.count
        assert merged.answer_type_counts == together.answer_type_counts
        assert merged.question_type_counts == together.question_type_counts

    def test_weighs_by_examples_not_by_clients(self) -> None:
        assert merge([VqaResult(100.0, 1), VqaResult(0.0, 3)]).overall == 25

    def test_a_type_counts_only_where_it_occurs(self) -> None:
        one = vqa_accuracy(["x"], [["x"] * 10], answer_types=["other"])
        two = vqa_accuracy(["y", "y"], [["x"] * 10] * 2, answer_types=["other", "number"])
        assert merge([one, two]).per_answer_type == {"number": 0.0, "other": 50.0}

    def test_one_result_stays_as_it_is(self) -> None:
        result = vqa_accuracy(["x"], [["x"] * 10], ["other"], ["what"])
        assert merge([result]) == result

    def test_a_client_without_examples_adds_nothing(self) -> None:
        assert merge([VqaResult(float("nan"), 0), VqaResult(50.0, 2)]) == VqaResult(50.0, 2)

    @pytest.mark.parametrize("results", [[], [VqaResult(0.0, 0)]])
    def test_nothing_to_merge_is_an_error(self, results: list[VqaResult]) -> None:
        with pytest.raises(ValueError, match="no examples"):
            merge(results)
