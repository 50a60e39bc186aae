"""Code of the notebooks: set-up, plots, widgets and checks.  The library imports nothing from here."""
