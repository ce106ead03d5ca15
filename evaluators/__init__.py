"""What a design is worth: design -> scores."""
