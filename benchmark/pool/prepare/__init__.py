"""How public data sets become pools: a file a data set, and what they share. ``command`` starts them."""
