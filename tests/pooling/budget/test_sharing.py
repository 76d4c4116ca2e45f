from __future__ import annotations

from typing import Any

import pytest

from django_pooled_pg.pooling.budget.records import FRESH, Record
from django_pooled_pg.pooling.budget.sharing import TENURE, Gift, gift_of, limit_of, may_take

NOW = 1000.0


def members(*each: dict[str, Any], limit: int = 8) -> list[Record]:
    usual = {"limit": limit, "min_size": 1, "seen": NOW, "since": NOW - 0.5}
    return [Record(index=index, **{**usual, **given}) for index, given in enumerate(each)]


def gift(number: int, *each: dict[str, Any], **options: Any) -> Gift:
    records = members(*each, **options)
    return gift_of(records[number], records, NOW)


def may(number: int, *each: dict[str, Any], **options: Any) -> bool:
    records = members(*each, **options)
    return may_take(records[number], records, NOW)


def test_the_smallest_budget_counts() -> None:
    assert limit_of(members({"limit": 9}, {"limit": 4})) == 4


def test_nobody_gives_while_slots_are_free() -> None:
    assert gift(0, {"held": 5}, {"held": 1, "wanted": 2}) == Gift()


def test_idle_ones_are_given_as_they_are_wanted_and_not_more() -> None:
    assert gift(0, {"held": 6}, {"held": 1, "wanted": 3}).idle == 2
    assert gift(0, {"held": 7}, {"held": 1, "wanted": 3}).idle == 3


def test_whoever_stopped_to_write_wants_nothing() -> None:
    assert gift(0, {"held": 7}, {"held": 1, "wanted": 3, "seen": NOW - FRESH}) == Gift()


def test_who_has_more_than_a_fair_share_gives_what_is_returned() -> None:
    given = gift(0, {"held": 7, "busy": 7}, {"held": 1, "busy": 1, "wanted": 9})
    assert (given.returned, given.urgent) == (3, False)


def test_not_while_what_is_idle_elsewhere_may_be_on_its_way() -> None:
    claim = {"held": 1, "busy": 1, "wanted": 9, "since": NOW - 0.01}
    assert gift(0, {"held": 7, "busy": 7}, claim).returned == 0


def test_at_fair_shares_nothing_moves_but_what_is_unused() -> None:
    given = gift(0, {"held": 4, "busy": 4, "wanted": 5}, {"held": 4, "busy": 4, "wanted": 5})
    assert (given.returned, given.spares) == (0, True)


def test_what_others_have_promised_is_not_promised_again() -> None:
    busy = {"held": 4, "busy": 4}
    third = {"held": 0, "wanted": 2}
    assert gift(0, busy, busy, third).returned == 2
    assert gift(0, busy, {**busy, "promised": 2}, third).returned == 0


def test_after_a_second_others_give_in_place_of_who_promised_and_did_not() -> None:
    stuck = {"held": 4, "busy": 4, "promised": 1}
    assert gift(1, stuck, {"held": 4, "busy": 4}, {"wanted": 1}).returned == 0
    assert gift(1, stuck, {"held": 4, "busy": 4}, {"wanted": 1, "since": NOW - 1}).returned == 1


def test_who_got_one_just_now_keeps_it_unless_another_has_none() -> None:
    young = {"held": 7, "busy": 7, "got_at": NOW - TENURE / 2}
    assert gift(0, young, {"held": 1, "busy": 1, "wanted": 3}).returned == 0
    given = gift(0, young, {"held": 0, "wanted": 3}, {"held": 1})
    assert (given.returned, given.urgent) == (1, True)


def test_more_members_than_slots_have_them_in_turn() -> None:
    old = {"held": 1, "busy": 1, "got_at": NOW - 5}
    older = {"held": 1, "busy": 1, "got_at": NOW - 6}
    none = {"held": 0, "wanted": 1}
    assert not gift(0, old, older, none, limit=2).turn
    given = gift(1, old, older, none, limit=2)
    assert (given.turn, given.idle, given.returned, given.urgent) == (True, 1, 1, True)


def test_after_a_second_it_is_the_next_ones_turn() -> None:
    old = {"held": 1, "busy": 1, "got_at": NOW - 5}
    stuck = {"held": 1, "busy": 1, "got_at": NOW - 6, "promised": 1}
    assert not gift(0, old, stuck, {"wanted": 1}, limit=2).turn
    assert gift(0, old, stuck, {"wanted": 1, "since": NOW - 1}, limit=2).turn


def test_after_a_second_others_give_though_one_has_more_than_its_share() -> None:
    stuck = {"held": 3, "busy": 3, "promised": 2}
    assert not gift(1, stuck, {"held": 1, "busy": 1}, {"wanted": 1}, limit=4).turn
    assert gift(1, stuck, {"held": 1, "busy": 1}, {"wanted": 1, "since": NOW - 1}, limit=4).turn


def test_who_stopped_to_write_is_not_waited_for() -> None:
    stopped = {"held": 1, "seen": NOW - FRESH}
    assert gift(1, stopped, {"held": 1, "busy": 1}, {"wanted": 1}, limit=2).turn


def test_nobodys_turn_ends_before_its_time() -> None:
    young = {"held": 1, "busy": 1, "got_at": NOW - TENURE / 2}
    assert gift(0, young, {"held": 0, "wanted": 1}, limit=1).returned == 0


def test_an_idle_member_keeps_its_least_only_while_all_have_some() -> None:
    idle, busy, none = {"held": 1}, {"held": 1, "busy": 1}, {"held": 0, "wanted": 1}
    assert gift(0, idle, busy, none, limit=2).turn
    assert not gift(1, idle, busy, none, limit=2).turn


def test_a_budget_that_was_made_smaller_is_met_by_giving() -> None:
    given = gift(0, {"held": 6, "busy": 2}, {"held": 2, "busy": 2}, limit=4)
    assert (given.idle, given.returned) == (4, 4)


@pytest.mark.parametrize(
    ("me", "other", "taken"),
    [
        ({"held": 3}, {"held": 4}, True),
        # The only one that is free is for who has none.
        ({"held": 3, "wanted": 2}, {"held": 4}, True),
        ({"held": 7, "wanted": 2}, {"held": 0, "wanted": 1}, False),
        ({"held": 5, "wanted": 2}, {"held": 2, "wanted": 1}, False),
        ({"held": 2, "wanted": 2}, {"held": 5, "wanted": 1}, True),
        # Who comes first of two that have none.
        ({"held": 0, "wanted": 1, "since": NOW - 9}, {"held": 0, "wanted": 1}, True),
        ({"held": 0, "wanted": 1, "since": NOW - 1}, {"held": 0, "wanted": 1}, True),
        # Somebody who only fills up waits for all others.
        ({"held": 4}, {"held": 2, "wanted": 2}, False),
        ({"held": 4}, {"held": 2, "wanted": 1}, True),
    ],
)
def test_a_free_slot_is_for_who_needs_it_most(
    me: dict[str, Any], other: dict[str, Any], taken: bool
) -> None:
    assert may(0, me, other) is taken


def test_one_free_slot_is_for_who_has_waited_longest() -> None:
    none = {"held": 0, "wanted": 1}
    first, second = {**none, "since": NOW - 3}, {**none, "since": NOW - 2}
    assert may(0, first, second, {"held": 7})
    assert not may(1, first, second, {"held": 7})


def test_whoever_gave_one_up_waits_for_those_who_had_none() -> None:
    gave = {"held": 0, "wanted": 1, "since": NOW - 9, "got_at": NOW - 1.1}
    none = {"held": 0, "wanted": 1, "since": NOW - 3}
    assert not may(0, gave, none, {"held": 7})
    assert may(1, gave, none, {"held": 7})
