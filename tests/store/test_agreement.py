"""Whether two learnings say the same: what is, what must never be, and that it does not depend on the order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflexio_store.agreement import Rule, relation, rule_relation

SAME = [
    ("Loves coffee.", "Really likes coffee!"),
    ("Lives in Porto.", "resides in Porto"),
    ("Does not like olives.", "Dislikes olives."),
    ("Does not like olives.", "Can't stand olives."),
    ("Answer in German.", "Please reply in German."),
    ("Don't use tabs.", "Do not use tabs."),
    ("Favorite color is green.", "Favourite colour is green."),
    ("Has a dog.", "Has the dog"),
]
OPPOSED = [
    ("Likes coffee.", "Does not like coffee."),
    ("Loves coffee.", "Hates coffee."),
    ("Is allergic to nuts.", "Is not allergic to nuts."),
    ("Use uv, not pip.", "Use pip, not uv."),
    ("Avoid toll roads.", "Do not avoid toll roads."),
    ("Never send attachments.", "Send attachments."),
]
NARROWER = [
    ("Has a dog called Rex.", "Has a dog."),
    ("Likes tea and coffee.", "Likes tea."),
    ("Lives in Porto, Portugal.", "Lives in Porto."),
]
OTHER = [
    ("Likes tea.", "Likes green tea."),
    ("Likes tea.", "Drinks tea."),
    ("Prefers tea over coffee.", "Prefers coffee over tea."),
    ("Has two cats.", "Has three cats."),
    ("Has a cat.", "Has cats."),
    ("Has a dog called Rex.", "Has a dog called Bella."),
    ("Prefers window seats.", "Prefers window seats on night flights."),
    ("Likes hiking.", "Likes hiking, but not in winter."),
    ("Likes tea.", "Likes tea and never coffee."),
    ("Works for Acme.", "Worked for Acme."),
    ("Works in IT.", "Works in it."),
    ("Works in IT.", "Works in US."),
    ("Uses C++.", "Uses C#."),
    ("Uses C.", "Uses C++."),
    ("Pronouns: he.", "Pronouns: she."),
    ("Is a nurse.", "Has a nurse."),
    ("Ada manages Bob.", "Bob manages Ada."),
    ("Email Bob about Ada.", "Do not email Ada about Bob."),
    ("Send it before noon.", "Send it after noon."),
    ("Turn alerts on.", "Turn alerts off."),
    ("Budget is 1.5 million.", "Budget is 15 million."),
    ("Budget is 1,500 euros.", "Budget is 1.500 euros."),
    ("Temperature is 5 degrees.", "Temperature is -5 degrees."),
    ("Meets on Monday.", "Meets on Tuesday."),
    ("Flies to Paris.", "Flies from Paris."),
    ("Likes Paris, Texas.", "Likes Paris, France."),
    ("Wife is Ann.", "Wife was Ann."),
    ("Is allergic to nuts.", "Is sensitive to nuts."),
    ("Birthday is 3 May.", "Birthday is 5 March."),
    ("Has my keys.", "Has her keys."),
    ("", "Likes tea."),
    ("!!!", "???"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_in_other_words(one: str, other: str) -> None:
    """Synonyms, degree, contractions, spelling."""
    assert relation(one, other) == relation(other, one) == "same"


@pytest.mark.parametrize(("one", "other"), OPPOSED)
def test_contradictions(one: str, other: str) -> None:
    """What is affirmed here is denied there."""
    assert relation(one, other) == relation(other, one) == "opposed"


@pytest.mark.parametrize(("one", "other"), NARROWER)
def test_additions(one: str, other: str) -> None:
    """A name or a further item behind it."""
    assert (relation(one, other), relation(other, one)) == ("narrower", "wider")


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_different_facts(one: str, other: str) -> None:
    """Near as they are, they are two."""
    assert relation(one, other) == relation(other, one) == "other"


def test_rules_are_compared_in_their_situation() -> None:
    """The same words for another situation are another rule."""
    refund, address = Rule("Ask for the order number.", "a refund"), Rule("Ask for the order number.", "a new address")
    assert rule_relation(refund, address) == "other"
    assert rule_relation(refund, Rule("Ask for the order number.", "late parcel / a refund")) == "same"
    assert rule_relation(refund, Rule("Never ask for the order number.", "a refund")) == "opposed"
    assert rule_relation(refund, Rule("Ask for the order number.", "a refund", standing=True)) == "other"


VOCABULARY = ("likes", "tea", "green", "coffee", "not", "never", "Porto", "Rex", "5", "50", "two", "and", "over")
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=6)
TEXTS = WORDS.map(" ".join) | st.text(max_size=40)


@given(TEXTS, TEXTS)
def test_it_is_the_same_from_both_sides(one: str, other: str) -> None:
    """And nobody's text makes it fail."""
    turned = {"narrower": "wider", "wider": "narrower"}
    found = relation(one, other)
    assert relation(other, one) == turned.get(found, found)
    assert relation(one, one) in ("same", "other")


@given(WORDS, st.integers(0, 5), st.sampled_from(["7", "Lisbon", "oolong", "US"]))
def test_a_word_more_in_the_middle_is_never_the_same(words: list[str], place: int, more: str) -> None:
    """Whatever it is, if it says anything."""
    longer = [*words[:place], more, *words[place:]]
    assert relation(" ".join(words), " ".join(longer)) != "same"
