"""``attack``: images made to raise the error of one's own model, and their effect on what is deployed."""
