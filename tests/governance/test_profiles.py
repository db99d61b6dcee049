from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from governance.profiles import OF_IGNORANCE, Profile, ProfileError, judge, read_profile
from signals.risks import LEVELS, UNKNOWN
from signals.taxonomies import lineage, nodes

TABLE = yaml.safe_load(Path(__file__).with_name("suitability.yaml").read_text())
CASES = [line.split(", ") for line in TABLE["cases"]]
PROFILES = {name: Profile.model_validate(told) for name, told in TABLE["profiles"].items()}
TOPICS = st.sampled_from(sorted(nodes()))
ACCEPTED = st.sampled_from([level for level in LEVELS if level != UNKNOWN])


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_the_table(case):
    page, profile, answer, *rules = case
    verdict = judge(PROFILES[profile], TABLE["pages"][page])
    assert answer == ("allow" if verdict.allowed else "refuse")
    assert [reason.rule for reason in verdict.reasons] == " ".join(rules).split()
    assert all(reason.what for reason in verdict.reasons)


def test_the_table_is_long_enough_and_uses_all_that_it_has():
    assert len(CASES) >= 40
    assert {case[0] for case in CASES} == set(TABLE["pages"])
    assert {case[1] for case in CASES} == set(PROFILES)


def test_the_site_of_an_unknown_page_is_judged():
    assert judge(PROFILES["not_there"], None, "a.bad.example").reasons[0].rule == "site_refused"
    assert [reason.rule for reason in judge(PROFILES["own_sites"], None, "news.example").reasons] == ["page_unknown"]


@given(TOPICS, TOPICS)
def test_a_topic_is_refused_with_all_below_it(topic, refused):
    profile = Profile(says="", topics={"refused": [refused]})
    verdict = judge(profile, {"risk": "none", "topics": [{"id": topic}]})
    assert verdict.allowed == (refused not in lineage(topic))


@given(ACCEPTED, st.sampled_from(LEVELS), st.sampled_from(["allow", "refuse"]))
def test_a_page_is_no_graver_than_what_is_accepted(accepted, level, unknown):
    verdict = judge(Profile(says="", risk=accepted, unknown=unknown), {"risk": level})
    expected = unknown == "allow" if level == UNKNOWN else LEVELS.index(level) <= LEVELS.index(accepted)
    assert verdict.allowed == expected


@given(st.sampled_from(list(PROFILES)), st.sampled_from(list(TABLE["pages"])))
def test_where_the_unknown_is_refused_no_more_is_allowed(profile, page):
    loose, strict = (PROFILES[profile].model_copy(update={"unknown": answer}) for answer in ("allow", "refuse"))
    verdicts = [judge(one, TABLE["pages"][page]) for one in (loose, strict)]
    kept = [reason for reason in verdicts[1].reasons if reason.rule not in OF_IGNORANCE]
    assert list(verdicts[0].reasons) == kept


def test_the_digest_names_what_a_profile_says_not_how_it_is_written():
    first = read_profile("says: x\ntopics: {wanted: ['483', '484', '1', '4', '52']}\nrisks: {arms: low, hate: none}\n")
    again = read_profile("risks: {hate: none, arms: low}\ntopics: {wanted: ['52', '4', '1', '484', '483']}\nsays: x\n")
    other = read_profile("says: x\ntopics: {wanted: ['483', '484', '1', '4', '52']}\nrisks: {arms: low}\n")
    assert first.digest == again.digest != other.digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "profile: Input should be"),
        ("[", "no YAML"),
        ("says: x\ncolour: red", "colour: Extra inputs"),
        ("says: x\nrisk: unknown", "risk: 'unknown' is no level"),
        ("says: x\nrisks: {fire: low}", "'fire' is no risk; there are adult, arms"),
        ("says: x\ntopics: {wanted: [IAB17]}", "topics.wanted.0: 'IAB17' is no topic"),
        ("says: x\nlanguages: [english]", "languages.0: 'english' is no language"),
        ("says: x\nsites: {allowed: [nowhere]}", "sites.allowed.0: 'nowhere' is no domain"),
        ("says: x\nkeywords_refused: ['']", "keywords_refused.0: a keyword has a word"),
        ("says: x\nunknown: maybe", "unknown: Input should be 'allow' or 'refuse'"),
        ("says: !!python/object:os.system x", "no YAML"),
    ],
)
def test_a_faulty_profile_is_refused_in_one_line(text, says):
    with pytest.raises(ProfileError) as caught:
        read_profile(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_profile_or_is_refused_in_one_line(text):
    said = ""
    try:
        read_profile(text)
    except ProfileError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
