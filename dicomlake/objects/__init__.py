"""Objects that refer to images: segmentations, structure sets, doses, reports, presentation states."""
