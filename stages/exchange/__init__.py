"""What comes in and goes out: models of any kind as classifiers, and classifiers for other programs."""
