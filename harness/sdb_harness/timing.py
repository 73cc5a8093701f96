"""The clock of a generation: from submission to the last commit, each member's own.

Place in the flow: generators start a `CommitClock` when they submit, call `commit` whenever tokens
become final, and copy its fields into the `Completion`. The primary speed, `tok_s_user`, is output
tokens over that whole time. Serving formulas that leave out the time to the first token flatter
block diffusion, whose first tokens arrive as a whole block, so they are not used.

What it does not do: it does not synchronise a device (the generator must, before `commit`), it
does not count warm-up (`Generator.warm_up` runs before any clock starts), and it does not
summarise: medians and percentiles are the leaderboard's part.
"""

import time

from sdb_harness.records import Completion


class CommitClock:
    """Times of one generation. Starts when it is made; seconds are relative to that."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self.commit_times_s: list[float] = []
        self.commit_tokens: list[int] = []

    def commit(self, num_tokens: int) -> None:
        """Note that `num_tokens` output tokens became final just now."""
        self.commit_times_s.append(time.perf_counter() - self._started_s)
        self.commit_tokens.append(num_tokens)

    def read_e2e_s(self) -> float:
        """Seconds from submission to the last commit; to now if nothing was committed."""
        if self.commit_times_s:
            return self.commit_times_s[-1]
        return time.perf_counter() - self._started_s


def check_times(completion: Completion) -> None:
    """Refuse counters that contradict each other, before they become a published speed.

    Generators that cannot see commits (a replayed file) leave both lists empty; those that see
    when text arrives but not how many tokens it holds (some servers) leave the sizes empty.

    Raises:
        ValueError: commits that do not sum to the output, go back in time or end after `e2e_s`.
    """
    times, counts = completion.commit_times_s, completion.commit_tokens
    if counts and len(times) != len(counts):
        raise ValueError(
            f"{len(times)} commit times for {len(counts)} commit sizes; log one size for each "
            "time, or none"
        )
    if counts and sum(counts) != completion.output_tokens:
        raise ValueError(
            f"commits carry {sum(counts)} tokens, output_tokens={completion.output_tokens}; "
            "count output tokens only, without the end token and what follows it"
        )
    if times and (list(times) != sorted(times) or times[-1] > completion.e2e_s + 1e-6):
        raise ValueError(
            f"commit times {times} must rise and end by e2e_s={completion.e2e_s}; use one clock"
        )
