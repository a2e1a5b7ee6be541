"""Files that ``fedumm new`` starts a plugin and its test from: what each method is for stands in them as comments."""
