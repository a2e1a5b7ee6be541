"""Scores of texts, against the packages that define them and against sums written out in another way."""

from __future__ import annotations

import math
import pickle
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedumm.metrics import cider as cider_module
from fedumm.metrics.cider import Cider
from fedumm.metrics.registry import answer_metric
from fedumm.metrics.text import exact, rouge_l, squad_words, token_f1, words
from fedumm.metrics.text_metric import TextMetric
from fedumm.tasks import I2T

PAIRS = [
    ("a cat on the mat", ["the cat sat on the mat"]),
    (
        "No acute cardiopulmonary process.",
        ["No acute cardiopulmonary abnormality.", "The lungs are clear."],
    ),
    ("The X-ray shows a 3.5 cm nodule", ["X ray: 3.5cm nodule in the left upper lobe"]),
    ("dog dog dog dog", ["a dog", "the dog and the dog"]),
    ("", ["anything"]),
    (
        "a man riding a wave on top of a surfboard",
        ["a man on a surfboard riding a wave", "a surfer rides a big wave", "man surfing in the ocean on a board"],
    ),
    ("police killed the gunman", ["police kill the gunman"]),
    (
        "one two three four five six seven eight nine ten eleven twelve",
        ["one three five seven nine eleven", "two four six eight ten twelve"],
    ),
]

ROUGE_L = [0.7272727272727272, 0.75, 0.4210526315789474, 0.4444444444444445, 0, 0.5555555555555556, 0.75, 2 / 3]
"""``max(RougeScorer(["rougeL"], use_stemmer=False).score(r, p)["rougeL"].fmeasure)`` over the references, rouge-score
0.1.2."""

CIDER = [
    3.727298453503185, 2.3958333333333335, 1.5467513830714796, 0.7930980190823321, 0.0, 1.657619815961564,
    2.5052828433105345, 1.0722048562008837,
]  # fmt: skip
"""``CiderScorer`` of pycocoevalcap 1.2 over all of :data:`PAIRS`, whose texts were made lower-case runs of a-z and 0-9
with single spaces between."""

SQUAD = [
    *PAIRS,
    ("The X-ray, 3.5", ["an xray 35"]),
    ("An apple; a day!", ["apple day", "the a"]),
    ("left left lung", ["left lung", "Lung left"]),
    ("A $5 bill", ["5 bills", "the bill"]),
]
F1 = [6 / 7, 0.75, 2 / 13, 4 / 7, 0.0, 5 / 6, 2 / 3, 2 / 3, 1.0, 1.0, 0.8, 2 / 3]
EXACT = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
"""``torchmetrics.functional.text.squad`` 1.9.0, a pair at a time (float32), as fractions."""

TEXTS = st.text("ab c,.A1-\n", max_size=30)
REFERENCES = st.lists(TEXTS, min_size=1, max_size=4)


def test_rouge_l_is_that_of_its_package() -> None:
    assert [rouge_l(*pair) for pair in PAIRS] == pytest.approx(ROUGE_L, rel=1e-12)


def test_token_f1_and_exact_match_are_squads() -> None:
    assert [token_f1(*pair) for pair in SQUAD] == pytest.approx(F1, rel=1e-12)
    assert [exact(*pair) for pair in SQUAD] == EXACT


def test_cider_is_cocos() -> None:
    cider = Cider([references for _, references in PAIRS])
    assert [cider(*pair) for pair in PAIRS] == pytest.approx(CIDER, rel=1e-12)


def dense_cider(text: str, references: list[str], corpus: list[list[str]]) -> float:
    """CIDEr-D over whole vectors in float64: a dimension for every n-gram of a text, its references and the corpus."""

    def grams(line: str, n: int) -> list[str]:
        own = re.findall("[a-z0-9]+", line.lower())
        return [" ".join(own[i : i + n]) for i in range(len(own) - n + 1)]

    total = 0.0
    for reference in references:
        for n in (1, 2, 3, 4):
            names = sorted({g for line in (text, reference) for g in grams(line, n)})
            seen = np.array([sum(any(g in grams(line, n) for line in own) for own in corpus) for g in names])
            rarity = np.log(len(corpus)) - np.log(np.maximum(seen, 1))
            said, wanted = (np.array([grams(line, n).count(g) for g in names]) * rarity for line in (text, reference))
            size = np.linalg.norm(said) * np.linalg.norm(wanted)
            if size:
                away = len(grams(text, 2)) - len(grams(reference, 2))
                total += float(np.minimum(said, wanted) @ wanted) / size * math.exp(-(away**2) / 72)
    return 10 * total / 4 / len(references)


def test_cider_is_the_sum_written_out_also_of_texts_that_are_not_in_the_corpus() -> None:
    rng, known = random.Random(5), ["red", "blue", "a", "an", "circle", "square", "left", "of", "right"]

    def line() -> str:
        return " ".join(rng.choice(known) for _ in range(rng.randint(1, 14)))

    corpus = [[line() for _ in range(rng.randint(1, 4))] for _ in range(12)]
    cider = Cider(corpus)
    scores = []
    for _ in range(60):
        text, references = line(), [line() for _ in range(rng.randint(1, 3))]
        scores.append(cider(text, references))
        assert scores[-1] == pytest.approx(dense_cider(text, references, corpus), rel=1e-9, abs=1e-12)
    assert max(scores) > 1, "they are not all alike"


def test_a_texts_cider_depends_neither_on_the_order_of_the_corpus_nor_on_what_else_is_scored() -> None:
    corpus = [references for _, references in PAIRS]
    whole, turned = Cider(corpus), Cider([list(reversed(own)) for own in reversed(corpus)])
    expected = [whole(*pair) for pair in PAIRS]
    assert [turned(*pair) for pair in PAIRS] == expected
    assert [whole(*pair) for pair in reversed(PAIRS)] == expected[::-1]
    assert Cider(corpus)(*PAIRS[5]) == expected[5], "scored alone"
    assert Cider(corpus[:4])(*PAIRS[5]) != expected[5], "the corpus matters"


def test_the_metric_of_texts_goes_to_data_loaders_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where processes are started afresh, a backend and its metric are pickled; and what is kept is bounded."""
    corpus = [references for _, references in PAIRS]
    metric = TextMetric(answer_metric("rouge_l"), corpus)
    copy = pickle.loads(pickle.dumps(metric))
    expected = [metric.others(*pair) for pair in PAIRS]
    monkeypatch.setattr(cider_module, "_REMEMBERED", 3)
    assert [copy.others(*pair) for pair in PAIRS] == expected
    assert len(copy._cider._made) <= 3


def test_a_corpus_of_one_image_or_none_tells_nothing() -> None:
    assert Cider([["a b c d"]])("a b c d", ["a b c d"]) == 0
    assert Cider([])("a b c d", ["a b c d"]) == 0


@given(TEXTS, REFERENCES)
def test_scores_keep_their_bounds_whatever_the_order_of_references(text: str, references: list[str]) -> None:
    cider = Cider([references, ["a b", "c"], ["b"]])
    for score in (rouge_l, token_f1, exact):
        assert 0 <= score(text, references) <= 1
        assert score(text, references) == score(text, references[::-1]) == max(score(text, [r]) for r in references)
    assert 0 <= cider(text, references) <= 10
    assert cider(text, references) == pytest.approx(cider(text, references[::-1]))
    assert exact(text, references) <= token_f1(text, references)


def longest_common(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """By the table that everybody knows."""
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, word in enumerate(first, start=1):
        for j, other in enumerate(second, start=1):
            table[i, j] = table[i - 1, j - 1] + 1 if word == other else max(table[i - 1, j], table[i, j - 1])
    return int(table[-1, -1])


@given(st.lists(st.sampled_from("abcd"), max_size=80), st.lists(st.sampled_from("abcd"), min_size=1, max_size=80))
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(first: list[str], second: list[str]) -> None:
    common = longest_common(tuple(first), tuple(second))
    f1 = 2 * common / (len(first) + len(second))
    assert rouge_l(" ".join(first), [" ".join(second)]) == pytest.approx(f1, rel=1e-12)


@given(TEXTS)
def test_a_text_is_its_own_best_reference(text: str) -> None:
    assert (exact(text, [text]), token_f1(text, [text])) == (1, 1)
    assert rouge_l(text, [text]) == (1 if words(text) else 0)


def test_scripts_without_spaces_have_a_word_a_character() -> None:
    assert words("肺部正常。MRI 3") == ("肺", "部", "正", "常", "mri", "3")
    assert squad_words("肺部正常。MRI 3") == ("肺", "部", "正", "常", "mri", "3")
    assert token_f1("肺正常", ["肺部正常"]) == pytest.approx(6 / 7)
    assert words("Grüße, Ürün: ÖL") == ("grüße", "ürün", "öl")
    assert exact("«Grüße»", ["grüße!"]) == 1


@pytest.mark.parametrize("score", [rouge_l, token_f1, exact])
def test_what_is_no_list_of_references_is_refused(score: object) -> None:
    with pytest.raises(ValueError, match="references is empty"):
        score("a", [])  # type: ignore[operator]
    with pytest.raises(TypeError, match="not one string"):
        score("a", "a b")  # type: ignore[operator]


def test_a_texts_scores_are_all_there_and_one_counts() -> None:
    corpus = [references for _, references in PAIRS]
    metric = TextMetric(answer_metric("token_f1"), corpus)
    assert metric(*PAIRS[1]) == token_f1(*PAIRS[1])
    others = metric.others(*PAIRS[1])
    assert others == {
        "rouge_l": rouge_l(*PAIRS[1]), "token_f1": token_f1(*PAIRS[1]), "exact": 0.0, "cider": Cider(corpus)(*PAIRS[1]),
    }  # fmt: skip
    assert others.keys() == {other.name for other in I2T.others}
    assert "cider" not in TextMetric(answer_metric("rouge_l")).others(*PAIRS[1])
