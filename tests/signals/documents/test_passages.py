from hypothesis import given
from hypothesis import strategies as st

from signals.documents.passages import LENGTH, lead, passages


@given(st.text(st.sampled_from("ab .\n!?中"), max_size=4 * LENGTH))
def test_passages_are_the_text_and_none_is_longer_than_an_encoder_reads(text):
    spans = passages(text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(end - start <= LENGTH for start, end in spans)
    assert all(end > start for start, end in spans) or text == ""


def test_a_passage_ends_with_a_line_else_a_sentence_else_a_word():
    line, sentence, word = "x" * 300 + "\n", "y" * 299 + ". ", "z" * 299 + " "
    more = "w" * LENGTH
    for first in (line, sentence, word):
        text = first + more
        assert next(text[start:end] for start, end in passages(text)) == first


def test_a_short_text_is_one_passage():
    assert passages("Short. Text.") == [(0, 12)]


@given(st.text(st.sampled_from("ab .\n!?中"), max_size=3 * LENGTH))
def test_the_lead_is_the_first_passage(text):
    assert lead(text) == passages(text)[0]
