"""The language of a text: detected on the text, beside what its page declares."""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

ISO_639_1 = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su "
    "sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
LANGUAGES = frozenset(ISO_639_1.split())
WITHDRAWN = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv"}
# Languages that a text of them may be taken for, which only who wrote it tells apart.
ALIKE = tuple(
    frozenset(group.split())
    for group in ("nb nn no da", "bs hr sr sl mk bg", "id ms jv", "gl pt es", "cs sk", "af nl", "hi ne mr", "be ru uk")
)
# Codes of languages that the detector does not know, and that are codes of countries as well.
COUNTRIES = frozenset({"ch", "ee", "kr", "tw"})
DETECTED_FROM = 2_000
# Letters below which a declared language stands, and how sure the detector must be to overrule it.
FEW_LETTERS, SURE = 40, 0.9
# Letters below which nothing is detected where nothing is declared. A word of Chinese has two, one of English five.
FEWEST_LETTERS, FEWEST_OTHER_LETTERS = 10, 3
# Below this score a text may be of another language. At 0.5, 2 of 1,000 English tweets are taken for another language,
# and 5 of 100 French ones for English.
LIKELY = 0.5
# Links, names and hashtags are of no language.
NO_LANGUAGE = re.compile(r"@user|\bhttp\b|#\w+")


class Language(NamedTuple):
    """The language of a text.

    Attributes:
        code: ISO 639-1; None where the text does not show it and nothing declares it.
        score: how sure the detector is of it, from 0 to 1; None where it is only declared.
    """

    code: str | None
    score: float | None


def language_of(text: str, declared: str | None = None) -> Language:
    """Return the language of a text in its normal form.

    Args:
        text: the text.
        declared: what its page declares; it counts if it is a code, and the text is not plainly of another language.
    """
    code = declared_code(declared)
    prose = NO_LANGUAGE.sub(" ", text[:DETECTED_FROM])
    letters = [char for char in prose if char.isalpha()]
    if not letters:
        return Language(code, None)
    detected, score = _detector().classify(prose)
    if code is None:
        enough = len(letters) >= (FEWEST_LETTERS if letters[0] < "\u0370" else FEWEST_OTHER_LETTERS)
        return Language(detected, round(score, 4)) if enough and score >= LIKELY else Language(None, None)
    if code == detected:
        return Language(code, round(score, 4))
    alike = any({code, detected} <= group for group in ALIKE)
    unknown = code not in _detector().labels
    stands = alike or unknown or len(letters) < FEW_LETTERS or score < SURE
    return Language(code, None) if stands else Language(detected, round(score, 4))


def languages_of(
    texts: Iterable[str], declared: Iterable[str | None] = repeat(None)
) -> tuple[list[str | None], list[float | None]]:
    """Return the codes and scores of the languages of texts in their normal form, in order; see ``language_of``."""
    languages = [language_of(text, code) for text, code in zip(texts, declared, strict=False)]
    return [language.code for language in languages], [language.score for language in languages]


def declared_code(declared: str | None) -> str | None:
    """Return the ISO 639-1 code that a page declares, if it is one."""
    code = re.split(r"[-_,;\s]", (declared or "").strip().lower())[0]
    code = WITHDRAWN.get(code, code)
    return code if code in LANGUAGES - COUNTRIES else None


@lru_cache(maxsize=1)
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
