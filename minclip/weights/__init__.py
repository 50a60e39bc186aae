"""Finds, reads, converts and writes models, minclip's own and those of other libraries."""
