"""When and how fast downloads may go on: bandwidth, deadlines, updates that wait."""
