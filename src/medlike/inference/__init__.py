"""Running a bundle: images in, encodings out."""
