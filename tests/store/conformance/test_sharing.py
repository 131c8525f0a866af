"""What users agree on: agent playbooks that stay for as long as enough users support them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from reflexio_store.contract import Change, Shared, Sharing, Store, Supporter
from reflexio_store.models import AgentPlaybook, Evidence, LearningQuery, PlaybookStatus, Status, UserPlaybook
from tests.store.conformance.asking import EVERY, MakeTurn

pytestmark = pytest.mark.needs("sharing")
RULE = "Ask for the order number."


def say(store: Store, *users: str, content: str = RULE, version: str = "v1") -> list[str]:
    """Users have a rule each; the ids."""
    return store.add_learnings([UserPlaybook(user_id=user, agent_version=version, content=content) for user in users])


def agreed(
    store: Store, *users: str, content: str = RULE, version: str = "v1", key: int = 0, of_content: str = RULE
) -> Shared:
    """That users (all who may) agree on a rule."""
    voices = (
        Supporter(voice.playbook.user_id, voice.playbook.user_playbook_id, voice.sameness)
        for voice in store.voices(version)
        if voice.playbook.content == of_content and (not users or voice.playbook.user_id in users)
    )
    return Shared(AgentPlaybook(agent_playbook_id=key, agent_version=version, content=content), frozenset(voices))


def share(store: Store, *rules: Shared, version: str = "v1", least: int = 2, approve: bool = False) -> Sharing:
    return store.share(version, rules, least=least, approve=approve)


def shared(store: Store, version: str = "v1", statuses: Iterable[Status | None] = (None,)) -> list[AgentPlaybook]:
    found = store.get_learnings("agent_playbook", LearningQuery(agent_version=version, status_filter=list(statuses)))
    return [item for item in found if isinstance(item, AgentPlaybook)]


def approve(store: Store, playbook: AgentPlaybook) -> None:
    fields = {"playbook_status": PlaybookStatus.APPROVED}
    assert store.update_learning("agent_playbook", str(playbook.agent_playbook_id), fields)


class TestAgreeing:
    def test_what_enough_users_say_is_pending_until_it_is_approved(self, store: Store) -> None:
        """Or approved at once, if so asked."""
        say(store, "ann", "ben")
        assert share(store, agreed(store)) == Sharing(added=1)
        [made] = shared(store)
        assert (made.content, made.support, made.playbook_status) == (RULE, 2, PlaybookStatus.PENDING)
        approve(store, made)
        assert [item.playbook_status for item in shared(store)] == [PlaybookStatus.APPROVED]
        say(store, "ann", "ben", version="v2")
        assert share(store, agreed(store, version="v2"), version="v2", approve=True) == Sharing(added=1)
        assert [item.playbook_status for item in shared(store, "v2")] == [PlaybookStatus.APPROVED]

    @pytest.mark.parametrize("least", [2, 3, 5])
    def test_it_takes_as_many_distinct_users_as_are_asked_for(self, store: Store, least: int) -> None:
        """One user counts once, however often they said it."""
        users = [f"user {number}" for number in range(least)]
        say(store, *users[1:], users[1], users[1])
        assert share(store, agreed(store), least=least) == Sharing()
        say(store, users[0])
        assert share(store, agreed(store), least=least) == Sharing(added=1)
        assert shared(store)[0].support == least

    def test_the_same_again_changes_nothing(self, store: Store) -> None:
        """By its id, or by its words where two workers found it at the same time."""
        say(store, "ann", "ben")
        share(store, agreed(store))
        [made] = shared(store)
        for key in (0, made.agent_playbook_id):
            assert share(store, agreed(store, key=key)) == Sharing()
        assert shared(store) == [made]

    def test_its_words_follow_its_supporters_and_are_pending_again(self, store: Store) -> None:
        """Approval was of other words."""
        say(store, "ann", "ben")
        share(store, agreed(store))
        [made] = shared(store)
        approve(store, made)
        done = share(store, agreed(store, content="Ask for the order's number.", key=made.agent_playbook_id))
        assert done == Sharing(updated=1)
        [new] = shared(store)
        assert (new.agent_playbook_id, new.content) == (made.agent_playbook_id, "Ask for the order's number.")
        assert new.playbook_status == PlaybookStatus.PENDING

    def test_what_a_person_reworded_keeps_its_words(self, store: Store) -> None:
        """And says so."""
        say(store, "ann", "ben")
        share(store, agreed(store))
        [made] = shared(store)
        store.update_learning("agent_playbook", str(made.agent_playbook_id), {"content": "Ask politely."})
        assert [(item.by_hand, len(item.supporters)) for item in store.shared("v1")] == [(True, 2)]
        assert share(store, agreed(store, key=made.agent_playbook_id)) == Sharing()
        assert [item.content for item in shared(store)] == ["Ask politely."]

    def test_versions_are_kept_apart(self, store: Store) -> None:
        """What users say of one is no voice for another."""
        say(store, "ann")
        say(store, "ben", version="v2")
        assert [voice.playbook.user_id for voice in store.voices("v1")] == ["ann"]
        assert share(store, agreed(store)) == Sharing()


class TestLosingSupport:
    def test_below_the_least_it_is_retired_at_once_and_comes_back_as_it_was(self, store: Store) -> None:
        """Approved, under its id, when another agrees."""
        say(store, "ann", "ben", "cleo")
        share(store, agreed(store))
        [made] = shared(store)
        approve(store, made)
        assert store.delete_user("ann").agent_playbooks_lowered == 1
        assert shared(store)[0].support == 2
        assert store.delete_user("ben").agent_playbooks_retired == 1
        assert shared(store) == []
        assert [item.support for item in shared(store, statuses=[Status.ARCHIVED])] == [1]
        say(store, "dan")
        assert share(store, agreed(store, key=made.agent_playbook_id)) == Sharing(updated=1)
        [back] = shared(store)
        assert (back.agent_playbook_id, back.playbook_status) == (made.agent_playbook_id, PlaybookStatus.APPROVED)

    def test_without_any_supporter_its_words_are_gone(self, store: Store) -> None:
        """They were the users' words."""
        say(store, "ann", "ben")
        share(store, agreed(store))
        store.delete_user("ann")
        store.delete_user("ben")
        assert shared(store, statuses=EVERY) == []
        query = LearningQuery(agent_version="v1", query=RULE, status_filter=EVERY)
        assert store.search_learnings("agent_playbook", query) == []

    @pytest.mark.parametrize("change", ["reword", "delete", "archive", "opt out"])
    def test_a_supporter_who_changes_their_mind_counts_no_more(self, store: Store, change: str) -> None:
        """In the very moment of the change, however it is made."""
        [first, _] = say(store, "ann", "ben")
        share(store, agreed(store))
        if change == "reword":
            store.update_learning("user_playbook", first, {"content": "Refund at once."}, user_id="ann")
        elif change == "delete":
            store.delete_learnings("user_playbook", [first], user_id="ann")
        elif change == "archive":
            store.update_learning("user_playbook", first, {"status": Status.ARCHIVED}, user_id="ann")
        else:
            store.opt_out("ann")
        assert shared(store) == []
        assert [item.support for item in shared(store, statuses=[Status.ARCHIVED])] == [1]

    def test_support_goes_with_the_messages_it_rests_on(self, store: Store, turn: MakeTurn) -> None:
        """The rule of a user rested on them alone."""
        for user in ("ann", "ben"):
            said = turn(user_id=user, request_id=f"of {user}")
            store.add_turns([said])
            rule = UserPlaybook(user_id=user, agent_version="v1", content=RULE)
            store.apply(user, [Change("add", "user_playbook", rule, evidence=(Evidence(request_id=f"of {user}"),))])
        share(store, agreed(store))
        assert store.delete_requests(["of ann"]).agent_playbooks_retired == 1
        assert shared(store) == []

    @pytest.mark.parametrize("change", ["reword", "delete", "opt out"])
    def test_who_changed_their_mind_before_it_is_noted_does_not_count(self, store: Store, change: str) -> None:
        """Between the reading of the voices and the noting of what they agree on."""
        [first, _] = say(store, "ann", "ben")
        found = agreed(store)
        if change == "reword":
            store.update_learning("user_playbook", first, {"content": "Refund at once."}, user_id="ann")
        elif change == "delete":
            store.delete_user("ann")
        else:
            store.opt_out("ann")
        assert share(store, found) == Sharing()
        assert shared(store, statuses=EVERY) == []

    def test_what_is_not_named_any_more_is_retired(self, store: Store) -> None:
        """A look at all rules that finds no agreement where there was some."""
        say(store, "ann", "ben")
        share(store, agreed(store))
        assert share(store).retired == 1
        assert shared(store) == []

    def test_what_was_added_by_hand_needs_nobody(self, store: Store) -> None:
        """Support is counted beside it."""
        store.add_learnings([AgentPlaybook(agent_version="v1", content=RULE)])
        say(store, "ann", "ben")
        [by_hand] = shared(store)
        share(store, agreed(store, key=by_hand.agent_playbook_id))
        assert [item.support for item in shared(store)] == [2]
        store.delete_user("ann")
        store.delete_user("ben")
        assert [(item.content, item.support) for item in shared(store)] == [(RULE, 0)]


class TestVoices:
    def test_only_current_rules_of_somebody_are_voices(self, store: Store) -> None:
        """Not those of nobody, pending ones or archived ones."""
        store.add_learnings([
            UserPlaybook(user_id=user, agent_version="v1", content=RULE, status=status)
            for user, status in (("", None), ("ann", None), ("ben", Status.PENDING), ("cleo", Status.ARCHIVED))
        ])  # fmt: skip
        assert [voice.playbook.user_id for voice in store.voices("v1")] == ["ann"]

    @pytest.mark.parametrize(
        ("skipped", "heard"), [((), True), ((0,), True), ((0, 1), False)], ids=["none", "one of two", "both"]
    )
    def test_a_rule_that_rests_on_skipped_requests_alone_is_no_voice(
        self, store: Store, turn: MakeTurn, skipped: tuple[int, ...], heard: bool
    ) -> None:
        """``skip_aggregation`` of all that it was said in."""
        for number in range(2):
            said = turn(options={"skip_aggregation": True} if number in skipped else {})
            store.add_turns([said])
            rule = UserPlaybook(user_id="ada", agent_version="v1", content=RULE)
            store.apply("ada", [Change("add", "user_playbook", rule, evidence=(Evidence(request_id=said.request_id),))])
        assert [voice.playbook.content for voice in store.voices("v1")] == ([RULE] if heard else [])

    def test_the_newest_are_heard_where_there_are_too_many(self, store: Store) -> None:
        """By when they were made."""
        store.add_learnings([
            UserPlaybook(user_id=f"u{number}", agent_version="v1", content=RULE, created_at=number + 1)
            for number in range(5)
        ])  # fmt: skip
        assert [voice.playbook.user_id for voice in store.voices("v1", most=2)] == ["u4", "u3"]

    def test_another_look_is_asked_for_when_a_second_user_has_rules(self, store: Store) -> None:
        """One user alone agrees with nobody; and it is not put off by more."""
        say(store, "ann")
        assert store.job_states("aggregate") == []
        say(store, "ben")
        [job] = store.job_states("aggregate")
        assert (job.state, job.key, job.user_id) == ("ready", "v1", "")
        say(store, "cleo")
        assert store.job_states("aggregate")[0].due_us == job.due_us


class TestPromotingToAnotherVersion:
    def test_approved_ones_are_copied_once_with_what_they_rest_on(self, store: Store) -> None:
        """And lose their support like the others."""
        say(store, "ann", "ben")
        share(store, agreed(store))
        assert store.promote_shared("v1", "v2") == 0
        approve(store, shared(store)[0])
        assert (store.promote_shared("v1", "v2"), store.promote_shared("v1", "v2")) == (1, 0)
        [copy] = shared(store, "v2")
        assert (copy.content, copy.support, copy.playbook_status) == (RULE, 2, PlaybookStatus.APPROVED)
        assert copy.agent_playbook_id != shared(store)[0].agent_playbook_id
        assert store.delete_user("ann").agent_playbooks_retired == 2
        assert shared(store, "v2") == []
