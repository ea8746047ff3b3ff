"""Where repositories live: one module a forge, and the keys of their CI's identity tokens."""
