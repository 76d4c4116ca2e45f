"""Views of the pools: what this process reports, and what all live processes report."""
