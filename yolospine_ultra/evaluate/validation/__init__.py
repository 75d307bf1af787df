"""Agreement of a model, or of readers, with labels: classes, boxes, images, operating points."""
