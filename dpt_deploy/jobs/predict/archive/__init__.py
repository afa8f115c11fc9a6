"""Archives: folders of any depth and number of images, with a row for each image in a manifest."""
