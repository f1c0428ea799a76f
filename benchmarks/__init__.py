"""Measurements of spladerunner and its peers; README.md shows the tables. The product never imports them."""
