"""A perfectly learnt answer scores as high as any can: its tokens, through each backend's own path, are its text."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from datasets import Dataset

from fedumm.backends.blip_vqa import BlipVqaBackend
from fedumm.backends.feature_table import Block, FeatureTable
from fedumm.backends.januspro import JanusProBackend
from fedumm.backends.spelling import Speller
from fedumm.metrics import vqa_score
from support.answers import ANSWERS
from support.tokenizers_of_all_kinds import blip_processors, janus_processors, tiny_bert

CPU = torch.device("cpu")
MOST = 16
NAMES = ["tiny", "cased WordPiece", "byte-level BPE", "Unigram"]
SAYABLE = {"tiny": 230, "cased WordPiece": 310, "byte-level BPE": 325, "Unigram": 320}
"""How many of the answers each tokenizer says, at least: those that it can't are none of the test's business."""


@cache
def processors(kind: str) -> dict[str, Any]:
    return blip_processors() if kind == "blip_vqa" else janus_processors()


def rows_of(answers: list[list[str]]) -> Dataset:
    return Dataset.from_dict(
        {
            "question": ["what is it?"] * len(answers),
            "multiple_choice_answer": [own[0] for own in answers],
            "answers": answers,
        }
    )


def teacher_forced(
    kind: str, processor: Any, answers: list[list[str]], monkeypatch: pytest.MonkeyPatch, max_a_len: int = MOST
) -> list[float]:
    """The score of each row's training tokens, in the place of generated ones."""
    backend: Any = BlipVqaBackend() if kind == "blip_vqa" else JanusProBackend()
    data = backend.build_dataset(rows_of(answers), processor, 64, max_a_len)
    part = data if kind == "blip_vqa" else data.parts[0]
    part.features = FeatureTable([Block(torch.zeros(1, 1, 1))], [(0, 0)] * len(answers))
    batch = backend.collate_fn([data[row] for row in range(len(data))])
    labels = batch["labels"]
    if kind == "blip_vqa":
        start = torch.full_like(labels[:, :1], processor.decoder_start_token_id)
        said: Any = torch.cat([start, labels.clamp(min=0)], 1)
        monkeypatch.setattr("fedumm.backends.blip_vqa.model.generate_answers", lambda *_: said)
        monkeypatch.setattr(BlipVqaBackend, "_image_embeds", lambda *_: torch.zeros(1))
    else:
        said = [[token for token in row.tolist() if token != -100][:-1] for row in labels]
        monkeypatch.setattr("fedumm.backends.januspro.backend.generate_answers", lambda *_: said)
        monkeypatch.setattr(JanusProBackend, "_image", lambda *_: torch.zeros(1))
    model = torch.nn.Linear(1, 1)
    return [sample.score for sample in backend.score_batch(model, batch, processor, CPU)]


def sayable(processor: Any, kind: str) -> list[str]:
    """Answers that the tokenizer knows all tokens of, and that are not cut: by its own ids, not by our code."""
    tokenizer, lead = processor.tokenizer, "" if kind == "blip_vqa" else " "
    ids = tokenizer([lead + answer for answer in ANSWERS], add_special_tokens=False).input_ids
    unknown = tokenizer.unk_token_id
    return [a for a, own in zip(ANSWERS, ids, strict=True) if own and unknown not in own and len(own) < MOST]


def test_there_are_answers_of_all_kinds() -> None:
    assert len(set(ANSWERS)) == len(ANSWERS) >= 200


@pytest.mark.parametrize("kind", ["blip_vqa", "januspro"])
@pytest.mark.parametrize("name", NAMES)
def test_a_perfectly_learnt_answer_reaches_the_best_score(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = processors(kind)[name]
    answers = sayable(processor, kind)
    assert len(answers) >= SAYABLE[name]
    for count, best in ((1, 1.0), (2, 1 / 3), (3, 2 / 3), (10, 1.0)):
        scores = teacher_forced(kind, processor, [[answer] * count for answer in answers], monkeypatch)
        assert {a: s for a, s in zip(answers, scores, strict=True) if s != pytest.approx(best)} == {}


def test_a_start_token_that_is_an_ordinary_word_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = processors("blip_vqa")["tiny, start token an ordinary word"]
    assert processor.decoder_start_token_id not in processor.tokenizer.all_special_ids
    answers = sayable(processor, "blip_vqa")
    assert answers == sayable(processors("blip_vqa")["tiny"], "blip_vqa")
    scores = teacher_forced("blip_vqa", processor, [[answer] * 10 for answer in answers], monkeypatch)
    assert set(scores) == {1.0}
    speller = BlipVqaBackend().speller(processor)
    assert [speller.say(ids) for ids in speller.encode(["red", "x-ray"])] == ["red", "x-ray"]


def test_an_answer_that_was_cut_or_is_unknown_is_not_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = processors("blip_vqa")["tiny"]
    long, unknown = "red blue green red blue green", "红"
    scores = teacher_forced("blip_vqa", processor, [[long] * 10, [unknown] * 10, ["red"] * 10], monkeypatch, 4)
    assert scores == [0.0, 0.0, 1.0]


def test_another_answer_is_still_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row's own references decide how the answer is written, and only if it is one of them."""
    speller = speller_of_tiny()
    mri = speller.encode(["MRI"])[0]
    assert vqa_score(speller.say(mri, ["CT"] * 10), ["CT"] * 10) == 0
    assert speller.say(mri, ["CT", "mri", "MRI", "MRI"]) == "MRI"
    assert speller.say(mri, ["CT"]) == "mri"


def speller_of_tiny(known: tuple[str, ...] = ()) -> Speller:
    tokenizer = tiny_bert()
    return Speller(tokenizer, "", tokenizer.sep_token_id, known, whole_question=True)


def test_known_answers_are_written_as_the_user_writes_them() -> None:
    speller = speller_of_tiny(("X-Ray", "x-ray", "红"))
    ids = speller.encode(["x-RAY"])[0]
    assert speller.say(ids) == "X-Ray"
    assert speller.say(ids, ["x - ray"]) == "x - ray", "the row's own reference comes first"
    assert speller.say(speller.encode(["红"])[0]) == "[UNK]", "these ids may stand for anything"


def test_what_follows_the_end_token_is_not_said() -> None:
    speller = speller_of_tiny()
    red, blue = (ids[0] for ids in speller.encode(["red", "blue"]))
    assert speller.spoken([red, speller.end_id, blue]) == (red,)
    assert speller.spoken([red, blue]) == (red, blue)
    assert speller.spoken([speller.end_id]) == ()
    assert speller.say(()) == ""


def test_answers_that_share_their_tokens_are_told() -> None:
    found = speller_of_tiny().same_ids(["MRI", "red", "mri", "MRI", "café", "cafe", "3 . 5", "3.5"])
    assert found == [["MRI", "mri"], ["café", "cafe"], ["3 . 5", "3.5"]]
    cased = Speller(processors("blip_vqa")["cased WordPiece"].tokenizer, "", 3)
    assert cased.same_ids(["MRI", "mri", "café", "cafe", "3 . 5", "3.5"]) == [["3 . 5", "3.5"]]


def test_tokens_are_counted_as_the_options_count_them() -> None:
    """Against the data sets, which cut: a text of as many tokens as are allowed stays whole, and one more is cut."""
    processor, backend = processors("blip_vqa")["tiny"], BlipVqaBackend()
    speller = backend.speller(processor)
    text = "what color is the circle?"
    (question, known), (answer, _) = speller.measure("question", [text])[0], speller.measure("answer", [text])[0]
    assert known
    for shorter in (0, 1):
        rows = Dataset.from_dict({"question": [text], "multiple_choice_answer": [text], "answers": [[text]]})
        data = backend.build_dataset(rows, processor, question - shorter, answer - shorter)
        assert (data.questions[0] == processor.tokenizer(text).input_ids) == (shorter == 0)
        assert (data.answers[0][:-1] == list(speller.encode([text])[0])) == (shorter == 0)
    assert [said for _, said in speller.measure("answer", ["red", "红", "😀", "", "[SEP]"])] == [True, *[False] * 4]


def test_januspro_counts_a_text_of_its_own_alone() -> None:
    processor, backend = processors("januspro")["tiny"], JanusProBackend()
    speller = backend.speller(processor)
    assert speller.measure("question", ["is it red?"]) == speller.measure("caption", ["is it red?"]) == [(4, True)]
    assert speller.measure("answer", ["red blue"]) == [(3, True)]


def test_tokens_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedumm.backends.spelling.MOST_KEPT", 10)
    speller = speller_of_tiny()
    texts = [str(number) for number in range(40)]
    expected = [tuple(ids) for ids in tiny_bert()(texts, add_special_tokens=False).input_ids]
    assert [speller.encode([text])[0] for text in texts] == expected
    assert speller.encode(texts) == expected


def test_a_processor_is_loaded_without_a_model() -> None:
    for backend in (BlipVqaBackend(), JanusProBackend()):
        speller = backend.speller(backend.load_processor("tiny"))
        assert speller.measure("answer", ["red"]) == [(2, True)]
