"""What is asked: one feature's inputs, and the readings as numbers, for every solver alike."""
