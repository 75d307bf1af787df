"""Tables, plots and the HTML report of a sweep, from its files alone."""
