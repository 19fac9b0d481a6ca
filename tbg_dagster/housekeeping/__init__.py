"""What is made ahead and what is thrown away."""
