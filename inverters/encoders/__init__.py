"""What is inverted: the layers of a network, its weights, and a frozen encoder that returns features."""
