"""Seeds that once found something: the core keeps every promise in them, weakened it breaks one.

When the core or the simulation changes, a seed becomes another run. If a weakening is not found any
more, look for seeds that do: ``tools/simulate --weakened NAME`` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation import weakened

if TYPE_CHECKING:
    from simulation.weakened import Weakening


@dataclass(frozen=True, slots=True)
class Regression:
    """What breaks `promise`, and in which `seeds` it is seen; one of them has to see it."""

    weaken: Weakening
    promise: str
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.weaken.__name__


ALL = [
    Regression(
        weakened.acknowledges_before_its_sync, "acknowledged is durable", (20029, 20098, 20131)
    ),
    Regression(weakened.counts_itself_before_its_sync, "acknowledged is durable", (20000, 20001)),
    Regression(weakened.forgets_its_vote, "one vote a term", (20000, 20007)),
    Regression(weakened.syncs_no_segment, "acknowledged is durable", (20000, 20001)),
    Regression(
        weakened.believes_the_kernel_at_its_start, "acknowledged is durable", (20027, 20030, 20091)
    ),
    Regression(weakened.says_not_what_a_snapshot_ended, "no tick fails", (3880133890,)),
    Regression(weakened.leaves_a_segment_without_its_preamble, "one vote a term", (2665009550,)),
    Regression(weakened.syncs_no_snapshot_names, "no tick fails", (20076, 20074, 20153)),
    Regression(weakened.leads_before_its_own_vote_is_durable, "one leader a term", (683504668,)),
    Regression(weakened.votes_for_anybody, "leader completeness", (20023, 20053, 20060)),
    Regression(weakened.votes_twice, "one vote a term", (20000, 20005)),
    Regression(weakened.begins_with_a_majority, "one leader a term", (20129, 1088)),
    Regression(weakened.knows_nobody_by_its_data, "leader completeness", (20086, 20133)),
    Regression(weakened.records_no_data_directories_of_two, "converges", (20009, 20017, 20024)),
    Regression(weakened.campaigns_only_in_force, "converges", (1026, 1294)),
    Regression(weakened.takes_what_does_not_fit, "log matching", (20051, 20067, 20101)),
    Regression(weakened.truncates_what_matches, "acknowledged is durable", (20116, 20103, 20025)),
    Regression(weakened.acknowledges_all_that_it_has, "acknowledged is durable", (20035,)),
    Regression(weakened.commits_with_one_too_few, "acknowledged is durable", (20000, 20001)),
    Regression(weakened.commits_older_terms_by_counting, "own term commits", (20000, 20042, 20070)),
    Regression(weakened.counts_learners, "acknowledged is durable", (20023, 20052, 20057)),
    Regression(weakened.changes_members_while_changing, "one change at a time", (20021, 20016)),
    Regression(
        weakened.changes_members_at_once_when_elected, "one change at a time", (20021, 20014)
    ),
    Regression(weakened.links_only_to_those_in_force, "converges", (1287, 20023)),
    Regression(weakened.introduces_nobody, "converges", (1270, 1381)),
    Regression(weakened.knows_members_by_its_log_alone, "converges", (4058985208, 3183155427)),
    Regression(weakened.looks_where_its_log_says, "converges", (1879952566, 4209712357)),
    Regression(weakened.reads_without_a_round, "linearizable", (20007, 1279)),
    Regression(weakened.reads_by_its_clock, "linearizable", (1279, 1269)),
    Regression(weakened.reads_before_its_term_is_committed, "linearizable", (20000, 20011)),
    Regression(
        weakened.says_too_soon_that_it_has_handed_over,
        "a transfer says who leads",
        (20007, 20011, 20016),
    ),
]
