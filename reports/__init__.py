"""What a saved `Run` looks like to a reader: one module per output, over one shared `content`.

`content` puts a run into `parts`, plain text that each renderer only lays out: `markdown` all of it,
`console` the essentials. Both are pure functions of the run document. Of the parts, `facts`, `tables`
(with their `columns`) and `sections` make one kind each; `numbers` writes a value with its unit and
interval, `names` what a row is called, and `sentence` draws the conclusion. `catalogue` and `plan` show
what can be run and what would be, `environment` and `calibration` the machine; `terminal` prints for
all that goes to one.
"""
