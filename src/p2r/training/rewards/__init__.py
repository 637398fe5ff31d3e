"""Rewards: the terms that come with p2r, functions of your own, and how they become one number for a rollout.

A function of your own rates one reply. The recipe names it beside its weight, as in `reward.terms = { correct = 1.0,
"my_rewards.py:short" = 0.5 }`, and it gets those fields of `Rated` that its parameters name:

    def short(reply, num_tokens):
        return 1.0 if num_tokens < 200 else 0.0

It returns a number, or None where it cannot tell. A reply that a function cannot rate, because it returns None or NaN
or raises, is masked and counted with the cause; it never counts as 0. A function may be `async`; any other runs in a
thread. With `batched`, it rates all replies of a lot at once: each parameter is a list, and so is what it returns.

In a perceiver phase the frozen reasoner is only asked for answers if the reward depends on them: by the term `correct`,
or by a function that wants to see `answer` or `trace`.
"""

from p2r.training.rewards.rated import Rated, batched

__all__ = ["Rated", "batched"]
