"""Grades of findings after detection: Meyerding's of a slip and Pfirrmann's of a disc, from the box's pixels."""
