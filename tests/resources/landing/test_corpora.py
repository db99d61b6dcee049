import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from resources.landing import corpora
from resources.landing.folders import landed_files
from resources.landing.records import Record
from tests.support import SHARED

DATA = SHARED / "data"
TAXONOMY = "iab_taxonomy/Content_Taxonomies/Content_Taxonomy_3.1.tsv"
TAXONOMY_ROWS = [
    "Relational ID System\t\tTiered Categories\t\t\t\t",
    "Unique ID\tParent\tName\tTier 1\tTier 2\tTier 3\tTier 4",
    "422\t\tPets\tPets\t\t\t",
    "423\t422\tBirds\tPets\tBirds\t\t",
]
MAPPED = [
    "dataset\tsource_label\tprimary_iab_id",
    "topics_papers\tSPORTS\t483",
    "topics_papers\tpets\t422",
    "topics_papers\tQueer Voices\t",
]


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def records(root: Path, folder: str) -> Iterator[Record]:
    for file in landed_files(root, folder):
        yield from file.read(file.path, 10_000_000)


def fields(root: Path, folder: str) -> list[dict]:
    found = list(records(root, folder))
    assert [record.broken for record in found] == [None] * len(found)
    return [record.fields for record in found]


def tweets(root: Path, task: str, texts: str, labels: str = "0\n1\n") -> None:
    put(root / f"tweeteval/{task}/mapping.txt", "0\tcalm\n1\tangry\n")
    put(root / f"tweeteval/{task}/val_text.txt", texts)
    put(root / f"tweeteval/{task}/val_labels.txt", labels)


def test_a_tweet_is_a_label_with_its_name_from_the_mapping_and_its_split(tmp_path):
    tweets(tmp_path, "emotion", "so calm\nnot you again\u2028really\n")
    assert fields(tmp_path, "labels") == [
        {
            "label_id": "tweeteval/emotion/val_text.txt:1",
            "task": "emotion",
            "label": "calm",
            "text": "so calm",
            "reviewer": "tweeteval",
            "split": "val",
        },
        {
            "label_id": "tweeteval/emotion/val_text.txt:2",
            "task": "emotion",
            "label": "angry",
            "text": "not you again\u2028really",
            "reviewer": "tweeteval",
            "split": "val",
        },
    ]


def test_offensive_tweets_answer_the_task_toxicity(tmp_path):
    tweets(tmp_path, "offensive", "a\nb\n")
    assert {row["task"] for row in fields(tmp_path, "labels")} == {"toxicity"}


@pytest.mark.parametrize(("texts", "labels"), [("a\n", "0\n1\n"), ("a\nb\nc\n", "0\n1\n"), ("a\nb\n", "0\n7\n")])
def test_tweets_without_a_label_of_the_mapping_are_not_passed_over_silently(tmp_path, texts, labels):
    tweets(tmp_path, "irony", texts, labels)
    assert list(records(tmp_path, "labels"))[-1].broken == "corrupt_file"


def test_a_topic_is_mapped_to_the_taxonomy_whatever_its_case_and_kept_where_it_is_unmapped(tmp_path):
    put(tmp_path / "iab_taxonomy/source_label_to_iab31_tier1.tsv", "\n".join(MAPPED))
    rows = [
        {"id": "a1", "label": "SPORTS", "headline": "They won", "short_description": "In the end."},
        {"id": "a2", "label": "Pets", "title": "Cats", "text": "They sleep."},
        {"id": "a3", "label": "Queer Voices", "subject": "No body"},
        {"id": "a4", "label": "Unheard of", "text": "No title"},
    ]
    put(tmp_path / "topics_papers/dev.jsonl.gz", "\n".join(json.dumps(row) for row in rows) + "\n\n")
    found = fields(tmp_path, "labels")
    assert [(row["label_id"], row["label"], row["text"]) for row in found] == [
        ("topics_papers:a1", "483", "They won\nIn the end."),
        ("topics_papers:a2", "422", "Cats\nThey sleep."),
        ("topics_papers:a3", "unmapped:Queer Voices", "No body"),
        ("topics_papers:a4", "unmapped:Unheard of", "No title"),
    ]
    assert {(row["task"], row["reviewer"]) for row in found} == {("iab_category", "topics_papers")}


def test_topics_without_the_mapping_table_are_one_corrupt_file_record(tmp_path):
    put(tmp_path / "topics_papers/dev.jsonl.gz", json.dumps({"id": 1, "label": "x", "text": "y"}))
    assert [record.broken for record in records(tmp_path, "labels")] == ["corrupt_file"]


def test_each_topic_of_the_taxonomy_describes_its_tier_one_topic(tmp_path):
    put(tmp_path / TAXONOMY, "\r\n".join(TAXONOMY_ROWS))
    found = fields(tmp_path, "labels")
    assert [(row["label"], row.get("finer_label"), row["text"], row["split"]) for row in found] == [
        ("422", None, "Pets", "train"),
        ("422", "423", "Birds: Pets > Birds", "train"),
    ]


def test_a_row_of_a_deeper_topic_is_of_its_tier_one_topic_and_names_the_deeper_one(tmp_path):
    put(tmp_path / TAXONOMY, "\n".join(TAXONOMY_ROWS))
    put(tmp_path / "iab_taxonomy/source_label_to_iab31_tier1.tsv", "\n".join(MAPPED))
    deepest = ["corpus\tsource_label\tunique_id", "topics_papers\tpets\t423", "topics_papers\tSPORTS\t423"]
    put(tmp_path / "iab_taxonomy/source_label_to_iab31.tsv", "\n".join(deepest))
    rows = [{"id": 1, "label": "pets", "title": "A parrot"}, {"id": 2, "label": "SPORTS", "title": "A goal"}]
    put(tmp_path / "topics_papers/dev.jsonl.gz", "\n".join(json.dumps(row) for row in rows))
    posts = [{"text": "My budgie sings.", "label": "423"}, {"text": "No such node.", "label": "9999"}]
    put(tmp_path / "iab_deep/dev.jsonl.gz", "\n".join(json.dumps(row) for row in posts))
    found = {row["text"]: (row["label"], row.get("finer_label")) for row in fields(tmp_path, "labels")}
    assert found["A parrot"] == found["My budgie sings."] == ("422", "423")
    assert found["A goal"] == ("483", None), "a deeper topic of another first tier is not believed"
    assert found["No such node."] == ("unmapped:9999", None)


def test_texts_of_threats_have_their_split_by_their_file(tmp_path):
    for split, label in (("train", "terrorism"), ("val", "none")):
        row = {"text": f"text of {split}", "label": label, "source": "paper"}
        put(tmp_path / f"threat/{split}.jsonl.gz", json.dumps(row) + "\n")
    found = [(row["task"], row["label"], row["reviewer"], row["split"]) for row in fields(tmp_path, "labels")]
    assert found == [("threat", "terrorism", "paper", "train"), ("threat", "none", "paper", "val")]


def test_texts_in_other_languages_say_which_and_parallel_ones_only_measure(tmp_path):
    tweet = {"text": "¡Qué bien!", "label": "positive", "lang": "es", "split": "train", "source": "umsab"}
    topics = [
        {"text": "Das Spiel", "label": "483", "lang": "de", "source": "sib200"},
        {"text": "The game", "label": "483", "lang": "en", "source": "sib200"},
        {"text": "Le match", "label": "483", "lang": "fr", "source": "masakhanews"},
    ]
    put(tmp_path / "languages/sentiment.jsonl.gz", json.dumps(tweet))
    put(tmp_path / "languages/topics.jsonl.gz", "\n".join(json.dumps(row) for row in topics))
    found = [
        (row["task"], row["label"], row["text"], row["language"], row.get("split"))
        for row in fields(tmp_path, "labels")
    ]
    assert found == [
        ("sentiment", "positive", "¡Qué bien!", "es", "train"),
        ("iab_category", "483", "Das Spiel", "de", "val"),
        ("iab_category", "483", "Le match", "fr", None),
    ]


def test_a_comment_with_several_emotions_keeps_them_all(tmp_path):
    put(tmp_path / "goemotions/labels.txt", "joy\nanger\nneutral\n")
    put(tmp_path / "goemotions/dev.tsv", "one, two\t2\tc1\n\u2028odd\t0,1\tc2\n")
    put(tmp_path / "goemotions/train.tsv", "three\t1\tc3\n")
    found = fields(tmp_path, "labels")
    assert [(row["text"], row["label"], row["split"]) for row in found] == [
        ("one, two", "neutral", "val"),
        ("\u2028odd", "joy|anger", "val"),
        ("three", "anger", "train"),
    ]


def test_quoted_line_breaks_of_a_table_end_no_row(tmp_path):
    put(
        tmp_path / "hate_davidson/dev.csv",
        'id,hate_speech,offensive_language,neither,class,tweet\n7,0,3,0,1,"one\r\ntwo ""three"""\n8,3,0,0,0,x\n',
    )
    put(tmp_path / "toxicity_surge/dev.csv", 'text,is_toxic\n"a\n\nb",Toxic\nc,Not Toxic\n')
    found = fields(tmp_path, "labels")
    assert [(row["task"], row["label"], row["text"]) for row in found] == [
        ("hate_davidson", "offensive language", 'one\r\ntwo "three"'),
        ("hate_davidson", "hate speech", "x"),
        ("toxicity_surge", "Toxic", "a\n\nb"),
        ("toxicity_surge", "Not Toxic", "c"),
    ]


def test_a_table_that_never_closes_a_quote_is_a_corrupt_file_record(tmp_path):
    put(tmp_path / "toxicity_surge/dev.csv", 'text,is_toxic\na,Toxic\n"b,Toxic\n' + "c,Toxic\n" * 40_000)
    assert [record.broken for record in records(tmp_path, "labels")] == [None, "corrupt_file"]


def test_a_downloaded_page_has_the_address_that_its_description_gives(tmp_path):
    page = "<p>Ships \u00e9</p>"
    put(tmp_path / "webpages_article/ground-truth.json", json.dumps({"a1": {"url": " https://news.example/a "}}))
    put(tmp_path / "webpages_article/html/a1.html.gz", page)
    assert fields(tmp_path, "pages") == [
        {"url": "https://news.example/a", "content_type": "text/html", "body": page.encode()}
    ]


def test_a_downloaded_page_without_a_description_is_a_corrupt_file_record(tmp_path):
    put(tmp_path / "webpages_segments/ground-truth.json", "{}")
    put(tmp_path / "webpages_segments/html/a1.html.gz", "<p>x</p>")
    assert [record.broken for record in records(tmp_path, "pages")] == ["corrupt_file"]


def test_pictures_and_their_labels_name_the_same_document(tmp_path):
    (tmp_path / "images_safety/benign").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "images_safety/benign/cat.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "images_safety/benign/dog.jpg")
    put(
        tmp_path / "images_safety/labels.csv",
        "file,label,class\nbenign/cat.png,benign,cat\nweapon/gun.jpg,weapon,gun\n",
    )
    labels, pictures = fields(tmp_path, "labels"), fields(tmp_path, "pages")
    assert [(row["document_id"], row["label"], row["split"]) for row in labels] == [
        ("file:///images_safety/benign/cat.png", "safe", "val"),
        ("file:///images_safety/weapon/gun.jpg", "weapon", "val"),
    ]
    media = {row["url"]: row["content_type"] for row in pictures}
    assert media == {
        "file:///images_safety/benign/cat.png": "image/png",
        "file:///images_safety/benign/dog.jpg": "image/jpeg",
    }
    assert pictures[0]["body"] == (tmp_path / pictures[0]["url"].removeprefix("file:///")).read_bytes()


def test_an_auction_is_a_request_with_what_each_bidder_answered(tmp_path):
    answer = {"cur": "EUR", "seatbid": [{"bid": [{"price": 1.5}, {"price": 2}, {}]}]}
    calls = [{"mockResponse": {"status": 200, "body": answer}}, {"mockResponse": {"status": 204, "body": None}}, {}]
    found = {"mockBidRequest": {"id": "r1"}, "httpCalls": calls}
    put(tmp_path / "rtb_openrtb/prebid_adapter_fixtures/acme__banner.json", json.dumps(found))
    (row,) = fields(tmp_path, "rtb_auctions")
    assert row["auction_id"] == "rtb_openrtb/prebid_adapter_fixtures/acme__banner.json"
    assert row["request"] == {"id": "r1"}
    assert [(bid["bidder"], bid["status"], bid["price_cpm"], bid["cur"]) for bid in row["bids"]] == [
        ("acme", "bid", 2, "EUR"),
        ("acme", "no_bid", None, None),
        ("acme", "no_bid", None, None),
    ]


@pytest.mark.parametrize("content", ['{"id": "r1"}', "[1]", "7", '"x"'])
def test_an_example_object_is_a_request_of_its_own(tmp_path, content):
    put(tmp_path / "rtb_openrtb/bsm_openrtb/breq.json", content)
    (row,) = fields(tmp_path, "rtb_auctions")
    assert (row["request"], row["bids"]) == (json.loads(content), [])


@pytest.mark.parametrize("content", ["", "{", '{"httpCalls": [7]}', '{"httpCalls": [{"mockResponse": 7}]}'])
def test_an_auction_of_another_shape_is_a_corrupt_file_record(tmp_path, content):
    put(tmp_path / "rtb_openrtb/prebid_sample_requests/a.json", content)
    assert [record.broken for record in records(tmp_path, "rtb_auctions")] == ["corrupt_file"]


def test_a_logged_auction_keeps_its_price_in_the_units_of_the_source(tmp_path):
    put(tmp_path / "rtb_ipinyou_2997/dev.tsv.gz", "click\tmarket_price\tpredicted_ctr\n0\t70\t0.001\n1\t5\t0.2\n")
    assert fields(tmp_path, "rtb_auctions")[1] == {
        "auction_id": "rtb_ipinyou_2997/dev.tsv.gz:2",
        "winner": "ipinyou",
        "market_price": 5.0,
        "click": 1,
        "predicted_ctr": 0.2,
    }


def test_corpora_and_landed_files_may_lie_side_by_side(tmp_path):
    tweets(tmp_path, "irony", "a\nb\n")
    put(tmp_path / "labels/mine.jsonl", '{"label_id": "x"}\n')
    assert [file.name for file in landed_files(tmp_path, "labels")] == [
        "labels/mine.jsonl",
        "tweeteval/irony/val_text.txt",
    ]


shared_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the public corpora are not at {DATA}")


@shared_data
@pytest.mark.slow
def test_every_labelled_row_of_the_public_corpora_is_read():
    with (DATA / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        listed = {row["file"]: row["lines_or_rows"] for row in csv.DictReader(file, delimiter="\t")}
    found = Counter()
    for file in landed_files(DATA, "labels"):
        for record in file.read(file.path, 10_000_000):
            assert record.broken is None, (file.name, record)
            assert record.fields["label"], (file.name, record.position)
            found[file.name] += 1
    # The taxonomy has two lines of headings; the list of pictures is counted in pictures.
    expected = {name: int(listed[name]) for name in found if name != "images_safety/labels.csv"}
    expected["iab_taxonomy/Content_Taxonomies/Content_Taxonomy_3.1.tsv"] -= 2
    expected["images_safety/labels.csv"] = sum(name.endswith((".jpg", ".png")) for name in listed if "safety" in name)
    # The English sentences of that folder are left out.
    expected["languages/topics.jsonl.gz"] -= 800
    assert found == expected
    assert len(found) == 28


@shared_data
@pytest.mark.slow
def test_every_page_picture_and_auction_of_the_public_corpora_is_read():
    with (DATA / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        listed = [row["file"] for row in csv.DictReader(file, delimiter="\t")]
    pages = list(records(DATA, "pages"))
    assert {record.broken for record in pages} == {None}
    assert len(pages) == sum(name.endswith((".html.gz", ".jpg", ".png")) for name in listed)
    auctions = Counter(
        record.broken or record.fields["auction_id"].rpartition(":")[0] for record in records(DATA, "rtb_auctions")
    )
    assert auctions["rtb_ipinyou_2997/dev.tsv.gz"] == 109_244
    folders = ("rtb_openrtb/bsm_openrtb", "rtb_openrtb/prebid_sample", "rtb_openrtb/prebid_adapter")
    assert auctions[""] == sum(name.startswith(folders) and name.endswith(".json") for name in listed)


def test_what_is_larger_than_the_budgets_allow_is_not_held(tmp_path, monkeypatch):
    put(tmp_path / "images_safety/benign/a.png", b"x" * 2_000)
    put(tmp_path / "goemotions/labels.txt", "joy\n")
    put(tmp_path / "goemotions/dev.tsv", "so glad\t0\tc1\n" + "x" * 2_000 + "\t0\tc2\nglad\t0\tc3\n")
    (picture,) = landed_files(tmp_path, "pages")
    assert [(record.broken, record.raw) for record in picture.records(1_000)] == [("too_large", "a.png")]
    (labels,) = landed_files(tmp_path, "labels")
    assert [record.broken for record in labels.records(1_000)] == [None, "too_large", None]
    monkeypatch.setattr(corpora, "MAX_CORPUS_BYTES", 2_000)
    assert [record.broken for record in labels.records(1_000)] == ["corrupt_file"]
