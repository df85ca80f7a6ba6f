"""From run directories to tables, figures and one page."""
