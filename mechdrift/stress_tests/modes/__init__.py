"""The modes that mechdrift ships, one a file; `registry` lists them."""
