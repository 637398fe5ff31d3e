"""PRA-GRPO: the perceiver and the reasoner learn in turns, from right and wrong answers alone. Needs torch."""
