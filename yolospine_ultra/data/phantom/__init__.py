"""A lumbar MRI phantom: patients that are made up, drawn, labelled by what was drawn, and imaged."""
