"""What the notebooks need: set-up, plots, widgets and checks.  The library imports nothing from here."""
