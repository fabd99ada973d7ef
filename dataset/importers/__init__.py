"""Data sets of others, read into ours; nothing in a foreign file or archive is trusted."""
