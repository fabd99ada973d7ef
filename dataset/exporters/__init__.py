"""Data sets of ours in the forms that other tools load; each export reads itself back as its loader would."""
