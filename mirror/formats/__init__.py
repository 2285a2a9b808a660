"""One file per published specification."""
