"""The words by which a reply chooses, denies, supposes and corrects: the tables of the reader of choices.

`beside` tells letters of options from other letters, `moods` what kind of clause it is, `statements` how an
option is called the answer, `turns` which of two answers counts, `verdicts` what is said of each option in turn.

The patterns of `moods`, `statements` and `turns` match clauses as `answers.clauses` writes them: in lower case, with
single blanks, without markup; each mention of an option is one capital ("the answer is B"), and a list of options has
strokes ("A/B"). So `[A-Z]` is an option, and whatever is not an option is in lower case. A language is added by adding
its words to these tables.
"""
