"""Models of several families trained, evaluated and timed under one protocol, and the report on them."""
