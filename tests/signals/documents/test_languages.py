import gzip
import json

import pytest

from signals.documents.languages import language_of
from signals.documents.text import normalise
from tests.support import SHARED

DATA = SHARED / "data"
GERMAN = (
    "Der Stadtrat hat am Dienstag beschlossen, die alte Steinbrücke über den Fluss zu reparieren, die seit dem "
    "Hochwasser im Frühjahr für Lastwagen gesperrt ist."
)
ENGLISH = "The council decided on Tuesday to mend the old stone bridge, which has been closed to lorries since spring."
NORWEGIAN = "Byrådet vedtok tirsdag å reparere den gamle steinbroen over elven, som har vært stengt for lastebiler."
KOREAN = "시의회는 화요일에 오래된 돌다리를 수리하기로 결정했다. 공사는 다음 달에 시작된다. 시장은 저녁에 말했다."


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "",
        " ",
        "en",
        "en-US",
        "x-default",
        "{{ lang }}",
        "german",
        "deu",
        "kr",
        "fr",
        "ja",
        "*",
        "und",
        "de",
        "de-CH",
        "DE_at",
    ],
)
def test_a_plain_text_is_of_its_own_language_whatever_is_declared(declared):
    assert language_of(GERMAN, declared).code == "de"


@pytest.mark.parametrize(
    ("text", "declared", "language"),
    [
        (ENGLISH, "{{ lang }}", "en"),
        (ENGLISH, "de", "en"),
        (KOREAN, "kr", "ko"),
        (KOREAN, "en", "ko"),
        (NORWEGIAN, "no", "no"),
        (NORWEGIAN, "nb-NO", "nb"),
        ("Taxi Hotel Restaurant", "it", "it"),
        ("OK", "pt-BR", "pt"),
        ("12.30 – 14.00", "de", "de"),
        ("12.30 – 14.00", "x-default", None),
        ("", "fr", "fr"),
        ("", None, None),
        (ENGLISH, "iw", "en"),
        ("שלום", "iw", "he"),
    ],
)
def test_a_declared_language_decides_where_the_text_does_not(text, declared, language):
    assert language_of(text, declared).code == language


@pytest.mark.parametrize("text", ["", "😀😀", "12.30", "@user http", "ok", "lol", "ciao", "#harbour"])
def test_a_text_that_does_not_show_its_language_has_none(text):
    assert language_of(text) == (None, None)


def test_how_sure_the_detector_is_comes_with_what_it_detects_and_not_with_what_is_only_declared():
    code, score = language_of(ENGLISH)
    assert (code, score) == ("en", pytest.approx(1, abs=0.01))
    assert language_of("Taxi Hotel Restaurant", "it").score is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the public corpora are not there")
def test_tweets_of_english_are_hardly_ever_taken_for_another_language_and_sentences_of_others_hardly_ever_for_english():
    tweets = (DATA / "tweeteval/sentiment/val_text.txt").read_text(encoding="utf-8").split("\n")[:500]
    taken = [language_of(normalise(tweet)).code for tweet in tweets]
    assert sum(code not in ("en", None) for code in taken) <= 5
    lines = gzip.decompress((DATA / "languages/topics.jsonl.gz").read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines]
    for language in ("ar", "de", "es", "fr", "ja", "ru", "zh"):
        texts = [row["text"] for row in rows if row["lang"] == language and row["source"] == "sib200"][:100]
        assert sum(language_of(normalise(text)).code in ("en", None) for text in texts) <= 3, language
