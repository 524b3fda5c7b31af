"""muP: rules as data, multipliers in the model, initial values, optimizer groups, audit, coordinate check."""
