"""One file a method: what it does, its formula and its paper stand in the file's own words."""
