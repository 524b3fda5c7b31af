"""The transfer study: does the best learning rate stay when a model grows? `make transfer` runs it, results are kept here."""
