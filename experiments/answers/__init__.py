"""Answer files of any evaluation program, read as one scored item per line of a task, and paired item by item."""
