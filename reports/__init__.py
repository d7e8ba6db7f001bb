"""What a saved `Run` looks like to a reader: one module per output, over one shared `content`.

`numbers` writes a value with its unit and interval, `sentence` draws the conclusion, `content` puts
a run into tables and lines of plain text, and each renderer only lays those out. Everything here is
a pure function of the run document.
"""
