"""A plugin that cannot be imported."""

raise RuntimeError("this plugin wants\na library of 1997")
