"""What each verb of the command line takes, does and prints; `cli.py` calls them."""
