"""What a saved `Run` looks like to a reader: one module per output, over one shared `content`.

`numbers` writes a value with its unit and interval, `sentence` draws the conclusion, `content` puts
a run into tables and lines of plain text, and each renderer only lays those out: `markdown` all of
it, `console` the essentials. Both are pure functions of the run document. `catalogue` and `plan` show
what can be run and what would be; `terminal` prints for all that goes to one.
"""
