"""One module a figure: `points` computes a frame, `draw` turns it into a plotly figure."""
