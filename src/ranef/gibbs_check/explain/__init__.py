"""What is wrong with an update, in the model's own terms."""
