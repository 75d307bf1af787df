"""Studies of predictions and ground truth, all on one object model: `findings.ImageFindings`."""
