"""What was run once to make parts of the package; not in the wheel."""
