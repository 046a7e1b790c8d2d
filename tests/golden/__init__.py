"""Reference cases: loading them, claiming them, comparing against them."""
