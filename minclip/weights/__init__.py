"""Other people's models: found, read, renamed, written."""
