from signals.documents.characters import covering


def test_every_character_is_held_and_as_near_the_beginning_as_any_has_it():
    texts = ["abc", "cab", "bca ż", "ab" * 50 + "ß", "ß", "abc"]
    assert covering(texts, 0, 10) == [0, 2, 3, 4]
    assert covering(texts, 5, 10) == [0, 1, 2, 3, 4]
    assert covering([], 5, 10) == []
