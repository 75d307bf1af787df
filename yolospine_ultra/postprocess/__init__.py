"""From the head's output to detections."""
