"""Methods compared on a set of images: measured, summarised, plotted and reported."""
