"""How much a detector loses when its images get worse: six degradations of MR images, four levels each."""
